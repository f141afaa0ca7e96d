"""RecTools and RecBole where `make peers` has set them up."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shopintent.trainer.data.progress import silent
from shopintent.trainer.evaluation.baselines.rectools import RecToolsConfig, fit_rectools
from shopintent.trainer.evaluation.next_product import NextProductTask, rank_products
from shopintent.trainer.peers.exchange import EngineConfig, Histories, Task
from shopintent.trainer.peers.process import PeersError, peers_python, started

ENGINES = "shopintent.trainer.peers"
N_PRODUCTS = 12
CONFIG = EngineConfig(
    n_threads=1, width=16, dropout=0.0, max_length=8, learning_rate=1e-2, batch_targets=128
)


@pytest.fixture(autouse=True)
def _peers() -> None:
    try:
        peers_python()
    except PeersError as error:
        pytest.skip(str(error))


def rounds(starts: NDArray[np.int64], length: int) -> Histories:
    """Histories that go round the products in order."""
    products = (starts[:, None] + np.arange(length)) % (N_PRODUCTS - 1)
    return Histories(
        products.flatten().astype(np.int32), np.arange(len(starts) + 1, dtype=np.int64) * length
    )


def going_round() -> Task:
    starts = np.arange(100)
    validation = rounds(starts[:11], 3)
    return Task(
        n_products=N_PRODUCTS,
        training=rounds(starts, 6),
        validation=validation,
        validation_targets=((starts[:11] + 3) % (N_PRODUCTS - 1)).astype(np.int32),
        seen_filter=False,
    )


def test_rectools_learns_what_comes_next() -> None:
    rows = rounds(np.arange(100), 6)
    at = rows.offsets[1:]
    asked = NextProductTask(
        split="leave-one-out",
        n_products=N_PRODUCTS,
        offsets=rows.offsets,
        products=rows.products.astype(np.int64),
        event_times=np.arange(len(rows.products)),
        learned=np.isin(np.arange(len(rows.products)), np.append(at - 1, at - 2), invert=True),
        shoppers=np.arange(100),
        ends=at - 1,
        request_times=at - 1,
        targets=rows.products[at - 1].astype(np.int64),
    )
    config = RecToolsConfig(CONFIG, max_epochs=20, patience=20)
    fitted = fit_rectools(asked, config, silent, seen_filter=False)
    assert max(fitted.history) > 0.9
    ranks = rank_products(asked, fitted, seen_filter=False).ranks
    assert (ranks == 0).mean() > 0.9
    assert not fitted.embeddings.known[N_PRODUCTS - 1]


@pytest.mark.parametrize("engine", ["rectools_engine:as_shipped", "recbole_engine:RecBoleEngine"])
def test_a_peer_gets_better_slice_by_slice(engine: str) -> None:
    task = going_round()
    with started(engine, f"{ENGINES}.{engine}", peers_python(), task, CONFIG) as worker:
        ndcgs = [[*worker.ask(do="slice", seconds=2.0)][-1]["ndcg"] for _ in range(3)]
    assert max(ndcgs) > 0.9


def test_a_peer_that_fails_says_why() -> None:
    alone = rounds(np.arange(3), 1)
    task = Task(N_PRODUCTS, alone, alone, np.zeros(3, np.int32), seen_filter=False)
    engine = f"{ENGINES}.rectools_engine:as_shipped"
    with (
        pytest.raises(PeersError, match="no history to train on holds two products"),
        started("rectools", engine, peers_python(), task, CONFIG),
    ):
        pass
