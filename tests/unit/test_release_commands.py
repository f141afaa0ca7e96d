"""`shopintent-server releases`: what each command changes, prints and exits with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from shopintent.artifacts import Manifest, ReleasesRoot
from shopintent.artifacts.metrics import Gate, MetricRow
from shopintent.artifacts.routing import Routing, read_audit, read_routing, routing_path, whoami
from shopintent.server.__main__ import main
from shopintent.server.config import Config
from shopintent.server.errors import ReleaseNotReady
from shopintent.server.releases.manager import ReleaseManager
from support.releases import released
from support.server import write_small_release

pytestmark = pytest.mark.releases

WHY = ["--why", "to see"]
NDCG = MetricRow(
    model="shopintent", metric="ndcg", k=10, split="time", value=0.5, ci=(0.4, 0.6),
    gate=Gate(at_least=0.7),
)  # fmt: skip
ECE = MetricRow(
    model="shopintent", metric="ece", horizon="24h", split="time", value=0.01, ci=(0.0, 0.02),
    gate=Gate(at_most=0.02),
)  # fmt: skip


@dataclass
class Shop:
    """Releases r1 (serving), r2 and r3, and what is wrong with them."""

    root: ReleasesRoot
    capsys: pytest.CaptureFixture[str]
    unready: dict[str, str] = field(default_factory=dict)
    worse: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    out: str = ""
    err: str = ""

    async def prove(self, release_id: str) -> None:
        if release_id in self.unready:
            raise ReleaseNotReady(release_id, self.unready[release_id])

    def objection(self, candidate: Manifest, serving: Manifest) -> str | None:
        return "its ndcg fell" if candidate.release_id in self.worse else None

    async def remove(self, release_id: str) -> None:
        self.removed.append(release_id)

    def run(self, *arguments: str) -> int:
        """Runs a command and returns its exit code; what it printed is in `out` and `err`."""
        try:
            code = main(["releases", *arguments, "--releases", str(self.root.path)])
        except SystemExit as ended:
            code = int(str(ended.code))
        self.out, self.err = self.capsys.readouterr()
        return code

    def json(self, *arguments: str) -> Any:
        assert self.run(*arguments, "--json") == 0, self.err
        return json.loads(self.out)

    @property
    def routing(self) -> Routing:
        routing = read_routing(self.root.path)
        assert routing is not None
        return routing

    def edit(self, release_id: str, **changes: Any) -> None:
        path = self.root.release(release_id).manifest
        replace(Manifest.load(path), **changes).save(path)


@pytest.fixture
def shop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shop:
    shop = Shop(released(tmp_path, "r1", "r2", "r3"), capsys)

    @asynccontextmanager
    async def managing(config: Config) -> AsyncIterator[ReleaseManager]:
        yield ReleaseManager(ReleasesRoot(config.releases), shop.prove, shop.objection, shop.remove)

    monkeypatch.setattr("shopintent.server.release_commands.managing_releases", managing)
    return shop


def test_the_usual_rollout_goes_through_and_can_be_taken_back(shop: Shop) -> None:
    assert shop.run("verify", "r2") == 0
    assert "r2 is ready to take traffic" in shop.out
    assert shop.run("shadow", "r2", *WHY) == 0
    assert "10 % (r2) are asked of the shadow too" in shop.out
    assert shop.run("canary", "r2", *WHY) == 0
    assert "5 % (r2) of the visitors are answered by the canary" in shop.out
    assert shop.run("canary", "r2", "--percent", "25", *WHY) == 0
    assert shop.routing.canary is not None
    assert shop.routing.canary.percent == 25
    assert shop.run("promote", "r2", *WHY) == 0
    assert "r2 serves" in shop.out
    assert "r1 is kept ready" in shop.out
    assert shop.run("rollback", *WHY) == 0
    assert "r1 serves" in shop.out
    assert shop.routing.serving == "r1"


def test_rollback_without_a_release_ends_the_canary_first(shop: Shop) -> None:
    shop.run("canary", "r2", *WHY)
    assert shop.run("rollback", *WHY) == 0
    assert (shop.routing.serving, shop.routing.canary) == ("r1", None)
    assert shop.run("rollback", *WHY) == 1
    assert "no release to roll back to" in shop.err


def test_rollback_of_a_release_leaves_the_others(shop: Shop) -> None:
    shop.run("shadow", "r3", *WHY)
    shop.run("canary", "r2", *WHY)
    assert shop.run("rollback", "r3", *WHY) == 0
    assert shop.routing.shadow is None
    assert shop.routing.canary is not None
    assert shop.run("rollback", "r3", *WHY) == 0
    assert "nothing changed" in shop.err
    assert shop.run("rollback", "r9", *WHY) == 1


@pytest.mark.parametrize("verb", ["verify", "shadow", "canary", "promote"])
def test_a_release_that_is_not_ready_is_refused_with_the_reason(shop: Shop, verb: str) -> None:
    shop.unready["r2"] = "golden request 3 is answered otherwise"
    before = shop.routing
    assert shop.run(verb, "r2", *([] if verb == "verify" else WHY)) == 1
    assert "golden request 3" in shop.err
    assert shop.out == ""
    assert shop.routing == before


def test_worse_metrics_need_force_which_is_audited(shop: Shop) -> None:
    shop.worse.add("r2")
    for verb in ("canary", "promote"):
        assert shop.run(verb, "r2", *WHY) == 1
        assert "its ndcg fell; force it" in shop.err
        assert shop.run(verb, "r2", *WHY, "--force") == 0
        assert read_audit(shop.root.path)[-1]["forced"]


def test_what_is_in_use_is_not_deleted_and_the_rest_is(shop: Shop) -> None:
    assert shop.run("delete", "r1", *WHY) == 1
    assert "serving" in shop.err
    assert shop.run("delete", "r2", *WHY) == 0
    assert shop.removed == ["r2"]
    assert shop.root.release_ids() == ["r1", "r3"]


def test_every_change_is_audited_with_who_what_and_why(shop: Shop) -> None:
    shop.run("shadow", "r2", "--why", "first")
    shop.run("delete", "r3", "--why", "second")
    assert shop.run("audit") == 0
    lines = shop.out.splitlines()
    assert lines[0].split() == ["GENERATION", "WHEN", "WHAT", "RELEASE", "WHO", "WHY"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    assert "shadow" in lines[2]
    assert lines[2].endswith("first")
    assert whoami() in lines[3]
    entries = shop.json("audit", "--last", "1")
    assert [(each["action"], each["why"]) for each in entries] == [("delete", "second")]


def test_the_list_says_which_part_each_release_plays(shop: Shop) -> None:
    shop.edit("r2", created_at="2026-02-01T00:00:00Z", parent="r1", metrics=(NDCG, ECE))
    shop.run("promote", "r2", *WHY)
    shop.run("canary", "r3", *WHY)
    assert shop.run("list") == 0
    rows = {line.split()[0]: line for line in shop.out.splitlines() if line.startswith("r")}
    assert next(iter(rows)) == "r2"
    assert "2026-02-01 00:00:00 UTC" in rows["r2"]
    assert "1 of 2" in rows["r2"]
    for release_id, part in (("r1", "previous"), ("r2", "serving"), ("r3", "canary")):
        assert part in rows[release_id]
    assert "to see" in shop.out
    listed = shop.json("list")
    assert listed["routing"]["serving"] == "r2"
    assert listed["routing"]["canary"] == {"release_id": "r3", "percent": 5.0}
    parts = {each["release_id"]: each["roles"] for each in listed["releases"]}
    assert parts == {"r2": ["serving"], "r1": ["previous"], "r3": ["canary"]}


def test_a_damaged_release_is_listed_with_what_is_wrong(shop: Shop) -> None:
    shop.root.release("r2").manifest.write_text("{")
    assert shop.run("list") == 0
    assert "r2 cannot be used" in shop.out
    assert list(shop.json("list")["damaged"]) == ["r2"]
    assert shop.run("show", "r2") == 1


def test_releases_that_are_published_elsewhere_are_listed(shop: Shop, tmp_path: Path) -> None:
    there = ReleasesRoot(tmp_path / "there")
    for release_id in ("r1", "r7"):
        write_small_release(there, release_id)
    url = ["--releases-url", f"file://{there.path}"]
    assert shop.run("list", *url) == 0
    assert "not fetched yet: r7" in shop.out
    assert shop.json("list", *url)["elsewhere"] == ["r7"]


def test_show_tells_where_a_release_comes_from_and_what_was_measured(shop: Shop) -> None:
    shop.edit("r2", parent="r1", metrics=(NDCG, ECE), forced="a new season")
    assert shop.run("show", "r2") == 0
    told = {line.split("  ")[0]: line for line in shop.out.splitlines()}
    assert "r1" in told["parent"]
    assert "a new season" in told["forced"]
    assert told["ndcg@10"].split()[-4:] == ["at", "least", "0.7", "FAILED"]
    assert told["ece within 24h"].endswith("passed")
    shown = shop.json("show", "r2")
    assert shown["parent"] == "r1"
    assert [each["name"] for each in shown["metrics"]] == ["ndcg@10", "ece within 24h"]


def test_changes_tell_programs_the_routing(shop: Shop) -> None:
    assert shop.json("shadow", "r2", "--percent", "1", *WHY)["shadow"]["percent"] == 1
    assert shop.json("canary", "r2", *WHY)["canary"]["release_id"] == "r2"
    assert shop.json("promote", "r2", *WHY)["serving"] == "r2"
    assert shop.json("rollback", *WHY)["serving"] == "r1"
    assert shop.json("verify", "r3") == {"release_id": "r3", "ready": True}
    assert shop.json("delete", "r3", *WHY) == {"release_id": "r3", "deleted": True}


def test_what_others_wrote_can_not_move_the_cursor(shop: Shop) -> None:
    shop.run("shadow", "r2", "--why", "fine\x1b[2J\nGENERATION")
    for command in ("list", "audit"):
        assert shop.run(command) == 0
        assert "\x1b" not in shop.out
        assert "fine [2J GENERATION" in shop.out


MISTAKES: dict[str, list[str]] = {
    "no verb": [],
    "no reason": ["promote", "r2"],
    "an empty reason": ["promote", "r2", "--why", "  "],
    "a long reason": ["delete", "r2", "--why", "x" * 501],
    "no share": ["canary", "r2", "--percent", "0", *WHY],
    "too large a share": ["shadow", "r2", "--percent", "100.5", *WHY],
    "a share that is no number": ["canary", "r2", "--percent", "nan", *WHY],
    "no release": ["canary", *WHY],
    "a flag of another command": ["rollback", "--force", *WHY],
    "no count": ["audit", "--last", "-1"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_command_exits_with_2_and_changes_nothing(shop: Shop, name: str) -> None:
    before = shop.routing
    assert shop.run(*MISTAKES[name]) == 2
    assert shop.err
    assert shop.routing == before


def test_a_bad_setting_exits_with_2(shop: Shop) -> None:
    assert shop.run("list", "--index", "faiss") == 2
    assert "SHOPINTENT_INDEX" in shop.err


@pytest.mark.parametrize("verb", ["show", "verify"])
def test_a_release_that_does_not_exist_exits_with_1_and_names_those_that_do(
    shop: Shop, verb: str
) -> None:
    assert shop.run(verb, "r9") == 1
    assert "there are: r1, r2, r3" in shop.err


def test_a_damaged_routing_exits_with_1_and_says_what_to_do(shop: Shop) -> None:
    routing_path(shop.root.path).write_text("{")
    assert shop.run("list") == 1
    assert "releases promote" in shop.err


def test_a_root_that_nothing_was_published_to_is_told(tmp_path: Path, shop: Shop) -> None:
    shop.root = ReleasesRoot(tmp_path / "empty")
    assert shop.run("list") == 0
    assert "no release serves yet" in shop.out


def test_a_root_that_may_not_be_written_exits_with_1(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(shop.root.path / ".routing.lock"))

    monkeypatch.setattr("shopintent.artifacts.routing.fcntl.flock", refuse)
    assert shop.run("promote", "r2", *WHY) == 1
    assert "Permission denied" in shop.err


def test_the_help_teaches_the_usual_rollout(shop: Shop) -> None:
    assert shop.run("--help") == 0
    steps = ["shopintent-trainer publish", "verify r2", "shadow r2", "canary r2 --percent 5",
             "promote r2", "rollback"]  # fmt: skip
    places = [shop.out.index(step) for step in steps]
    assert places == sorted(places)
    assert "SHOPINTENT_TRITON_MODEL_CONTROL_KEY" in shop.out
