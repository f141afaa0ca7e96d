"""Commands, RPCs and the client shift the traffic of a running server with the real Triton."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.processes import clean_environment
from deploy.demo.stack import SERVER, Stack, model_control_key, serving
from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.routing import read_audit, read_routing
from shopintent.client import PermissionDeniedError, ReleaseNotReadyError, ShopIntentClient
from support.releases import clone_release
from support.server import eventually
from support.trained import RELEASE, Trained
from support.triton import skip_unless_supported

pytestmark = pytest.mark.releases

EXAMPLE = Path(__file__).parents[2] / "clients" / "python" / "examples" / "release.py"
TOKEN = "a-token-that-nobody-guesses"
OTHER = "other"
FRESH = "fresh"
WHY = ["--why", "it is tested"]
PATIENCE_S = 60.0


@dataclass(frozen=True, eq=False)
class Shop:
    """A running server of two releases, and the commands of whoever runs it."""

    root: ReleasesRoot
    stack: Stack
    key: str

    def releases(self, *arguments: str) -> Any:
        """Runs a command beside the server, with its settings; returns what it printed as JSON."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **clean_environment(),
            "SHOPINTENT_RELEASES": str(self.root.path),
            "SHOPINTENT_TRITON_ADDRESS": self.stack.triton_address,
            "SHOPINTENT_TRITON_MODEL_CONTROL_KEY": self.key,
        }
        return subprocess.run(
            [str(SERVER), "releases", *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    def client(self, token: str | None = TOKEN) -> ShopIntentClient:
        return ShopIntentClient(self.stack.address, insecure=True, release_token=token)

    def answered_by(self) -> str:
        with self.client() as client:
            answer = client.predict_intent("visitor-1", timeout_s=PATIENCE_S)
        return answer.model.release_id

    async def follows(self, generation: int) -> None:
        async def holds() -> bool:
            with self.client() as client:
                return client.list_releases().routing.followed_generation >= generation

        await eventually(holds)

    async def is_answered_by(self, release_id: str) -> None:
        async def holds() -> bool:
            return self.answered_by() == release_id

        await eventually(holds)


@pytest.fixture(scope="module")
def shop(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    skip_unless_supported()
    folder = tmp_path_factory.mktemp("release-commands")
    releases = ReleasesRoot(folder / "releases")
    shutil.copytree(trained.releases.path, releases.path)
    clone_release(releases, RELEASE, OTHER)
    clone_release(releases, RELEASE, FRESH)
    token_file = folder / "token"
    token_file.write_text(f"{TOKEN}\n")
    options = [f"--release-token-file={token_file}", "--routing-interval-s=0.1"]
    with serving(releases, folder / "logs", server_options=options) as stack:
        yield Shop(releases, stack, model_control_key(folder / "logs"))


async def test_commands_roll_a_release_out_beside_the_running_server(shop: Shop) -> None:
    assert {each["release_id"] for each in shop.releases("list")["releases"]} == {
        RELEASE, OTHER, FRESH
    }  # fmt: skip
    assert shop.releases("verify", OTHER)["ready"]
    # What the server has open already is checked beside it all the same.
    assert shop.releases("verify", RELEASE)["ready"]
    assert shop.releases("shadow", OTHER, *WHY)["shadow"]["release_id"] == OTHER
    assert shop.releases("canary", OTHER, "--percent", "5", *WHY)["canary"]["percent"] == 5
    assert shop.releases("promote", OTHER, *WHY)["serving"] == OTHER
    await shop.is_answered_by(OTHER)
    assert shop.releases("rollback", *WHY)["serving"] == RELEASE
    await shop.is_answered_by(RELEASE)
    actions = [entry["action"] for entry in shop.releases("audit")]
    assert actions[-4:] == ["shadow", "canary", "promote", "rollback"]


async def test_the_client_rolls_a_release_out_and_back(shop: Shop) -> None:
    with shop.client() as client:
        # The server opens it for each change, while it opens it to follow the change before.
        client.shadow_release(FRESH, 100, why="it is tested")
        client.canary_release(FRESH, 50, why="it is tested")
        promoted = client.promote_release(FRESH, why="it is tested")
        assert promoted.routing.serving_release_id == FRESH
        await shop.follows(promoted.routing.generation)
        await shop.is_answered_by(FRESH)
        ready = {each.id: each.ready for each in client.list_releases().releases}
        assert ready[RELEASE]
        assert ready[FRESH]
        back = client.rollback_release(FRESH, why="it is tested")
        assert list(back.release.roles) == []
    await shop.is_answered_by(RELEASE)
    assert read_audit(shop.root.path)[-1]["who"].startswith("rpc:")


def test_without_the_token_nobody_shifts_traffic(shop: Shop) -> None:
    before = read_routing(shop.root.path)
    for token in (None, "another-token-than-that"):
        with shop.client(token) as client, pytest.raises(PermissionDeniedError):
            client.promote_release(OTHER, why="it is tested")
    assert read_routing(shop.root.path) == before


def test_a_damaged_release_is_refused_by_command_and_by_rpc(shop: Shop) -> None:
    products = shop.root.release(OTHER).products
    whole = products.read_bytes()
    products.write_bytes(whole[:-1] + b" ")
    try:
        done = shop.run("promote", OTHER, *WHY, "--force")
        assert done.returncode == 1
        assert "products.jsonl was changed" in done.stderr
        with shop.client() as client, pytest.raises(ReleaseNotReadyError, match=r"products\.jsonl"):
            client.promote_release(OTHER, why="it is tested", forced=True)
    finally:
        products.write_bytes(whole)


@pytest.mark.parametrize(
    ("arguments", "expected"), [([], RELEASE), ([OTHER], f"{OTHER} serves")], ids=["list", "roll"]
)
def test_the_example_runs(shop: Shop, arguments: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), shop.stack.address, *arguments],
        env={**clean_environment(), "SHOPINTENT_RELEASE_TOKEN": TOKEN},
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
