"""Release manager: what must hold before traffic shifts, and what is written when it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shopintent.artifacts import Manifest, ReleasesRoot
from shopintent.artifacts.routing import Routing, RoutingError, Share, read_audit, read_routing
from shopintent.server.errors import ReleaseInUse, ReleaseNotFound, ReleaseNotReady
from shopintent.server.releases.manager import Reason, ReleaseManager
from support.server import write_small_release

BECAUSE = Reason("ann", "better offline")


@dataclass
class Shop:
    """Releases r1 (serving), r2 and r3, and what the checks are to say of them."""

    root: ReleasesRoot
    unready: dict[str, str] = field(default_factory=dict)
    worse: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)

    @property
    def manager(self) -> ReleaseManager:
        return ReleaseManager(self.root, self.prove, self.objection, self.remove)

    @property
    def routing(self) -> Routing:
        routing = read_routing(self.root.path)
        assert routing is not None
        return routing

    async def prove(self, release_id: str) -> None:
        if release_id in self.unready:
            raise ReleaseNotReady(release_id, self.unready[release_id])

    def objection(self, candidate: Manifest, serving: Manifest) -> str | None:
        return "its ndcg fell" if candidate.release_id in self.worse else None

    async def remove(self, release_id: str) -> None:
        self.removed.append(release_id)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    root = ReleasesRoot(tmp_path)
    for release_id in ("r3", "r2", "r1"):
        write_small_release(root, release_id)
    (tmp_path / "routing.json").unlink()
    (tmp_path / "audit.jsonl").unlink()
    root.set_current("r1")
    return Shop(root)


async def test_a_promoted_release_serves_and_the_one_before_can_be_rolled_back_to(
    shop: Shop,
) -> None:
    await shop.manager.promote("r2", BECAUSE)
    assert (shop.routing.serving, shop.routing.previous) == ("r2", "r1")
    shop.manager.rollback(BECAUSE)
    assert (shop.routing.serving, shop.routing.previous) == ("r1", None)


async def test_a_second_rollback_does_not_go_forth_to_what_was_rolled_back(shop: Shop) -> None:
    await shop.manager.promote("r2", BECAUSE)
    shop.manager.rollback(BECAUSE)
    with pytest.raises(ReleaseNotReady, match="no release to roll back to"):
        shop.manager.rollback(BECAUSE)
    assert shop.routing.serving == "r1"


async def test_a_promoted_canary_is_no_canary_any_more(shop: Shop) -> None:
    await shop.manager.canary("r2", 5.0, BECAUSE)
    assert shop.routing.canary == Share("r2", 5.0)
    await shop.manager.promote("r2", BECAUSE)
    assert shop.routing.serving == "r2"
    assert shop.routing.canary is None


async def test_a_rollback_ends_a_canary_first(shop: Shop) -> None:
    await shop.manager.promote("r2", BECAUSE)
    await shop.manager.canary("r3", 5.0, BECAUSE)
    shop.manager.rollback(BECAUSE)
    assert (shop.routing.serving, shop.routing.canary) == ("r2", None)
    shop.manager.rollback(BECAUSE)
    assert shop.routing.serving == "r1"


async def test_a_named_release_is_rolled_back_from_whatever_part_it_plays(shop: Shop) -> None:
    await shop.manager.promote("r2", BECAUSE)
    await shop.manager.shadow("r1", 50.0, BECAUSE)
    await shop.manager.canary("r3", 5.0, BECAUSE)
    shop.manager.rollback(BECAUSE, "r1")
    assert (shop.routing.canary, shop.routing.shadow) == (Share("r3", 5.0), None)
    shop.manager.rollback(BECAUSE, "r3")
    assert (shop.routing.serving, shop.routing.canary) == ("r2", None)
    shop.manager.rollback(BECAUSE, "r2")
    assert (shop.routing.serving, shop.routing.previous) == ("r1", None)


async def test_rolling_a_named_release_back_again_changes_nothing(shop: Shop) -> None:
    await shop.manager.promote("r2", BECAUSE)
    once = shop.manager.rollback(BECAUSE, "r2")
    assert shop.manager.rollback(BECAUSE, "r2") == once == shop.routing
    assert [each["action"] for each in read_audit(shop.root.path)].count("rollback") == 1


def test_a_release_that_does_not_exist_is_not_rolled_back(shop: Shop) -> None:
    with pytest.raises(ReleaseNotFound):
        shop.manager.rollback(BECAUSE, "r9")


def test_without_a_release_before_there_is_nothing_to_roll_back_to(shop: Shop) -> None:
    with pytest.raises(ReleaseNotReady, match="no release to roll back to"):
        shop.manager.rollback(BECAUSE)


@pytest.mark.parametrize("action", ["shadow", "canary", "promote"])
async def test_a_release_that_is_not_ready_takes_no_part(shop: Shop, action: str) -> None:
    shop.unready["r2"] = "a golden request is answered otherwise"
    before = shop.routing
    share = () if action == "promote" else (5.0,)
    with pytest.raises(ReleaseNotReady, match="golden request"):
        await getattr(shop.manager, action)("r2", *share, BECAUSE)
    assert shop.routing == before


async def test_worse_metrics_keep_a_release_from_shoppers_unless_forced_and_audited(
    shop: Shop,
) -> None:
    shop.worse.add("r2")
    with pytest.raises(ReleaseNotReady, match="ndcg"):
        await shop.manager.promote("r2", BECAUSE)
    with pytest.raises(ReleaseNotReady, match="ndcg"):
        await shop.manager.canary("r2", 5.0, BECAUSE)
    await shop.manager.shadow("r2", 5.0, BECAUSE)
    await shop.manager.promote("r2", Reason("ann", "new season", forced=True))
    last = read_audit(shop.root.path)[-1]
    assert (last["action"], last["release_id"], last["forced"]) == ("promote", "r2", True)
    assert (last["who"], last["why"]) == ("ann", "new season")


async def test_force_does_not_make_a_release_ready(shop: Shop) -> None:
    shop.unready["r2"] = "a flipped byte"
    with pytest.raises(ReleaseNotReady, match="flipped byte"):
        await shop.manager.promote("r2", Reason("ann", "now", forced=True))


async def test_a_release_that_plays_a_part_cannot_be_deleted(shop: Shop) -> None:
    await shop.manager.promote("r2", BECAUSE)
    await shop.manager.canary("r3", 5.0, BECAUSE)
    for release_id, role in (("r1", "previous"), ("r2", "serving"), ("r3", "canary")):
        with pytest.raises(ReleaseInUse, match=role):
            await shop.manager.delete(release_id, BECAUSE)
    assert shop.removed == []


async def test_a_deleted_release_leaves_nothing_and_is_not_found_again(shop: Shop) -> None:
    for folder in shop.root.models("r3"):
        folder.mkdir(parents=True, exist_ok=True)
    await shop.manager.delete("r3", BECAUSE)
    assert shop.removed == ["r3"]
    last = read_audit(shop.root.path)[-1]
    assert (last["action"], last["release_id"], last["who"]) == ("delete", "r3", "ann")
    assert not [path for path in shop.root.path.rglob("*") if "r3" in path.name]
    with pytest.raises(ReleaseNotFound, match="there are: r1, r2"):
        await shop.manager.delete("r3", BECAUSE)
    with pytest.raises(ReleaseNotFound):
        await shop.manager.promote("r3", BECAUSE)


async def test_a_deletion_that_was_cut_short_can_be_repeated(shop: Shop) -> None:
    shop.root.forget("r3")
    assert "r3" not in shop.root.release_ids()
    await shop.manager.delete("r3", BECAUSE)
    assert not shop.root.release("r3").path.exists()


async def test_a_failing_canary_is_ended_once_however_many_see_it(shop: Shop) -> None:
    routing = await shop.manager.canary("r2", 5.0, BECAUSE)
    why = Reason("guardrails@host", "half of its requests failed")
    ended = [shop.manager.end_canary(routing.generation, why) for _ in range(3)]
    assert ended == [True, False, False]
    assert shop.routing.canary is None
    last = read_audit(shop.root.path)[-1]
    assert (last["action"], last["release_id"]) == ("rollback", "r2")
    assert last["why"] == "half of its requests failed"


async def test_a_newer_canary_is_not_ended_for_what_an_older_one_did(shop: Shop) -> None:
    old = await shop.manager.canary("r2", 5.0, BECAUSE)
    await shop.manager.canary("r3", 5.0, BECAUSE)
    assert not shop.manager.end_canary(old.generation, BECAUSE)
    assert shop.routing.canary == Share("r3", 5.0)


async def test_a_share_that_makes_no_sense_changes_nothing(shop: Shop) -> None:
    with pytest.raises(RoutingError, match="percent"):
        await shop.manager.canary("r2", 0.0, BECAUSE)


async def test_every_release_is_listed_with_the_part_it_plays(shop: Shop) -> None:
    await shop.manager.promote("r2", BECAUSE)
    await shop.manager.shadow("r3", 50.0, BECAUSE)
    listed = {each.manifest.release_id: each.roles for each in shop.manager.list()}
    assert listed == {"r1": ("previous",), "r2": ("serving",), "r3": ("shadow",)}
