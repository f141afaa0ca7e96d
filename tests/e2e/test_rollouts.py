"""Releases under continuous load: shifted, damaged, killed, broken; shoppers notice nothing.

SHOPINTENT_LONG_TESTS=1 runs the long form: 500 shifts and every kill 20 times.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deploy.demo.stack import Stack, model_control_key, server, serving, triton
from shopintent.artifacts import Manifest, ReleasesRoot
from shopintent.artifacts.golden import read_golden, write_golden
from shopintent.artifacts.integrity import seal
from shopintent.artifacts.routing import read_audit, read_routing
from shopintent.server.config import Config
from shopintent.server.errors import ReleaseInUse, ReleaseNotReady
from shopintent.server.inference.triton import KEY_HEADER
from shopintent.server.release_control import managing_releases
from shopintent.server.releases.manager import Reason, ReleaseManager
from shopintent.v1 import recommendation_service_pb2_grpc
from support.rollouts import (
    Expected,
    Shopper,
    Watch,
    config_of,
    full_form,
    intent_of,
    learn,
    publish_another,
    shoppers,
    watching,
)
from support.trained import Trained
from support.triton import skip_unless_supported

pytestmark = pytest.mark.releases

ONE, TWO, THREE = "tiny", "other", "third"
BECAUSE = Reason("test", "it is tested")
OPTIONS = ["--routing-interval-s=0.1", "--check-interval-s=0.5", "--log-level=warning"]
SHIFTS = full_form(10, 500)
KILLS = full_form(3, 20)


@pytest.fixture(scope="module")
def tiny(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The tiny shop with two more releases, in a root of its own."""
    skip_unless_supported()
    tiny = replace(trained, releases=copy_of(trained, tmp_path_factory.mktemp("rollouts")))
    for seed, release_id in enumerate((TWO, THREE), start=1):
        publish_another(tiny, tiny.releases, release_id, seed=seed)
    return tiny


@dataclass(frozen=True, eq=False)
class Shop:
    """A running shop, who shifts its traffic, and what its releases answer."""

    root: ReleasesRoot
    stack: Stack
    config: Config
    manager: ReleaseManager
    everybody: list[Shopper]
    expected: dict[str, dict[str, Expected]]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Watch]:
        """Shoppers ask while the block runs; afterwards none may have noticed anything."""
        async with watching(self.stack.address, self.everybody, self.expected) as watch:
            await answering(watch)
            yield watch
        assert watch.failures == []
        assert watch.mixed == []
        assert watch.answers > 0

    async def answered_by(self, release_id: str, watch: Watch) -> None:
        """Returns when the newest answer is of a release."""
        await until(lambda: watch.last == release_id)


@asynccontextmanager
async def managed(
    tiny: Trained, root: ReleasesRoot, stack: Stack, folder: Path
) -> AsyncIterator[Shop]:
    """Yields the shop that a stack runs whose logs are in the folder."""
    key = model_control_key(folder / "logs")
    config = config_of(root, stack.triton_address, key)
    async with managing_releases(config) as manager:
        yield Shop(root, stack, config, manager, shoppers(tiny, 6), {})


@pytest.fixture(scope="module")
def lasting(tiny: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    """One stack for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("lasting")
    root = copy_of(tiny, folder)
    with serving(root, folder / "logs", server_options=OPTIONS) as stack:
        yield Lasting(root, stack, folder)


@dataclass(frozen=True)
class Lasting:
    """A stack that several tests share, and where it lies."""

    root: ReleasesRoot
    stack: Stack
    folder: Path


@pytest.fixture
async def shared(tiny: Trained, lasting: Lasting) -> AsyncIterator[Shop]:
    """The shared shop; the first release serves it alone."""
    async with managed(tiny, lasting.root, lasting.stack, lasting.folder) as shop:
        lasting.root.set_current(ONE)
        await until_async(lambda: everybody_gets(shop, ONE))
        yield shop


@pytest.fixture
async def own(tiny: Trained, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop of the test's own, to be broken."""
    root = copy_of(tiny, tmp_path)
    with serving(root, tmp_path / "logs", server_options=OPTIONS) as stack:
        async with managed(tiny, root, stack, tmp_path) as shop:
            yield shop


async def everybody_gets(shop: Shop, release_id: str) -> bool:
    """Returns whether one release answers all shoppers: no canary of a test before is left."""
    async with grpc.aio.insecure_channel(shop.stack.address) as channel:
        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        answered = {(await intent_of(stub, shopper))[0] for shopper in shop.everybody}
    return answered == {release_id}


def copy_of(tiny: Trained, folder: Path) -> ReleasesRoot:
    """Returns the three releases in a root in the folder; the first one serves."""
    root = ReleasesRoot(folder / "releases")
    shutil.copytree(tiny.releases.path, root.path)
    return root


async def learn_all(shop: Shop, *release_ids: str) -> None:
    """Learns what each release answers when it serves alone, and returns to the first."""
    async with grpc.aio.insecure_channel(shop.stack.address) as channel:
        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
        for release_id in (*release_ids, release_ids[0]):
            if shop_routing(shop.root).serving != release_id:
                await shop.manager.promote(release_id, BECAUSE)

            async def answers(release_id: str = release_id) -> bool:
                return (await intent_of(stub, shop.everybody[0]))[0] == release_id

            await until_async(answers)
            shop.expected[release_id] = await learn(stub, shop.everybody)
    for one, other in itertools.combinations(release_ids, 2):
        for shopper in shop.everybody:
            ours, theirs = (shop.expected[each][shopper.visitor_id] for each in (one, other))
            assert ours.distance(theirs.intent) > 0.02, "a mixture could not be told"


def shop_routing(root: ReleasesRoot) -> Any:
    routing = read_routing(root.path)
    assert routing is not None
    return routing


async def until(holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
    async def condition() -> bool:
        return holds()

    await until_async(condition, within_s=within_s)


async def answering(watch: Watch) -> None:
    """Returns when shoppers are being answered."""
    await until(lambda: watch.answers > 0)


async def until_async(holds: Callable[[], Awaitable[bool]], *, within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - what is waited for tells nobody.
            await asyncio.sleep(0.02)


async def test_promotions_and_rollbacks_under_load_fail_no_request_and_mix_no_answer(
    shared: Shop,
) -> None:
    await learn_all(shared, ONE, TWO)
    async with shared.watched() as watch:
        for shift in range(SHIFTS):
            if shift % 2:
                shared.manager.rollback(BECAUSE)
            else:
                await shared.manager.promote(TWO, BECAUSE)
            await shared.answered_by(shop_routing(shared.root).serving, watch)
    assert set(watch.releases) == {ONE, TWO}


async def test_servers_take_over_a_change_within_two_seconds(tiny: Trained, tmp_path: Path) -> None:
    root = copy_of(tiny, tmp_path)
    with serving(root, tmp_path / "logs") as stack:  # It looks as often as servers do by default.
        async with (
            managed(tiny, root, stack, tmp_path) as shop,
            watching(stack.address, shop.everybody, {}) as watch,
        ):
            await shop.manager.promote(TWO, BECAUSE)
            await shop.answered_by(TWO, watch)
            changed = time.monotonic()
            shop.manager.rollback(BECAUSE)
            await shop.answered_by(ONE, watch)
            assert time.monotonic() - changed < 2.0


async def test_a_canary_answers_its_share_of_the_shoppers_and_always_the_same(
    shared: Shop,
) -> None:
    await learn_all(shared, ONE, TWO)
    await shared.manager.canary(TWO, 50.0, BECAUSE)
    routing = shop_routing(shared.root)
    async with shared.watched() as watch:
        await until(lambda: len(watch.releases) == 2)
        async with grpc.aio.insecure_channel(shared.stack.address) as channel:
            stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(channel)
            for shopper in shared.everybody * 3:
                wanted = routing.release_for(f"visitor:{shopper.visitor_id}")
                assert (await intent_of(stub, shopper))[0] == wanted


def flip_a_byte(root: ReleasesRoot) -> None:
    path = root.release(TWO).product_embeddings
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def lose_the_vectors(root: ReleasesRoot) -> None:
    root.release(TWO).product_embeddings.unlink()


def take_a_foreign_tokenizer(root: ReleasesRoot) -> None:
    path = root.release(TWO).behavior_tokenizer / "tokenizer.json"
    saved = json.loads(path.read_text())
    saved["max_events"] = saved["max_events"] + 1
    path.write_text(json.dumps(saved))
    reseal(root)


def take_wrong_dimensions(root: ReleasesRoot) -> None:
    path = root.release(TWO).product_embeddings
    np.save(path, np.load(path)[:, :-1], allow_pickle=False)
    reseal(root)


def expect_other_answers(root: ReleasesRoot) -> None:
    path = root.release(TWO).golden
    golden = read_golden(path)
    first = next(iter(golden.intent.values()))
    first += np.float32(0.05)
    write_golden(path, golden)
    reseal(root)


def reseal(root: ReleasesRoot) -> None:
    """Writes the hashes anew, as somebody would who publishes what does not fit."""
    seal(root, Manifest.load(root.release(TWO).manifest))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (flip_a_byte, "product_embeddings.npy was changed"),
        (lose_the_vectors, "product_embeddings.npy is missing"),
        (take_a_foreign_tokenizer, "tokenizer"),
        (take_wrong_dimensions, r"holds float32\["),
        (expect_other_answers, "golden requests: .* is off by more than"),
    ],
)
async def test_a_damaged_release_never_takes_traffic_and_the_reason_is_named(
    shared: Shop, damage: Callable[[ReleasesRoot], None], why: str, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(shared.root.release(TWO).path, kept)
    damage(shared.root)
    before = shop_routing(shared.root)
    try:
        async with shared.watched() as watch:
            for change in (
                shared.manager.promote(TWO, Reason("test", "anyway", forced=True)),
                shared.manager.canary(TWO, 50.0, Reason("test", "anyway", forced=True)),
                shared.manager.shadow(TWO, 50.0, BECAUSE),
            ):
                with pytest.raises(ReleaseNotReady, match=why) as caught:
                    await change
                assert caught.value.metadata == {"releaseId": TWO}
        assert set(watch.releases) == {ONE}
        assert shop_routing(shared.root) == before
    finally:
        shutil.rmtree(shared.root.release(TWO).path)
        kept.rename(shared.root.release(TWO).path)


async def test_a_damaged_release_that_is_routed_to_by_hand_takes_no_traffic_either(
    own: Shop,
) -> None:
    flip_a_byte(own.root)
    own.root.set_current(TWO)
    async with own.watched() as watch:
        await asyncio.sleep(2.0)
    assert set(watch.releases) == {ONE}


async def control(shop: Shop, call: str, request: Any) -> Any:
    """Calls Triton's model control, as whoever holds its key may."""
    async with grpc.aio.insecure_channel(shop.stack.triton_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = ((KEY_HEADER, shop.config.triton_model_control_key),)
        return await getattr(stub, call)(request, metadata=metadata, timeout=30)


def answer_nonsense(root: ReleasesRoot, release_id: str) -> None:
    """Puts a NaN into every weight matrix of a release's intent model."""
    path = root.models(release_id)[0] / "1" / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor).copy()
        if weights.dtype == np.float32 and weights.ndim == 2:
            weights[0, 0] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    onnx.save(model, path)


def answer_late(root: ReleasesRoot, release_id: str) -> None:
    """Has Triton hold every request of a release's intent model for 200 ms."""
    path = root.models(release_id)[0] / "config.pbtxt"
    text = path.read_text()
    waits = "preferred_batch_size: [ 64 ]\n  max_queue_delay_microseconds: 200000"
    assert "max_queue_delay" not in text
    path.write_text(text.replace("dynamic_batching {", f"dynamic_batching {{\n  {waits}"))


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (answer_nonsense, "requests failed|answers were degraded"),
        (answer_late, "95th percentile|answers were degraded|requests failed"),
    ],
)
async def test_a_canary_that_goes_bad_is_rolled_back_within_ten_seconds_and_audited(
    own: Shop, break_it: Callable[[ReleasesRoot, str], None], why: str
) -> None:
    await learn_all(own, ONE, TWO)
    async with own.watched() as watch:
        await own.manager.canary(TWO, 50.0, BECAUSE)
        await own.answered_by(TWO, watch)
        break_it(own.root, TWO)
        request = service_pb2.RepositoryModelLoadRequest(model_name=f"intent_{TWO}")
        await control(own, "RepositoryModelLoad", request)
        broken = time.monotonic()
        await until(lambda: shop_routing(own.root).canary is None)
        assert time.monotonic() - broken < 10.0
        await own.answered_by(ONE, watch)
    last = read_audit(own.root.path)[-1]
    assert (last["action"], last["release_id"]) == ("rollback", TWO)
    assert last["who"].startswith("guardrails")
    assert re.search(why, last["why"])


async def test_old_releases_are_freed_and_what_is_in_use_cannot_be_deleted(own: Shop) -> None:
    async def loaded() -> set[str]:
        index = await control(
            own, "RepositoryIndex", service_pb2.RepositoryIndexRequest(ready=True)
        )
        return {model.name for model in index.models}

    async with own.watched() as watch:
        for release_id in (TWO, THREE):
            await own.manager.promote(release_id, BECAUSE)
            await own.answered_by(release_id, watch)
        for release_id in (TWO, THREE):
            with pytest.raises(ReleaseInUse):
                await own.manager.delete(release_id, BECAUSE)
        assert f"intent_{TWO}" in await loaded()

        async def freed() -> bool:
            return not {name for name in await loaded() if name.endswith(f"_{ONE}")}

        await until_async(freed)
        await own.manager.delete(ONE, BECAUSE)
    left = [path for path in own.root.path.rglob("*") if ONE in path.name]
    assert left == []


@contextmanager
def rollout_process(root: ReleasesRoot, stack: Stack, key: str) -> Iterator[Any]:
    """A program that promotes and rolls back for ever."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from shopintent.server.config import Config\n"
        "from shopintent.server.release_control import managing_releases\n"
        "from shopintent.server.releases.manager import Reason\n"
        "async def main():\n"
        "    root, triton, key = sys.argv[1:]\n"
        "    config = Config(releases=Path(root), triton_address=triton,\n"
        "        triton_model_control_key=key)\n"
        "    async with managing_releases(config) as manager:\n"
        "        for turn in range(10**6):\n"
        "            why = Reason('test', f'turn {turn}')\n"
        f"            await manager.promote(('{TWO}', '{ONE}')[turn % 2], why)\n"
        "            print(turn, flush=True)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(root.path), stack.triton_address, key]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def test_whoever_shifts_traffic_may_be_killed_at_any_point(shared: Shop) -> None:
    await learn_all(shared, ONE, TWO)
    chance = random.Random(7)
    async with shared.watched():
        for _ in range(KILLS):
            key = shared.config.triton_model_control_key
            with rollout_process(shared.root, shared.stack, key) as process:
                await asyncio.to_thread(process.stdout.readline)
                await asyncio.sleep(chance.random() * 0.5)
                process.kill()
            generation = shop_routing(shared.root).generation
            audited = [entry["generation"] for entry in read_audit(shared.root.path)]
            assert audited in (
                list(range(1, generation + 1)),
                list(range(1, generation)),  # Killed in between: the next change audits it.
            )
        shared.manager.rollback(BECAUSE)
    generations = [entry["generation"] for entry in read_audit(shared.root.path)]
    assert generations == list(range(1, len(generations) + 1))


async def test_a_server_that_is_killed_comes_back_with_what_the_routing_says(
    tiny: Trained, tmp_path: Path
) -> None:
    root, logs = copy_of(tiny, tmp_path), tmp_path / "logs"
    chance = random.Random(7)
    with triton(root, ONE, logs) as (_, address):
        key = model_control_key(logs)
        config = config_of(root, address, key)
        async with managing_releases(config) as manager:
            for turn in range(KILLS):
                wanted = (TWO, ONE)[turn % 2]
                with server(root, address, logs, server_options=OPTIONS, model_control_key=key) as (
                    process,
                    served_at,
                ):
                    async with watching(served_at, shoppers(tiny, 2), {}) as watch:
                        await answering(watch)
                        await manager.promote(wanted, BECAUSE)
                        await asyncio.sleep(chance.random() * 0.3)
                        process.popen.send_signal(signal.SIGKILL)
                        await asyncio.to_thread(process.popen.wait)
                with server(root, address, logs, server_options=OPTIONS, model_control_key=key) as (
                    _,
                    served_at,
                ):
                    async with grpc.aio.insecure_channel(served_at) as channel:
                        stub: Any = recommendation_service_pb2_grpc.RecommendationServiceStub(
                            channel
                        )
                        assert (await intent_of(stub, shoppers(tiny, 1)[0]))[0] == wanted


async def test_a_triton_that_is_killed_in_a_rollout_is_given_every_release_again(
    own: Shop, tmp_path: Path
) -> None:
    await own.manager.promote(TWO, BECAUSE)
    await until_async(lambda: everybody_gets(own, TWO))
    os.kill(triton_pid(tmp_path), signal.SIGKILL)
    await asyncio.to_thread(own.stack.triton.popen.wait, 60)
    grpc_port, http_port = (
        int(each.rpartition(":")[2])
        for each in (own.stack.triton_address, own.stack.triton_http_address)
    )
    key = own.config.triton_model_control_key

    async def everybody_is_answered_by_two() -> bool:
        try:
            return await everybody_gets(own, TWO)
        except grpc.aio.AioRpcError:
            return False

    # It starts with the first release only; the server brings the other one.
    with triton(
        own.root,
        ONE,
        tmp_path / "again",
        grpc_port=grpc_port,
        http_port=http_port,
        model_control_key=key,
    ):
        await until_async(everybody_is_answered_by_two, within_s=60.0)
        own.manager.rollback(BECAUSE)
        await until_async(lambda: everybody_gets(own, ONE))


def triton_pid(folder: Path) -> int:
    return int(json.loads((folder / "logs" / "triton.json").read_text())["triton_pid"])
