"""The trees served from the graph say what LightGBM says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shopintent.trainer.trees import Trees, grow, load_trees, rounded_down


def lawful(n: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns counts and gaps, and labels that no line separates."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5)).astype(np.float32)
    features[:, 1] = np.log1p(rng.poisson(2.0, n))
    return features, (features[:, 0] > 0) ^ (features[:, 1] > 1)


@pytest.mark.parametrize(("n_leaves", "n_trees"), [(2, 1), (7, 30), (31, 10)])
def test_they_say_what_lightgbm_says(n_leaves: int, n_trees: int) -> None:
    features, labels = lawful(1500, seed=1)
    booster = grow(features, labels, n_trees=40, n_leaves=n_leaves, leaf_share=0.001)
    trees = Trees()
    load_trees(trees, booster, n_trees)
    fresh, _ = lawful(800, seed=2)
    expected = booster.predict(fresh, raw_score=True, num_iteration=n_trees)
    assert np.ptp(expected) > 0
    assert trees(torch.tensor(fresh)).numpy() == pytest.approx(expected, abs=1e-5)


def test_a_value_on_a_threshold_goes_the_same_way() -> None:
    features, labels = lawful(1500, seed=3)
    booster = grow(features, labels, n_trees=20, n_leaves=7, leaf_share=0.001)
    trees = Trees()
    load_trees(trees, booster, 20)
    thresholds = trees.thresholds[trees.paths.any(-1)].numpy()
    looked_at = trees.features[trees.paths.any(-1)].numpy()
    up = np.nextafter(thresholds, np.float32(np.inf))
    rows = np.tile(features[: len(thresholds)], (2, 1))
    rows[np.arange(len(rows)), np.tile(looked_at, 2)] = np.concatenate([thresholds, up])
    expected = booster.predict(rows, raw_score=True)
    assert trees(torch.tensor(rows)).numpy() == pytest.approx(expected, abs=1e-5)


def test_numbers_that_are_all_but_equal_go_the_same_way() -> None:
    """Another runtime rounds otherwise, and its answers must not differ by that."""
    rng = np.random.default_rng(4)
    labels = rng.random(2000) < 0.5
    # What was learned from may itself be rounded in two ways.
    values = rng.choice(np.array([1.1, 2.3, 14.7], np.float32), size=(2000, 1))
    features = np.where(labels[:, None], values, np.nextafter(values, np.float32(99)))
    trees = Trees()
    load_trees(trees, grow(features, labels, n_trees=20, n_leaves=7, leaf_share=0.001), 20)
    said, near = (trees(torch.tensor(each)) for each in (values, values * np.float32(1 + 2e-7)))
    assert torch.equal(said, near)


def test_trees_without_anything_to_tell_apart_say_the_rate() -> None:
    features, labels = np.zeros((200, 2), np.float32), np.arange(200) < 50
    trees = Trees()
    load_trees(trees, grow(features, labels, n_trees=3, n_leaves=7, leaf_share=0.01), 3)
    said = trees(torch.zeros(4, 2)).numpy()
    assert 1 / (1 + np.exp(-said)) == pytest.approx(0.25, abs=1e-4)


def test_no_trees_say_nothing() -> None:
    assert not Trees()(torch.ones(3, 2)).any()


@pytest.mark.parametrize("threshold", [0.1, -0.1, 1.0, 1e-9, 123456.789])
def test_a_threshold_is_the_largest_fp32_number_up_to_it(threshold: float) -> None:
    down = rounded_down(threshold)
    assert down <= threshold < float(np.nextafter(np.float32(down), np.float32(np.inf)))
