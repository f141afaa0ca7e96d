"""Several models judged on the very same requests: of the old slice, and of the newest one.

On the old slice products are ranked among those of the release, as they were then; on the newest
one among all. A release reads products it does not know by their texts, as its server would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.evaluate import (
    MAX_PREFIXES,
    VISIT,
    HeldOut,
    next_product_task,
    some,
)
from shopintent.trainer.evaluation.next_product import (
    EmbeddingScorer,
    NextProductTask,
    rank_products,
)
from shopintent.trainer.evaluation.purchase import (
    Purchases,
    Said,
    Samples,
    action_rows,
    purchase_rows,
)
from shopintent.trainer.evaluation.ranking import found_rows
from shopintent.trainer.evaluation.rows import horizon_name
from shopintent.trainer.export import ServedIntent
from shopintent.trainer.predict import embed_products, predict
from shopintent.trainer.prefixes import JUDGED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.run import Run
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs, load_catalog, load_inputs
from shopintent.trainer.update.split import UpdateSplit
from shopintent.trainer.update.verdict import NEWEST, OLD


@dataclass(frozen=True, eq=False)
class Slice:
    """Visits to judge on, and what could be recommended then."""

    name: str
    visits_from: int
    visits_until: int
    observed_until: int
    log_ends: bool
    candidates: NDArray[np.int64]
    """Rows of the catalog."""


@dataclass(frozen=True, eq=False)
class Model:
    """A run and what it reads."""

    name: str
    run: Run
    inputs: Inputs


def judge(
    runs: Mapping[str, Run],
    dataset: Dataset,
    split: UpdateSplit,
    published: Sequence[str],
    encoder: TextEncoder,
    on_progress: Progress,
) -> list[MetricRow]:
    """Returns the rows of every run on both slices, and of ours minus each other.

    `published` are the ids of the products that the release was published with.
    """
    catalog = load_catalog(dataset, known_before(split.cut_time))
    models = [
        Model(
            name,
            run,
            load_inputs(dataset, run.tokenizer, encoder, catalog, run.info.actions, on_progress),
        )
        for name, run in runs.items()
    ]
    then = set(published)
    ids = models[0].inputs.product_ids
    known = np.array([row for row, each in enumerate(ids) if each in then], np.int64)
    end = dataset.info.observed_until
    slices = [
        Slice(OLD, split.old_cut, split.new_from, split.new_from - 1, True, known),
        Slice(NEWEST, split.cut_time, end + 1, end, True, np.arange(len(ids))),
    ]
    return [row for each in slices for row in rows_of_slice(models, each, split, on_progress)]


def rows_of_slice(
    models: Sequence[Model], judged: Slice, split: UpdateSplit, on_progress: Progress
) -> list[MetricRow]:
    """Returns the rows of all models on one slice."""
    first = models[0]
    prefixes = some(prefixes_of(first, judged), MAX_PREFIXES, split.seed)
    if not len(prefixes):
        return []
    samples = Samples(judged.name, prefixes.lengths, prefixes.shoppers, {})
    held_out = [answered(model, prefixes, samples, on_progress) for model in models]
    rows = ranked(models, held_out, judged, split, on_progress)
    undecided = prefixes.undecided
    open_samples = replace(
        samples, lengths=prefixes.lengths[undecided], shoppers=prefixes.shoppers[undecided]
    )
    info = first.run.info
    asked = prefixes.take(undecided)
    names = (VISIT, *map(horizon_name, info.horizons_s))
    said = [
        Said(
            model.name,
            np.hstack([each.predictions.visit_purchase, each.predictions.purchases])[undecided],
            model.run.info.config.seed,
        )
        for model, each in zip(models, held_out, strict=True)
    ]
    purchases = Purchases(names, asked.purchase_labels, asked.purchase_known)
    rows += purchase_rows(open_samples, purchases, said, on_progress)
    acted = [
        Said(model.name, each.predictions.next_actions, model.run.info.config.seed)
        for model, each in zip(models, held_out, strict=True)
    ]
    return rows + action_rows(samples, prefixes.next_actions, acted)


def prefixes_of(model: Model, judged: Slice) -> Prefixes:
    """Returns what is asked; models differ in how they read it, not in what is there."""
    info = model.run.info
    return visit_prefixes(
        model.inputs.sequences,
        lengths=JUDGED_LENGTHS,
        visits_from=judged.visits_from,
        visits_until=judged.visits_until,
        observed_until=judged.observed_until,
        horizons_s=info.horizons_s,
        session_gap_s=info.model.session_gap_s,
        cut_before_purchase=False,
        log_ends=judged.log_ends,
    )


def answered(model: Model, prefixes: Prefixes, samples: Samples, on_progress: Progress) -> HeldOut:
    """Returns what a model says of the prefixes."""
    run, inputs = model.run, model.inputs
    predictions = predict(
        ServedIntent(run.network, run.heads),
        run.tokenizer,
        prefixes.behaviors(inputs.sequences),
        prefixes.request_times,
        on_progress,
    )
    return HeldOut(run, inputs, prefixes, prefixes, samples, predictions)


def ranked(
    models: Sequence[Model],
    held_out: Sequence[HeldOut],
    judged: Slice,
    split: UpdateSplit,
    on_progress: Progress,
) -> list[MetricRow]:
    """Returns how often each model finds the next product among the candidates."""
    task, asked = next_product_task(held_out[0])
    position = np.full(task.n_products, -1)
    position[judged.candidates] = np.arange(len(judged.candidates))
    possible = position[task.targets] >= 0
    task, asked = among(task.take(possible), position, judged, split), asked[possible]
    if not len(task):
        return []
    rankings = [
        rank_products(
            task,
            EmbeddingScorer(
                model.name,
                each.predictions.behavior_embeddings[asked],
                embed_products(model.run.network, model.run.tokenizer, model.inputs, on_progress)[
                    judged.candidates
                ],
            ),
            seen_filter=False,
            seed=model.run.info.config.seed,
            on_progress=on_progress,
        )
        for model, each in zip(models, held_out, strict=True)
    ]
    return found_rows(task, rankings)


def among(
    task: NextProductTask, position: NDArray[np.int64], judged: Slice, split: UpdateSplit
) -> NextProductTask:
    """Returns the task with products counted among the candidates.

    Cold are the shoppers and products that the serving release never learned of.
    """
    products = np.where(task.products >= 0, position[task.products], -1)
    return replace(
        task,
        split=judged.name,
        n_products=len(judged.candidates),
        products=products,
        learned=task.event_times < split.old_cut,
        targets=position[task.targets],
    )
