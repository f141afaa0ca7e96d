"""The baseline's features against a slow reference; it sees no more than the model does."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from shopintent.trainer.evaluation.baselines.logistic import count_features, fit_logistic_regression
from shopintent.trainer.prefixes import LEARNED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.sequences import Sequences
from support.learning import BUY, GAP_S, Did, random_shoppers, sequences_of

N_ACTIONS = 3


def prefixes_of(sequences: Sequences) -> Prefixes:
    return visit_prefixes(
        sequences,
        lengths=LEARNED_LENGTHS[1:],
        visits_from=0,
        visits_until=10**9,
        observed_until=10**9,
        horizons_s=(1800,),
        session_gap_s=GAP_S,
        cut_before_purchase=False,
    )


def reference(events: list[Did]) -> list[float]:
    now = events[-1].time
    visits, visit = [0], [events[0]]
    for earlier, later in pairwise(events):
        apart = later.time - earlier.time > GAP_S
        visits.append(visits[-1] + apart)
        visit = [later] if apart else [*visit, later]
    hour = [event for event in events if event.time > now - 3_600]
    day = [event for event in events if event.time > now - 86_400]
    logs = [
        math.log1p(sum(event.action == action for event in part))
        for part in (events, visit, hour, day)
        for action in range(N_ACTIONS)
    ]
    last = {event.action: event.time for event in events}
    since = [math.log1p(now - last.get(action, now - 10**8)) for action in range(N_ACTIONS)]
    bought = sum(event.action == BUY for event in events) / len(events)
    return [*logs, *since, bought, math.log1p(visits[-1] + 1), now % 86_400]


def test_features_agree_with_the_reference() -> None:
    shoppers = random_shoppers(25, seed=6)
    sequences = sequences_of(shoppers)
    prefixes = prefixes_of(sequences)
    features = count_features(sequences, prefixes, N_ACTIONS)
    assert len(features) > 40
    for n, shopper in enumerate(prefixes.shoppers):
        seen = int(prefixes.ends[n] - sequences.offsets[shopper])
        assert features[n].tolist() == pytest.approx(reference(shoppers[shopper][:seen]))


def test_features_of_no_prefixes_are_empty() -> None:
    sequences = sequences_of(random_shoppers(3, seed=6))
    none = prefixes_of(sequences).take(np.zeros(0, np.int64))
    assert count_features(sequences, none, N_ACTIONS).shape == (0, N_ACTIONS * 5 + 3)


def test_the_baseline_finds_what_counts_tell() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 3))
    labels = features[:, 1] > 0.5
    fitted = fit_logistic_regression(features, labels)
    assert fitted is not None
    assert (fitted.predict(features) == labels).mean() > 0.95


@pytest.mark.parametrize("labels", [np.zeros(5, bool), np.ones(5, bool), np.zeros(0, bool)])
def test_with_nothing_to_tell_apart_there_is_no_baseline(labels: NDArray[np.bool_]) -> None:
    assert fit_logistic_regression(np.zeros((len(labels), 3)), labels) is None
