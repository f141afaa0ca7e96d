"""How metrics and models are called, ordered, rounded and colored in tables and plots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shopintent.trainer.evaluation.comparison import MINUS, is_ours

HIGH, LOW = "higher is better", "lower is better"


@dataclass(frozen=True)
class Metric:
    """What a reader must know of a metric."""

    label: str
    meaning: str
    better: str = ""
    """HIGH, LOW, or empty where neither is."""
    target: float | None = None
    """The right value, where neither more nor less is better."""
    percent: bool = False
    digits: int = 4


METRICS = {
    "hr": Metric("HR", "share of requests whose next product is among the first k", HIGH),
    "ndcg": Metric("NDCG", "the same, worth less the lower it stands", HIGH),
    "mrr": Metric("MRR", "mean of 1 / position, 0 beyond k", HIGH),
    "coverage": Metric(
        "coverage", "share of the catalog that is in somebody's list", HIGH, percent=True
    ),
    "popularity": Metric(
        "popularity", "mean events, learned from, of the products shown", digits=1
    ),
    "novelty": Metric("novelty", "mean surprise of the products shown, in bits", digits=2),
    "diversity": Metric("diversity", "how different the products of one list are", digits=3),
    "base_rate": Metric("base rate", "share of samples that buy", percent=True),
    "pr_auc": Metric("PR-AUC", "mean precision over recall; the base rate is chance", HIGH),
    "roc_auc": Metric("ROC-AUC", "chance that a buyer stands above a non-buyer", HIGH),
    "log_loss": Metric("log loss", "mean surprise, in nats", LOW),
    "brier": Metric("Brier", "mean squared error of the probability", LOW),
    "ece": Metric("ECE", "mean distance of probability and truth, 15 bins of equal mass", LOW),
    "calibration_slope": Metric("slope", "below 1 is over-confident", target=1.0, digits=3),
    "calibration_intercept": Metric("intercept", "below 0 is too high", target=0.0, digits=3),
    "recall_at_precision_0.2": Metric(
        "recall at 20 % precision", "share of buyers found", HIGH, percent=True
    ),
    "recall_at_precision_0.5": Metric(
        "recall at 50 % precision", "share of buyers found", HIGH, percent=True
    ),
    "lift_at_1_percent": Metric(
        "lift at 1 %", "how much more often the highest 1 % buy", HIGH, digits=2
    ),
    "lift_at_5_percent": Metric(
        "lift at 5 %", "how much more often the highest 5 % buy", HIGH, digits=2
    ),
    "next_action_log_loss": Metric("log loss", "mean surprise, in nats", LOW),
    "next_action_accuracy": Metric(
        "accuracy", "how often the likeliest action came", HIGH, percent=True
    ),
}
METRICS |= {
    f"{answer}_{name}": Metric(
        label, meaning, better, None, percent, 3 if name == "rmsle" else digits
    )
    for answer, digits in (("time_to_purchase", 0), ("quantity", 2))
    for name, label, meaning, better, percent in (
        ("mae", "MAE", "mean absolute error", LOW, False),
        ("median_ae", "median error", "median absolute error", LOW, False),
        ("rmse", "RMSE", "root of the mean squared error", LOW, False),
        ("rmsle", "RMSLE", "root of the mean squared error of the logarithms", LOW, False),
        ("within_factor_2", "within half and double", "share of expectations", HIGH, True),
        ("bias", "bias", "by how much the sum is too high", "", True),
    )
}
MODELS = (
    "constant", "constant-median", "popular", "popular-7d", "item-knn", "markov",
    "logistic", "lightgbm", "rectools-sasrec", "last-interval", "shopper-mean",
)  # fmt: skip
COLORS = {
    "shopintent": "#1d4ed8", "constant": "#94a3b8", "popular": "#b08968", "popular-7d": "#7f5539",
    "item-knn": "#0f766e", "markov": "#7c3aed", "logistic": "#d97706", "lightgbm": "#15803d",
    "rectools-sasrec": "#be123c",
}  # fmt: skip
OTHER_OURS = ("#60a5fa", "#0ea5e9", "#818cf8", "#22d3ee", "#93c5fd")
OTHERS = ("#57534e", "#a16207", "#4d7c0f", "#9d174d")


def metric_of(name: str) -> Metric:
    """Returns what is known of a metric; one never heard of keeps its name."""
    base, minus, other = name.partition(MINUS)
    known = METRICS.get(base, Metric(base.replace("_", " "), ""))
    if not minus:
        return known
    label = f"{known.label} minus {other}"
    return Metric(label, known.meaning, known.better, None, known.percent, known.digits)


def ordered(models: Iterable[str]) -> list[str]:
    """Returns model names: ours first, then baselines from the simplest on."""
    place = {model: n for n, model in enumerate(MODELS)}
    return sorted(set(models), key=lambda m: (not is_ours(m), place.get(m, len(place)), m))


def color_of(model: str, models: Iterable[str]) -> str:
    """Returns the color of a model, the same in every plot of these models."""
    if model in COLORS:
        return COLORS[model]
    alike = [each for each in ordered(models) if is_ours(each) == is_ours(model)]
    palette = OTHER_OURS if is_ours(model) else OTHERS
    return palette[[each for each in alike if each not in COLORS].index(model) % len(palette)]


def number(value: float, metric: Metric, *, sign: bool = False) -> str:
    """Returns a value as people read it."""
    plus = "+" if sign else ""
    if metric.percent:
        return f"{100 * value:{plus}.1f} %"
    return f"{value:{plus},.{metric.digits if abs(value) < 1000 else 0}f}"
