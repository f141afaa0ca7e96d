"""Answers of a trained network for behaviors cut exactly as the server cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from shopintent.behavior import Behavior, BehaviorTokenizer
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.export import ServedIntent

BATCH = 256


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the served graph says of N requests."""

    next_actions: NDArray[np.float32]  # [N, A]
    purchases: NDArray[np.float32]  # [N, H]
    behavior_embeddings: NDArray[np.float32]  # [N, D]


@torch.no_grad()
def predict(
    served: ServedIntent,
    tokenizer: BehaviorTokenizer,
    behaviors: Sequence[Behavior],
    request_times: NDArray[np.int64],
    on_progress: Progress,
) -> Predictions:
    """Returns the answers for each behavior at its request time, in unix seconds."""
    answers = []
    for start in range(0, len(behaviors), BATCH):
        windows = [tokenizer.window(each) for each in behaviors[start : start + BATCH]]
        answers.append(
            served(
                torch.tensor(np.stack([window.tokens for window in windows])),
                torch.tensor(np.stack([window.event_times for window in windows])),
                torch.tensor(request_times[start : start + BATCH, None]),
            )
        )
        on_progress("predicting", start + len(windows), len(behaviors))
    columns = zip(*answers, strict=True)
    return Predictions(*(torch.cat(column).numpy() for column in columns))
