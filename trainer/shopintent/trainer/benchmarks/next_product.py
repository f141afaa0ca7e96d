"""What the next-product benchmarks share: the task, our scorers, and every model's ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.baselines.item_knn import fit_item_knn
from shopintent.trainer.evaluation.baselines.popular import Popular, PopularLately
from shopintent.trainer.evaluation.next_product import (
    EmbeddingScorer,
    NextProductTask,
    Ranking,
    Scorer,
    rank_products,
)
from shopintent.trainer.fit_network import FittedNetwork
from shopintent.trainer.predict import embed_behaviors, embed_products
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.splits import Split
from shopintent.trainer.training_data import Inputs

MODEL = "shopintent"
TEXT_ONLY = "shopintent-text-only"
FADING = 0.7
"""The weight of a product in the text-only model, relative to the one seen after it."""


def last_product_task(sequences: Sequences, split: Split, n_products: int) -> NextProductTask:
    """Returns the task to foretell every shopper's last held-out event.

    All events before it are known when it is asked for, held-out ones too; its own time is not: the
    request is made right after the event before it.
    """
    known, held_out = split.validation(sequences).ends, split.held_out(sequences)
    last = held_out.ends - 1
    asked = (held_out.begins < held_out.ends) & (last > sequences.offsets[:-1])
    asked &= sequences.catalog_rows[np.maximum(last, 0)] >= 0
    owners = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
    return NextProductTask(
        split=split.name,
        n_products=n_products,
        offsets=sequences.offsets,
        products=sequences.catalog_rows,
        event_times=sequences.event_times,
        learned=np.arange(len(owners)) < known[owners],
        shoppers=np.flatnonzero(asked),
        ends=last[asked],
        request_times=sequences.event_times[last[asked] - 1],
        targets=sequences.catalog_rows[last[asked]],
    )


def our_scorer(
    fitted: FittedNetwork, inputs: Inputs, task: NextProductTask, on_progress: Progress
) -> EmbeddingScorer:
    """Returns the network's scorer, which answers as the server would."""
    pairs = zip(task.shoppers.tolist(), task.ends.tolist(), strict=True)
    behaviors = embed_behaviors(
        fitted.network,
        fitted.tokenizer,
        [inputs.sequences.behavior(shopper, end) for shopper, end in pairs],
        task.request_times,
        on_progress,
    )
    products = embed_products(fitted.network, fitted.tokenizer, inputs, on_progress)
    return EmbeddingScorer(MODEL, behaviors, products)


def text_only(inputs: Inputs, task: NextProductTask) -> EmbeddingScorer:
    """Returns what nobody trained: products whose texts are like those of the products seen."""
    position, product, age = task.seen(np.arange(len(task)))
    behaviors = np.zeros((len(task), inputs.text_embeddings.shape[1]), np.float32)
    weights = np.float32(FADING) ** age
    np.add.at(behaviors, position, weights[:, None] * inputs.text_embeddings[product])
    return EmbeddingScorer(TEXT_ONLY, behaviors, inputs.text_embeddings)


def baselines(
    task: NextProductTask, seed: int, on_progress: Progress, *, seen_filter: bool
) -> list[Scorer]:
    """Returns what needs nothing but counting; the filter is that of the tuning."""
    knn = fit_item_knn(task, seed=seed, seen_filter=seen_filter, on_progress=on_progress)
    return [Popular(task), PopularLately(task), knn]


def rankings(
    task: NextProductTask,
    scorers: Sequence[tuple[Scorer, int | None]],
    on_progress: Progress,
    *,
    seen_filter: bool,
) -> list[Ranking]:
    """Returns every scorer's ranking; a scorer comes with the seed of its fit."""
    return [
        rank_products(task, scorer, seen_filter=seen_filter, seed=seed, on_progress=on_progress)
        for scorer, seed in scorers
    ]


def without(task: NextProductTask, withheld: NDArray[np.bool_]) -> NextProductTask:
    """Returns the requests for products [P] that are withheld from everybody's training."""
    kept = (task.products < 0) | ~withheld[task.products]
    return replace(task, learned=task.learned & kept).take(withheld[task.targets])
