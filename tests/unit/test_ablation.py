"""Each variant of the fused head reads its own part, and the parts are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopintent.behavior import Behavior
from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.trainer.ablation import ablate, ablations, mean_texts
from shopintent.trainer.data.progress import silent
from shopintent.trainer.prefixes import visit_prefixes
from shopintent.trainer.purchase_head import PurchaseRequests
from support.learning import GAP_S, make_run, random_shoppers, sequences_of
from support.small_tokenizer import small_tokenizer

WIDTH, N_FEATURES = 2, 2


def told_by(column: int, *, seed: int) -> tuple[PurchaseRequests, np.ndarray]:
    """Returns requests that one number tells: 0 and 1 are state, 2 and 3 features, 4 is text."""
    rng = np.random.default_rng(seed)
    n = 600
    everything = rng.normal(size=(n, 5)).astype(np.float32)
    readable, texts = everything[:, :4], everything[:, 4:]
    requests = PurchaseRequests(
        readable,
        readable[:, WIDTH:],
        (everything[:, column] > 0.5)[:, None],
        np.ones((n, 1), bool),
        rng.integers(0, 200, n),
        rng.integers(0, 1000, n),
        np.ones(n, bool),
    )
    return requests, texts


@pytest.mark.parametrize(
    ("column", "knowing"),
    [
        (0, {"sequence-only", "fused"}),
        (3, {"structured-only", "fused"}),
        (4, {"text-only"}),
    ],
)
def test_only_who_reads_what_tells_can_tell(column: int, knowing: set[str]) -> None:
    learned, learned_texts = told_by(column, seed=1)
    asked, texts = told_by(column, seed=2)
    found = ablations(learned, learned_texts, asked.readable, texts, d_model=WIDTH)
    bought = asked.bought[:, 0]
    apart = {name: said[bought, 0].mean() - said[~bought, 0].mean() for name, said in found.items()}
    assert set(apart) == {"sequence-only", "text-only", "structured-only", "fused"}
    for name, distance in apart.items():
        assert (distance > 0.3) == (name in knowing), name


def test_a_run_is_taken_apart_for_every_prefix_and_column(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    sequences = sequences_of(random_shoppers(30, seed=1))
    sequences.tokens[:, 1:] = 0  # The run's tokenizer knows other products.
    prefixes = visit_prefixes(
        sequences,
        lengths=(1, 2, 3),
        visits_from=0,
        visits_until=10**9,
        observed_until=10**9,
        horizons_s=run.info.horizons_s,
        session_gap_s=GAP_S,
        cut_before_purchase=False,
    )
    found = ablate(run, sequences, prefixes, prefixes.take(np.arange(7)), silent)
    assert set(found) == {"sequence-only", "text-only", "structured-only", "fused"}
    for said in found.values():
        assert said.shape == (7, 3)
        assert ((said > 0) & (said < 1)).all()


def test_texts_are_the_mean_of_what_their_codes_stand_for() -> None:
    tokenizer = small_tokenizer(max_events=2)
    centroids = tokenizer.codebook.centroids
    tokens = np.zeros((4, len(EVENT_FIELDS)), np.int32)
    tokens[:, 2:5] = [[2, 2, 2], [1, 1, 1], [1, 2, 1], [0, 0, 0]]
    long, none = Behavior(tokens, np.arange(4)), Behavior(tokens[3:], np.arange(1))
    found = mean_texts(tokenizer, [long, none])
    # Of the last two events, which are in view, one has a text.
    assert found[0] == pytest.approx(centroids[0, 0] + centroids[1, 1] + centroids[2, 0])
    assert not found[1].any()
