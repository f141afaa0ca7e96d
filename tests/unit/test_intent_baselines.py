"""The baselines of intent find what hand features tell, and do not learn noise by heart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from shopintent.trainer.evaluation.baselines.lightgbm import fit_lightgbm
from shopintent.trainer.evaluation.baselines.logistic import fit_logistic
from shopintent.trainer.logistic import sigmoid


def lawful(
    n: int, *, seed: int, slope: float = 2.0
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """Returns features of very different scales, purchases that one of them tells, and shoppers."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4))
    bought = rng.random(n) < sigmoid(slope * features[:, 1] - 1.5)
    features[:, 1] = np.exp(3 * features[:, 1])
    return features.astype(np.float32), bought, rng.integers(0, n // 5, n)


def test_both_rank_buyers_first_whatever_the_scale() -> None:
    features, bought, shoppers = lawful(2000, seed=1)
    fresh, wanted, _ = lawful(2000, seed=2)
    logistic = fit_logistic(features, bought, shoppers)
    trees = fit_lightgbm(features, bought, shoppers)
    assert logistic is not None
    assert trees is not None
    for said in (logistic.predict_proba(fresh)[:, 1], trees.predict(fresh)):
        assert roc_auc_score(wanted, said) > 0.8
        assert np.mean(said) == pytest.approx(wanted.mean(), abs=0.05)


def test_of_noise_both_say_little_more_than_the_rate() -> None:
    features, bought, shoppers = lawful(2000, seed=3, slope=0.0)
    logistic = fit_logistic(features, bought, shoppers)
    trees = fit_lightgbm(features, bought, shoppers)
    assert logistic is not None
    assert trees is not None
    for said in (logistic.predict_proba(features)[:, 1], trees.predict(features)):
        assert np.std(said) < 0.05


@pytest.mark.parametrize("labels", [np.zeros(40, bool), np.ones(40, bool), np.zeros(0, bool)])
def test_with_nothing_to_tell_apart_there_is_no_baseline(labels: NDArray[np.bool_]) -> None:
    features, shoppers = np.zeros((len(labels), 2), np.float32), np.arange(len(labels))
    assert fit_logistic(features, labels, shoppers) is None
    assert fit_lightgbm(features, labels, shoppers) is None


def test_one_shopper_alone_is_no_baseline() -> None:
    features, bought, shoppers = lawful(200, seed=4)
    assert fit_logistic(features, bought, np.zeros_like(shoppers)) is None
    assert fit_lightgbm(features, bought, np.zeros_like(shoppers)) is None
