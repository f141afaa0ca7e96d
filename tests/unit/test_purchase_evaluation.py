"""Purchases and next actions are judged by prefix, horizon and slice, models beside each other."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.evaluation.purchase import (
    CURVE_POINTS,
    Purchases,
    Said,
    Samples,
    action_rows,
    purchase_curves,
    purchase_rows,
)

RNG = np.random.default_rng(0)
N = 900
TRUTH = RNG.beta(1, 5, N)
SAMPLES = Samples(
    "time",
    lengths=RNG.choice([1, 3], N),
    shoppers=RNG.integers(0, 300, N),
    slices={"cold-shoppers": RNG.random(N) < 0.3, "nobody": np.zeros(N, bool)},
)
PURCHASES = Purchases(
    ("session", "24h"),
    labels=np.stack([RNG.random(N) < TRUTH, RNG.random(N) < 0.3], axis=1),
    known=np.stack([np.ones(N, bool), np.arange(N) < 600], axis=1),
)
LOGISTIC = np.stack([np.sqrt(TRUTH) / 3, np.full(N, np.nan)], axis=1)
MODELS = [
    Said("shopintent", np.stack([TRUTH, np.full(N, 0.3)], axis=1), seed=5),
    Said("constant", np.full((N, 2), 0.2)),
    Said("logistic", LOGISTIC),
]


def found(rows: list[MetricRow], **wanted: object) -> MetricRow:
    """Returns the only row that is as wanted; prefix and slice are "all" unless told."""
    wanted = {"prefix": "all", "slice": "all", **wanted}
    (row,) = [
        row for row in rows if all(getattr(row, name) == each for name, each in wanted.items())
    ]
    return row


@pytest.fixture(scope="module")
def rows() -> list[MetricRow]:
    return purchase_rows(SAMPLES, PURCHASES, MODELS)


def test_every_prefix_and_slice_is_judged_on_its_own_samples(rows: list[MetricRow]) -> None:
    labels = PURCHASES.labels[:, 0]
    groups = {
        ("all", "all"): np.ones(N, bool),
        ("3", "all"): SAMPLES.lengths == 3,
        ("all", "cold-shoppers"): SAMPLES.slices["cold-shoppers"],
    }
    for (prefix, name), group in groups.items():
        row = found(rows, model="logistic", metric="pr_auc", prefix=prefix, slice=name)
        expected = average_precision_score(labels[group], LOGISTIC[group, 0])
        assert row.value == pytest.approx(expected)
        assert row.samples == group.sum()
        assert row.ci is not None
        assert row.ci[0] < row.value < row.ci[1]
    assert not [row for row in rows if row.slice == "nobody"]


def test_only_samples_whose_label_is_known_are_judged(rows: list[MetricRow]) -> None:
    row = found(rows, model="constant", metric="base_rate", horizon="24h")
    assert row.samples == 600
    assert row.value == pytest.approx(PURCHASES.labels[:600, 1].mean())


def test_a_model_without_a_horizon_has_no_rows_of_it(rows: list[MetricRow]) -> None:
    assert not [row for row in rows if row.model == "logistic" and row.horizon == "24h"]


def test_ours_is_compared_with_every_baseline_on_the_same_resamples(rows: list[MetricRow]) -> None:
    above = found(rows, metric="pr_auc_minus_constant", horizon="session")
    assert above.model == "shopintent"
    assert above.ci is not None
    assert above.ci[0] > 0
    equal = found(rows, metric="roc_auc_minus_logistic", horizon="session")
    assert equal.value == 0  # the same order
    assert equal.ci == (0, 0)
    better = found(rows, metric="log_loss_minus_logistic", horizon="session")
    assert better.value < 0


def test_rows_of_ours_carry_the_seed_of_the_run(rows: list[MetricRow]) -> None:
    assert {row.seed for row in rows if row.model == "shopintent"} == {5}
    assert {row.seed for row in rows if row.model == "constant"} == {None}


def test_every_seed_has_rows_of_its_own_and_is_compared_with_every_baseline() -> None:
    said = [Said("shopintent", MODELS[0].probabilities, seed=seed) for seed in (1, 2)]
    judged = purchase_rows(SAMPLES, PURCHASES, [*said, MODELS[1]])
    for seed in (1, 2):
        wanted = {"model": "shopintent", "seed": seed, "horizon": "session"}
        assert found(judged, metric="pr_auc", **wanted).value > 0
        assert found(judged, metric="pr_auc_minus_constant", **wanted).value > 0


def test_next_actions_are_judged_where_they_are_known() -> None:
    probabilities = RNG.dirichlet(np.ones(3), N)
    actions = RNG.integers(0, 3, N)
    actions[:100] = -1
    said = [Said(model, probabilities) for model in ("shopintent", "markov")]
    judged = action_rows(SAMPLES, actions, said)
    row = found(judged, model="markov", metric="next_action_log_loss")
    assert row.value == pytest.approx(log_loss(actions[100:], probabilities[100:], labels=range(3)))
    assert row.samples == 800
    assert found(judged, metric="next_action_log_loss_minus_markov").value == 0


def test_hardly_any_buyers_have_a_value_without_an_interval_and_no_curve() -> None:
    labels = np.zeros((N, 1), bool)
    labels[:9] = True
    few = Purchases(("session",), labels, np.ones((N, 1), bool))
    judged = purchase_rows(SAMPLES, few, MODELS[:1])
    assert found(judged, metric="pr_auc").ci is None
    assert purchase_curves(SAMPLES, few, MODELS[:1]) == []


def test_nothing_known_gives_no_rows() -> None:
    unknown = Purchases(("session",), PURCHASES.labels[:, :1], np.zeros((N, 1), bool))
    assert purchase_rows(SAMPLES, unknown, MODELS) == []
    assert purchase_curves(SAMPLES, unknown, MODELS) == []
    assert action_rows(SAMPLES, np.full(N, -1), []) == []


def test_curves_are_thin_and_end_where_they_must() -> None:
    curves = purchase_curves(SAMPLES, PURCHASES, MODELS)
    assert [(each.horizon, each.prefix) for each in curves] == [
        ("session", "all"), ("session", "1"), ("session", "3"),
        ("24h", "all"), ("24h", "1"), ("24h", "3"),
    ]  # fmt: skip
    ours = curves[0].models["shopintent"]
    assert len(ours.precision_recall) <= CURVE_POINTS + 2
    assert ours.roc[0].tolist() == [0, 0]
    assert ours.roc[-1].tolist() == [1, 1]
    assert ours.histogram.sum() == N
    assert sum(size for _, _, size in ours.bins) == N
    assert set(curves[3].models) == {"shopintent", "constant"}
