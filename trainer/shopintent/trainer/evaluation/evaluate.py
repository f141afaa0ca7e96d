"""Judges a run on the visits it never saw, beside the baselines it must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.baselines.logistic import count_features, fit_logistic_regression
from shopintent.trainer.evaluation.metrics import (
    ActionMetrics,
    ProbabilityMetrics,
    RankingMetrics,
    action_metrics,
    probability_metrics,
    ranking_metrics,
)
from shopintent.trainer.export import ServedIntent
from shopintent.trainer.predict import Predictions, embed_products, predict
from shopintent.trainer.prefixes import JUDGED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.run import Run
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import (
    Catalog,
    Inputs,
    load_catalog,
    load_inputs,
)

MAX_RANKED = 5_000
"""Next products ranked over the whole catalog; more are drawn from at random."""
MODEL, BASELINE, CONSTANT = "shopintent", "logistic regression on counts", "constant"
POPULAR = "popular in the last 7 days"


class EvaluationError(ValueError):
    """There is nothing to judge a run on; the message says why."""


@dataclass(frozen=True, eq=False)
class PurchaseResult:
    """Purchase probabilities within one horizon."""

    horizon_s: int
    by_model: dict[str, dict[str, ProbabilityMetrics | None]]
    """Model to slice ("all", "1 event", ..., "cold shoppers") to metrics."""
    probabilities: dict[str, NDArray[np.float64]]
    """Model to [N], of all samples whose label is known."""
    labels: NDArray[np.bool_]  # [N]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that the report says."""

    n_samples: int
    n_undecided: int
    """Samples whose visit holds no purchase yet: those that purchases are judged on."""
    n_shoppers: int
    n_cold_shoppers: int
    """Shoppers that training never saw."""
    purchases: list[PurchaseResult]
    actions: dict[str, ActionMetrics | None]
    products: dict[str, RankingMetrics | None]
    n_next_products: int
    """Samples whose next event is about a product; at most MAX_RANKED of them are ranked."""


def evaluate(run: Run, dataset: Dataset, on_progress: Progress) -> Evaluation:
    """Judges the run on the visits that start in the held-out time."""
    encoder = TextEncoder.open(run.folder)
    catalog = load_catalog(dataset, known_before(run.info.cut_time))
    inputs = load_inputs(dataset, run.tokenizer, encoder, catalog, run.info.actions, on_progress)
    sequences = inputs.sequences
    held_out = prefixes(run, dataset, sequences, held_out=True, cut_before_purchase=False)
    if not len(held_out):
        raise EvaluationError("no visit starts in the held-out time: hold out more of the log")
    predictions = predict(
        ServedIntent(run.network, run.heads),
        run.tokenizer,
        held_out.behaviors(sequences),
        held_out.request_times,
        on_progress,
    )
    before = prefixes(run, dataset, sequences, held_out=False, cut_before_purchase=False)
    learned = prefixes(run, dataset, sequences, held_out=False, cut_before_purchase=True)
    undecided = prefixes(run, dataset, sequences, held_out=True, cut_before_purchase=True)
    judged = np.isin(held_out.ends, undecided.ends)
    cold = cold_samples(run, sequences, held_out)
    purchases = judge_purchases(
        run,
        sequences,
        learned,
        held_out.take(judged),
        cold[judged],
        predictions.purchases[judged],
        on_progress,
    )
    return Evaluation(
        n_samples=len(held_out),
        n_undecided=len(undecided),
        n_shoppers=len(np.unique(held_out.shoppers)),
        n_cold_shoppers=len(np.unique(held_out.shoppers[cold])),
        purchases=purchases,
        actions=judge_actions(run, before, held_out, predictions),
        products=judge_products(run, inputs, catalog, held_out, predictions, on_progress),
        n_next_products=int((next_products(sequences, held_out) > 0).sum()),
    )


def prefixes(
    run: Run, dataset: Dataset, sequences: Sequences, *, held_out: bool, cut_before_purchase: bool
) -> Prefixes:
    """Returns the prefixes of the held-out visits, or of those before them."""
    cut, until = run.info.cut_time, dataset.info.observed_until
    return visit_prefixes(
        sequences,
        lengths=JUDGED_LENGTHS,
        visits_from=cut if held_out else 0,
        visits_until=until + 1 if held_out else cut,
        observed_until=until if held_out else cut,
        horizons_s=run.info.horizons_s,
        session_gap_s=run.info.model.session_gap_s,
        cut_before_purchase=cut_before_purchase,
    )


def cold_samples(run: Run, sequences: Sequences, samples: Prefixes) -> NDArray[np.bool_]:
    """Returns which samples are of shoppers who did nothing before the held-out time."""
    first_times = sequences.event_times[sequences.offsets[:-1]]
    cold: NDArray[np.bool_] = first_times[samples.shoppers] >= run.info.cut_time
    return cold


def judge_purchases(
    run: Run,
    sequences: Sequences,
    learned: Prefixes,
    held_out: Prefixes,
    cold: NDArray[np.bool_],
    predicted: NDArray[np.float32],
    on_progress: Progress,
) -> list[PurchaseResult]:
    """Compares purchase probabilities with a constant and with counts in a logistic regression."""
    n_actions = len(run.info.actions) - 1
    on_progress("fitting baselines", 0, 1)
    learned_counts = count_features(sequences, learned, n_actions)
    counts = count_features(sequences, held_out, n_actions)
    results = []
    for horizon, horizon_s in enumerate(run.info.horizons_s):
        known = held_out.purchase_known[:, 1 + horizon]
        labels = held_out.purchase_labels[known, 1 + horizon]
        fit = learned.purchase_known[:, 1 + horizon]
        past = learned.purchase_labels[fit, 1 + horizon]
        rate = float(past.mean()) if len(past) else 0.0
        probabilities = {
            MODEL: predicted[known, horizon].astype(np.float64),
            CONSTANT: np.full(len(labels), rate),
        }
        baseline = fit_logistic_regression(learned_counts[fit], past)
        if baseline is not None and len(labels):
            probabilities[BASELINE] = baseline.predict_proba(counts[known])[:, 1]
        slices = slices_of(held_out.lengths[known], cold[known])
        by_model = {
            name: {
                each: probability_metrics(p[rows], labels[rows]) for each, rows in slices.items()
            }
            for name, p in probabilities.items()
        }
        results.append(PurchaseResult(horizon_s, by_model, probabilities, labels))
    on_progress("fitting baselines", 1, 1)
    return results


def slices_of(lengths: NDArray[np.int64], cold: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Returns the groups of samples that get a row of their own."""
    slices = {"all": np.ones(len(lengths), bool)}
    for length in JUDGED_LENGTHS:
        slices[f"{length} event{'s' if length > 1 else ''}"] = lengths == length
    return slices | {"warm shoppers": ~cold, "cold shoppers": cold}


def judge_actions(
    run: Run, before: Prefixes, held_out: Prefixes, predictions: Predictions
) -> dict[str, ActionMetrics | None]:
    """Compares the next action with how often each action came before."""
    past = before.next_actions[before.next_actions >= 0]
    counts = np.bincount(past, minlength=len(run.info.actions)) + 1.0
    known = held_out.next_actions >= 0
    came = held_out.next_actions[known]
    return {
        MODEL: action_metrics(predictions.next_actions[known].astype(np.float64), came),
        CONSTANT: action_metrics(np.tile(counts / counts.sum(), (len(came), 1)), came),
    }


def next_products(sequences: Sequences, samples: Prefixes) -> NDArray[np.int64]:
    """Returns the row of the shopper's next event where it is about a product, else 0."""
    following = np.minimum(samples.ends, len(sequences.event_times) - 1)
    same = samples.ends < sequences.offsets[samples.shoppers + 1]
    return np.where(same & (sequences.catalog_rows[following] >= 0), following, 0)


def judge_products(
    run: Run,
    inputs: Inputs,
    catalog: Catalog,
    held_out: Prefixes,
    predictions: Predictions,
    on_progress: Progress,
) -> dict[str, RankingMetrics | None]:
    """Ranks the product of the next event among the whole catalog; seen products are kept."""
    following = next_products(inputs.sequences, held_out)
    asked = np.flatnonzero(following)
    if len(asked) > MAX_RANKED:
        rng = np.random.default_rng(run.info.config.seed)
        asked = np.sort(rng.choice(asked, MAX_RANKED, replace=False))
    wanted = inputs.sequences.catalog_rows[following[asked]]
    products = embed_products(run, inputs, on_progress)
    ranks, top_10 = [], []
    for start in range(0, len(asked), 256):
        rows = slice(start, start + 256)
        scores = predictions.behavior_embeddings[asked[rows]] @ products.T
        ranks.append(rank_of(scores, wanted[rows]))
        top_10.append(np.argpartition(-scores, min(10, scores.shape[1] - 1), axis=1)[:, :10])
        on_progress("ranking products", min(start + 256, len(asked)), len(asked))
    popular = np.arange(len(catalog.products))  # the catalog is in order of popularity
    n_products = len(products)
    if not len(asked):
        return {MODEL: None, POPULAR: None}
    return {
        MODEL: ranking_metrics(np.concatenate(ranks), np.concatenate(top_10), n_products),
        POPULAR: ranking_metrics(popular[wanted], popular[None, :10], n_products),
    }


def rank_of(scores: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the rank of the wanted column in each row of [N, P]; ties count half above it."""
    own = scores[np.arange(len(wanted)), wanted][:, None]
    above, equal = (scores > own).sum(1), (scores == own).sum(1) - 1
    rank: NDArray[np.int64] = above + equal // 2
    return rank
