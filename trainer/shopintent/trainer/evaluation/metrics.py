"""Metrics of probabilities and of ranked lists, each a plain function of arrays."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

ECE_BINS = 15
EPSILON = 1e-7


@dataclass(frozen=True)
class ProbabilityMetrics:
    """How well probabilities rank and how true they are."""

    samples: int
    base_rate: float
    pr_auc: float
    roc_auc: float
    log_loss: float
    brier: float
    ece: float
    """Expected calibration error over 15 bins of equal mass (Naeini et al. 2015)."""
    calibration_slope: float
    """Of a logistic regression on the logit: 1 is right, below 1 is over-confident (Cox 1958)."""
    lift_at_5_percent: float
    """How much more often the highest 5 % buy than all do."""


def probability_metrics(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_]
) -> ProbabilityMetrics | None:
    """Returns the metrics of [N] probabilities, or None when the labels are all alike."""
    if len(labels) == 0 or labels.all() or not labels.any():
        return None
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    logits = np.log(p / (1 - p))
    varied = np.ptp(logits) > 1e-9
    slope = LogisticRegression(C=1e6).fit(logits[:, None], labels).coef_[0, 0] if varied else 0.0
    top = np.argsort(-p, kind="stable")[: max(1, len(p) // 20)]
    return ProbabilityMetrics(
        samples=len(labels),
        base_rate=float(labels.mean()),
        pr_auc=float(average_precision_score(labels, p)),
        roc_auc=float(roc_auc_score(labels, p)),
        log_loss=float(-np.mean(np.where(labels, np.log(p), np.log(1 - p)))),
        brier=float(np.mean((p - labels) ** 2)),
        ece=expected_calibration_error(p, labels),
        calibration_slope=float(slope),
        lift_at_5_percent=float(labels[top].mean() / labels.mean()),
    )


def reliability(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_]
) -> list[tuple[float, float, int]]:
    """Returns mean probability, share of positives and size of up to 15 bins of equal mass."""
    order = np.argsort(probabilities, kind="stable")
    bins = [part for part in np.array_split(order, ECE_BINS) if len(part)]
    return [
        (float(probabilities[part].mean()), float(labels[part].mean()), len(part)) for part in bins
    ]


def expected_calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.bool_]
) -> float:
    """Returns the mean distance of probability and truth over bins of equal mass."""
    bins = reliability(probabilities, labels)
    return sum(abs(mean - share) * size for mean, share, size in bins) / len(labels)


@dataclass(frozen=True)
class RankingMetrics:
    """How high the wanted product is ranked among all products."""

    samples: int
    hr_at_10: float
    ndcg_at_10: float
    mrr: float
    coverage_at_10: float
    """The share of the catalog that appears in some top 10."""


def ranking_metrics(
    ranks: NDArray[np.int64], top_10: NDArray[np.int64], n_products: int
) -> RankingMetrics | None:
    """Returns the metrics of [N] ranks, 0 the best, and of [N, 10] recommended products."""
    if len(ranks) == 0:
        return None
    hit = ranks < 10
    return RankingMetrics(
        samples=len(ranks),
        hr_at_10=float(hit.mean()),
        ndcg_at_10=float(np.where(hit, 1 / np.log2(ranks + 2), 0.0).mean()),
        mrr=float((1 / (ranks + 1)).mean()),
        coverage_at_10=len(np.unique(top_10)) / n_products,
    )


@dataclass(frozen=True)
class ActionMetrics:
    """How well the next action is predicted."""

    samples: int
    accuracy: float
    log_loss: float


def action_metrics(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> ActionMetrics | None:
    """Returns the metrics of [N, A] probabilities."""
    if len(labels) == 0:
        return None
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], EPSILON, 1.0)
    return ActionMetrics(
        samples=len(labels),
        accuracy=float((probabilities.argmax(1) == labels).mean()),
        log_loss=float(-np.log(chosen).mean()),
    )


Metrics = ProbabilityMetrics | RankingMetrics | ActionMetrics


def as_row(metrics: Metrics | None) -> dict[str, float] | None:
    """Returns the metrics as a row of a table."""
    return None if metrics is None else asdict(metrics)
