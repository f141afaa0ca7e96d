"""Judges a run on the visits it never saw, beside the baselines it must beat."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shopintent.artifacts import signature
from shopintent.artifacts.metrics import MetricRow
from shopintent.behavior import Product
from shopintent.trainer.ablation import ablate
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation import bootstrap
from shopintent.trainer.evaluation.baselines.item_knn import fit_item_knn
from shopintent.trainer.evaluation.baselines.lightgbm import fit_lightgbm
from shopintent.trainer.evaluation.baselines.logistic import fit_logistic
from shopintent.trainer.evaluation.baselines.markov import MarkovChain
from shopintent.trainer.evaluation.baselines.popular import Popular, PopularLately
from shopintent.trainer.evaluation.comparison import OURS
from shopintent.trainer.evaluation.next_product import (
    TIE_ORDER,
    EmbeddingScorer,
    NextProductTask,
    Scorer,
    rank_products,
)
from shopintent.trainer.evaluation.purchase import (
    Purchases,
    Said,
    Samples,
    action_rows,
    purchase_curves,
    purchase_rows,
)
from shopintent.trainer.evaluation.ranking import ProductContent, ranking_rows
from shopintent.trainer.evaluation.regression import Expected, order_rows
from shopintent.trainer.evaluation.rows import horizon_name
from shopintent.trainer.evaluation.sections import Report
from shopintent.trainer.export import ServedIntent
from shopintent.trainer.predict import Predictions, ask, embed_products, predict
from shopintent.trainer.prefixes import JUDGED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.run import Run, weights_digest
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs, load_catalog, load_inputs

SPLIT = "time"
VISIT = "session"
MAX_PREFIXES = 50_000
"""Prefixes that purchases and actions are judged on, and as many that baselines are fitted to."""
MAX_RANKED, MIN_RANKED, RANKED_CELLS = 5_000, 500, 1_000_000_000
"""Next products ranked over the whole catalog; fewer where there are many products."""
FEW_REPEATS = 0.01
"""With fewer products that come again, a ranking without the products seen is judged too."""


class EvaluationError(ValueError):
    """There is nothing to judge a run on; the message says why."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a run is judged on, and what it said."""

    run: Run
    inputs: Inputs
    learned: Prefixes
    """Of visits before the held-out time, for the baselines."""
    prefixes: Prefixes
    samples: Samples
    predictions: Predictions

    @property
    def sequences(self) -> Sequences:
        """The events of all shoppers."""
        return self.inputs.sequences

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.run.info.config.seed


def evaluate(
    run: Run, dataset: Dataset, on_progress: Progress, *, ablation: bool = False
) -> Report:
    """Judges the run on the visits that start in the held-out time.

    With `ablation`, the parts of the purchase head are fitted and judged alone too. Raises
    EvaluationError when there are no such visits.
    """
    encoder = TextEncoder.open(run.folder)
    catalog = load_catalog(dataset, known_before(run.info.cut_time))
    inputs = load_inputs(dataset, run.tokenizer, encoder, catalog, run.info.actions, on_progress)
    whole = prefixes(run, dataset, inputs.sequences, held_out=True)
    if not len(whole):
        raise EvaluationError("no visit starts in the held-out time: hold out more of the log")
    judged = some(whole, MAX_PREFIXES, run.info.config.seed)
    predictions = predict(
        ServedIntent(run.network, run.heads),
        run.tokenizer,
        judged.behaviors(inputs.sequences),
        judged.request_times,
        on_progress,
    )
    learned = some(
        prefixes(run, dataset, inputs.sequences, held_out=False),
        MAX_PREFIXES,
        run.info.config.seed,
    )
    samples = samples_of(run, inputs.sequences, judged)
    held_out = HeldOut(run, inputs, learned, judged, samples, predictions)
    bought, purchases, said = purchase_answers(held_out, on_progress)
    if ablation:
        said += ablated_answers(held_out, on_progress)
    products = ranked_products(held_out, product_content(inputs, catalog.products), on_progress)
    rows = purchase_rows(bought, purchases, said, on_progress)
    on_progress("judging other answers", 0, 2)
    rows += action_rows(samples, judged.next_actions, action_answers(held_out))
    on_progress("judging other answers", 1, 2)
    rows += expectation_rows(held_out, dataset)
    on_progress("judging other answers", 2, 2)
    info = dataset.info
    return Report(
        title=f"Evaluation on {info.mapping}",
        summary=f"{info.n_shoppers:,} shoppers, {info.n_products:,} products, "
        f"{info.n_events:,} events. Judged on visits that start from "
        f"{moment(run.info.cut_time)} on, which training never saw.",
        protocol=protocol(held_out, dataset, n_prefixes=len(whole), notes=products.notes),
        rows=[*products.rows, *rows],
        curves=purchase_curves(bought, purchases, said),
        history=run.info.history,
        best_epoch=run.info.best_epoch,
    )


def prefixes(run: Run, dataset: Dataset, sequences: Sequences, *, held_out: bool) -> Prefixes:
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
        cut_before_purchase=False,
        log_ends=held_out,
    )


def some(whole: Prefixes, limit: int, seed: int) -> Prefixes:
    """Returns at most that many prefixes, drawn at random."""
    if len(whole) <= limit:
        return whole
    drawn = np.random.default_rng(seed).choice(len(whole), limit, replace=False)
    return whole.take(np.sort(drawn))


def samples_of(run: Run, sequences: Sequences, judged: Prefixes) -> Samples:
    """Returns the prefixes in groups: a cold shopper did nothing before the held-out time."""
    first_times = sequences.event_times[sequences.offsets[:-1]]
    cold = first_times[judged.shoppers] >= run.info.cut_time
    slices = {"cold-shoppers": cold, "warm-shoppers": ~cold}
    return Samples(SPLIT, judged.lengths, judged.shoppers, slices)


def purchase_answers(
    held_out: HeldOut, on_progress: Progress
) -> tuple[Samples, Purchases, list[Said]]:
    """Returns prefixes whose visit holds no purchase yet, what came, and what was said of it."""
    run, chosen = held_out.run, held_out.prefixes.undecided
    judged = held_out.prefixes.take(chosen)
    learned = held_out.learned.take(held_out.learned.undecided)
    names = (VISIT, *map(horizon_name, run.info.horizons_s))
    purchases = Purchases(names, judged.purchase_labels, judged.purchase_known)
    ours = np.hstack([held_out.predictions.visit_purchase, held_out.predictions.purchases])
    said = [
        Said(OURS, ours[chosen], held_out.seed),
        constant_answer(learned, len(judged)),
        *fitted_answers(held_out, learned, judged, on_progress),
    ]
    return samples_of(run, held_out.sequences, judged), purchases, said


def ablated_answers(held_out: HeldOut, on_progress: Progress) -> list[Said]:
    """Returns what sequence, text and structured features say alone, and fused."""
    judged = held_out.prefixes.take(held_out.prefixes.undecided)
    parts = ablate(held_out.run, held_out.sequences, held_out.learned, judged, on_progress)
    return [Said(f"{OURS}-{name}", said, held_out.seed) for name, said in parts.items()]


def constant_answer(learned: Prefixes, n_judged: int) -> Said:
    """Returns how often the learned prefixes bought, for all."""
    bought = (learned.purchase_labels & learned.purchase_known).sum(0)
    rates = (bought + 0.5) / (learned.purchase_known.sum(0) + 1.0)
    return Said("constant", np.tile(rates, (n_judged, 1)))


def fitted_answers(
    held_out: HeldOut, learned: Prefixes, judged: Prefixes, on_progress: Progress
) -> list[Said]:
    """Returns what logistic regression and LightGBM say, NaN where nothing can be told apart."""
    seen, asked = (hand_features(held_out, each, on_progress) for each in (learned, judged))
    logistic, trees = (np.full(judged.purchase_labels.shape, np.nan) for _ in range(2))
    n_columns = judged.purchase_labels.shape[1]
    for column in range(n_columns if len(judged) else 0):
        on_progress("fitting baselines", column, n_columns)
        known = learned.purchase_known[:, column]
        given = seen[known], learned.purchase_labels[known, column], learned.shoppers[known]
        regression, booster = fit_logistic(*given), fit_lightgbm(*given)
        if regression is not None:
            logistic[:, column] = regression.predict_proba(asked)[:, 1]
        if booster is not None:
            trees[:, column] = np.asarray(booster.predict(asked))
    on_progress("fitting baselines", n_columns, n_columns)
    return [Said("logistic", logistic), Said("lightgbm", trees)]


def hand_features(held_out: HeldOut, asked: Prefixes, on_progress: Progress) -> NDArray[np.float32]:
    """Returns [N, X]: what ours counts of a shopper too."""
    heads, run = held_out.run.heads, held_out.run
    behaviors = asked.behaviors(held_out.sequences)

    def count(*given: Tensor) -> tuple[Tensor]:
        return (heads.features(*given),)

    if not len(asked):
        return np.zeros((0, 1), np.float32)
    (features,) = ask(run.tokenizer, behaviors, asked.request_times, count, on_progress)
    return features[:, : heads.config.n_inputs - heads.config.d_model]


def action_answers(held_out: HeldOut) -> list[Said]:
    """Returns what was said of the next action of every prefix."""
    past = held_out.learned.next_actions
    counts = np.bincount(past[past >= 0], minlength=len(held_out.run.info.actions)) + 1.0
    constant = np.tile(counts / counts.sum(), (len(held_out.prefixes), 1))
    chain = MarkovChain.fit(
        held_out.sequences,
        known_before=held_out.run.info.cut_time,
        n_actions=len(held_out.run.info.actions),
    )
    return [
        Said(OURS, held_out.predictions.next_actions, held_out.seed),
        Said("constant", constant),
        Said("markov", chain.predict(held_out.sequences, held_out.prefixes.ends)),
    ]


def expectation_rows(held_out: HeldOut, dataset: Dataset) -> list[MetricRow]:
    """Returns how far off the expected time to purchase and quantity are."""
    answers, heads = held_out.predictions, held_out.run.heads
    said = heads.answers
    expected = Expected(
        OURS,
        answers.time_to_purchase_s[:, 0] if signature.EXPECTED_TIME_TO_PURCHASE_S in said else None,
        answers.quantity[:, 0] if signature.EXPECTED_QUANTITY in said else None,
        held_out.seed,
    )
    return order_rows(
        held_out.samples,
        held_out.sequences,
        held_out.learned,
        held_out.prefixes,
        [expected],
        window_s=held_out.run.info.heads.purchase_window_s,
        cut=held_out.run.info.cut_time,
        observed_until=dataset.info.observed_until,
    )


@dataclass(frozen=True)
class RankedProducts:
    """Rows of next products, and how they were ranked."""

    rows: list[MetricRow]
    notes: dict[str, Any]


def ranked_products(
    held_out: HeldOut, content: ProductContent, on_progress: Progress
) -> RankedProducts:
    """Ranks the product of each prefix's next event among the whole catalog.

    Seen products stay in, since shoppers come back to them; where they hardly do, both are judged.
    """
    task, asked = next_product_task(held_out)
    if not len(task):
        return RankedProducts([], {"requests": 0})
    position, product, _ = task.seen(np.arange(len(task)))
    again = np.zeros(len(task), bool)
    again[position[product == task.targets[position]]] = True
    run = held_out.run
    ours = EmbeddingScorer(
        OURS,
        held_out.predictions.behavior_embeddings[asked],
        embed_products(run.network, run.tokenizer, held_out.inputs, on_progress),
    )
    notes: dict[str, Any] = {
        "requests": len(task),
        "repeats": f"{again.mean():.1%} of the products that came had been seen by the shopper",
        "diversity": content.diversity,
    }
    rows = []
    for seen_filter in (True, False) if again.mean() < FEW_REPEATS else (False,):
        knn = fit_item_knn(
            task, seed=held_out.seed, seen_filter=seen_filter, on_progress=on_progress
        )
        scorers: list[tuple[Scorer, int | None]] = [
            (ours, held_out.seed), (Popular(task), None), (PopularLately(task), None), (knn, None),
        ]  # fmt: skip
        rankings = [
            rank_products(task, each, seen_filter=seen_filter, seed=seed, on_progress=on_progress)
            for each, seed in scorers
        ]
        rows += ranking_rows(task, rankings, content)
        name = "item-knn, filter on" if seen_filter else "item-knn, filter off"
        notes[name] = {"fading": knn.fading, "repeat": knn.repeat}
    return RankedProducts(rows, notes)


def next_product_task(held_out: HeldOut) -> tuple[NextProductTask, NDArray[np.int64]]:
    """Returns the task of some prefixes whose next event is about a product.

    Its second part says which prefixes they are.
    """
    sequences, judged = held_out.sequences, held_out.prefixes
    following = np.minimum(judged.ends, len(sequences.event_times) - 1)
    same = judged.ends < sequences.offsets[judged.shoppers + 1]
    asked = np.flatnonzero(same & (sequences.catalog_rows[following] >= 0))
    limit = max_ranked(len(held_out.inputs.product_ids))
    if len(asked) > limit:
        drawn = np.random.default_rng(held_out.seed).choice(asked, limit, replace=False)
        asked = np.sort(drawn)
    task = NextProductTask(
        split=SPLIT,
        n_products=len(held_out.inputs.product_ids),
        offsets=sequences.offsets,
        products=sequences.catalog_rows,
        event_times=sequences.event_times,
        learned=sequences.event_times < held_out.run.info.cut_time,
        shoppers=judged.shoppers[asked],
        ends=judged.ends[asked],
        request_times=judged.request_times[asked],
        targets=sequences.catalog_rows[following[asked]],
    )
    return task, asked


def max_ranked(n_products: int) -> int:
    """Returns how many requests are ranked at most, so that evaluating takes minutes."""
    return min(MAX_RANKED, max(MIN_RANKED, RANKED_CELLS // n_products))


def product_content(inputs: Inputs, products: list[Product]) -> ProductContent:
    """Returns what products have in common: their texts, or categories where there are no texts."""
    if any(product.title or product.description for product in products):
        lengths = np.linalg.norm(inputs.text_embeddings, axis=1, keepdims=True)
        texts = inputs.text_embeddings / np.maximum(lengths, 1e-9)
        return ProductContent(texts, np.zeros(len(products), np.int64))
    # A product without a category has none in common with any other.
    names = [
        product.categories[0] if product.categories else f"\0{row}"
        for row, product in enumerate(products)
    ]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return ProductContent(None, np.array([numbers[name] for name in names]))


def protocol(
    held_out: HeldOut, dataset: Dataset, *, n_prefixes: int, notes: dict[str, Any]
) -> dict[str, Any]:
    """Returns everything without which the numbers mean nothing."""
    run, info, judged = held_out.run, dataset.info, held_out.prefixes
    cold = held_out.samples.slices["cold-shoppers"]
    lengths = ", ".join(map(str, JUDGED_LENGTHS))
    return {
        "data": info.mapping,
        "shoppers": info.n_shoppers,
        "products": info.n_products,
        "events": info.n_events,
        "observed": f"{moment(info.observed_from)} to {moment(info.observed_until)}",
        "split": f"by time: held out are the visits that start from {moment(run.info.cut_time)} on",
        "cut_time": run.info.cut_time,
        "samples": f"prefixes of {lengths} events of each visit, with all that the shopper did "
        f"before; {len(judged):,} of {n_prefixes:,} prefixes (at most {MAX_PREFIXES:,}, drawn at "
        f"random), of {len(np.unique(judged.shoppers)):,} shoppers, "
        f"{len(np.unique(judged.shoppers[cold])):,} of whom training never saw",
        "request_time": "right after the last event of the prefix; the time of what comes next is "
        "not known",
        "purchases": f"judged on the {int(judged.undecided.sum()):,} prefixes that hold no "
        "purchase yet; a label counts where the log goes on long enough to tell",
        "baselines_learned_from": f"{len(held_out.learned):,} prefixes of earlier visits (at most "
        f"{MAX_PREFIXES:,}, drawn at random) and all earlier events",
        "next_product": "the product of the next event, ranked among the whole catalog; at most "
        f"{max_ranked(info.n_products):,} requests, drawn at random",
        "ties": TIE_ORDER,
        "ranking": notes,
        "seed": run.info.config.seed,
        "run": weights_digest(run.folder),
        "intervals": bootstrap.describe(),
    }


def moment(time: int) -> str:
    """Returns unix seconds as people write them."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
