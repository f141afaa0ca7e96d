"""`p = sigmoid(W^T [H b + X A])` and its parts, each fitted alone: what does each bring?

H is the state of the sequence, X the structured features. A text-only variant reads neither: only
the mean of what the events seen say of their products in words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shopintent.behavior import Behavior, BehaviorTokenizer
from shopintent.behavior.codebook import LEVELS
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.logistic import sigmoid
from shopintent.trainer.predict import head_inputs
from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.purchase_head import PurchaseRequests
from shopintent.trainer.run import Run
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.stack import fit_alone

FIRST_CODE = 2
"""The column of an event's tokens that holds the first code of its text."""


def ablate(
    run: Run,
    sequences: Sequences,
    learned: Prefixes,
    judged: Prefixes,
    on_progress: Progress,
) -> dict[str, NDArray[np.float64]]:
    """Returns [M, C] probabilities of every variant for M judged prefixes.

    They are fitted to the learned prefixes; a column is this visit, the others are the horizons.
    """

    def seen(prefixes: Prefixes) -> tuple[NDArray[np.float32], ...]:
        behaviors = prefixes.behaviors(sequences)
        inputs = head_inputs(
            run.network, run.heads, run.tokenizer, behaviors, prefixes.request_times, on_progress
        )
        readable, features = run.heads.read(torch.tensor(inputs))
        return readable.numpy(), features.numpy(), mean_texts(run.tokenizer, behaviors)

    readable, features, texts = seen(learned)
    asked, _, asked_texts = seen(judged)
    requests = PurchaseRequests.of(learned, readable, features, fresh_from=0)
    return ablations(requests, texts, asked, asked_texts, d_model=run.heads.config.d_model)


def ablations(
    learned: PurchaseRequests,
    learned_texts: NDArray[np.float32],  # [N, E]
    readable: NDArray[np.float32],  # [M, D + X]
    texts: NDArray[np.float32],  # [M, E]
    *,
    d_model: int,
) -> dict[str, NDArray[np.float64]]:
    """Returns [M, C] calibrated probabilities of every variant, fitted to the learned requests.

    `readable` and `texts` are those of the requests to judge, of which nothing else is known.
    """
    views = {
        "sequence-only": (learned.readable[:, :d_model], readable[:, :d_model]),
        "text-only": (learned_texts, texts),
        "structured-only": (learned.readable[:, d_model:], readable[:, d_model:]),
        "fused": (learned.readable, readable),
    }
    return {
        name: np.stack(
            [
                sigmoid(
                    fit_alone(known[learned.known[:, column]], learned.of_column(column)).log_odds(
                        asked
                    )
                )
                for column in range(learned.bought.shape[1])
            ],
            axis=1,
        )
        for name, (known, asked) in views.items()
    }


def mean_texts(tokenizer: BehaviorTokenizer, behaviors: Sequence[Behavior]) -> NDArray[np.float32]:
    """Returns [N, E]: the mean text embedding of the events in view, as their codes tell it.

    Zeros where no event has a text.
    """
    centroids = tokenizer.codebook.centroids
    # Code 0 is no text.
    tables = np.pad(centroids, ((0, 0), (1, 0), (0, 0)))
    means = np.zeros((len(behaviors), tokenizer.codebook.embedding_size), np.float32)
    for row, behavior in enumerate(behaviors):
        codes = behavior.tokens[-tokenizer.max_events :, FIRST_CODE : FIRST_CODE + LEVELS]
        texts = codes[codes[:, 0] > 0]
        if len(texts):
            means[row] = sum(tables[level, texts[:, level]].mean(0) for level in range(LEVELS))
    return means
