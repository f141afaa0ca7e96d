"""Each peer, where `make bench-peers` has set it up: it answers rightly and ends wholly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.bench.machine import descendants
from deploy.bench.peers.behaviors import Model, difference, said
from deploy.bench.peers.environments import NotSetUp, python_of
from deploy.bench.peers.peers import PEERS, Json, Peer
from deploy.bench.peers.running import serving
from deploy.bench.visitors import make_visitors
from shopintent.artifacts.products import read_first_products

if TYPE_CHECKING:
    from support.trained import Trained

NOW = 1_790_000_000


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer_and_python(request: pytest.FixtureRequest) -> tuple[Peer, Path]:
    """A peer and its Python; skipped where it is not set up."""
    peer: Peer = request.param
    try:
        return peer, python_of(peer)
    except NotSetUp as error:
        pytest.skip(str(error))


def behaviors_of(model: Model, trained: Trained) -> list[Json]:
    """Behaviors of different lengths, one of them empty."""
    folder = trained.releases.release(model.manifest.release_id)
    products = [each.product for each in read_first_products(folder, 50)]
    visitors = [
        *make_visitors(products, n_visitors=4, n_events=9, newest_time=NOW),
        *make_visitors(products, n_visitors=4, n_events=3, newest_time=NOW),
        *make_visitors(products, n_visitors=1, n_events=0, newest_time=NOW),
    ]
    return [model.behavior(each, request_time=NOW + 60) for each in visitors]


def test_a_peer_answers_as_onnxruntime_does_and_leaves_no_process(
    peer_and_python: tuple[Peer, Path], trained: Trained, tmp_path: Path
) -> None:
    peer, python = peer_and_python
    model = Model.open(trained.releases)
    asked = behaviors_of(model, trained)
    with serving(
        peer, peer.settings[0], python, trained.releases, tmp_path / "log", behavior=asked[0]
    ) as server:
        for behavior in asked:
            difference(peer.title, said(server.ask(behavior)), model.expected(behavior))
        assert server.post(b"{}")[0] >= 400
        below = descendants(server.process.popen.pid)
        assert below
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
