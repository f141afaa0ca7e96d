"""Answers of a trained network for behaviors cut exactly as the server cuts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shopintent.behavior import Behavior, BehaviorTokenizer
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.export import ServedIntent, requests
from shopintent.trainer.heads import IntentHeads
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.training_data import Inputs

BATCH = 256


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the served graph says of N requests, in the order of its outputs."""

    next_actions: NDArray[np.float32]  # [N, A]
    purchases: NDArray[np.float32]  # [N, H]
    behavior_embeddings: NDArray[np.float32]  # [N, D]
    visit_purchase: NDArray[np.float32]  # [N, 1]
    time_to_purchase_s: NDArray[np.float32]  # [N, 1]
    quantity: NDArray[np.float32]  # [N, 1]


def ask(
    tokenizer: BehaviorTokenizer,
    behaviors: Sequence[Behavior],
    request_times: NDArray[np.int64],
    answer: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]],
    on_progress: Progress,
) -> tuple[NDArray[np.float32], ...]:
    """Returns what `answer` says of every behavior, each output with N rows.

    It is given windows [B, T, 9], their times [B, T] and request times [B, 1], shortest behaviors
    first and without the padding that all of a batch share: a causal model answers the same
    without it.
    """
    order = np.argsort([len(each) for each in behaviors], kind="stable")
    parts: list[tuple[Tensor, ...]] = []
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        windows = [tokenizer.window(behaviors[row]) for row in rows]
        longest = min(max(1, *(len(behaviors[row]) for row in rows)), tokenizer.max_events)
        events = np.stack([window.tokens[:longest] for window in windows])
        event_times = np.stack([window.event_times[:longest] for window in windows])
        asked = request_times[rows, None]
        parts.append(answer(*(torch.tensor(array) for array in (events, event_times, asked))))
        on_progress("reading behaviors", start + len(rows), len(order))
    outputs = []
    for column in zip(*parts, strict=True):
        sorted_rows = torch.cat(column).numpy()
        restored = np.empty_like(sorted_rows)
        restored[order] = sorted_rows
        outputs.append(restored)
    return tuple(outputs)


@torch.no_grad()
def predict(
    served: ServedIntent,
    tokenizer: BehaviorTokenizer,
    behaviors: Sequence[Behavior],
    request_times: NDArray[np.int64],
    on_progress: Progress,
) -> Predictions:
    """Returns the answers for each behavior at its request time, in unix seconds."""
    return Predictions(*ask(tokenizer, behaviors, request_times, served, on_progress))


@torch.no_grad()
def head_inputs(
    network: IntentNetwork,
    heads: IntentHeads,
    tokenizer: BehaviorTokenizer,
    behaviors: Sequence[Behavior],
    request_times: NDArray[np.int64],
    on_progress: Progress,
) -> NDArray[np.float32]:
    """Returns [N, D + X + O]: what the heads see, state, structured and order features."""
    served = ServedIntent(network, heads)

    def observe(events: Tensor, event_times: Tensor, request_time: Tensor) -> tuple[Tensor]:
        return (served.observe(events, event_times, request_time)[0],)

    (inputs,) = ask(tokenizer, behaviors, request_times, observe, on_progress)
    return inputs


@torch.no_grad()
def embed_behaviors(
    network: IntentNetwork,
    tokenizer: BehaviorTokenizer,
    behaviors: Sequence[Behavior],
    request_times: NDArray[np.int64],
    on_progress: Progress,
) -> NDArray[np.float32]:
    """Returns [N, D] behavior embeddings, which need no heads."""

    def observe(events: Tensor, event_times: Tensor, request_time: Tensor) -> tuple[Tensor]:
        return (network.observe(*requests(events, event_times, request_time))[1].squeeze(1),)

    (embeddings,) = ask(tokenizer, behaviors, request_times, observe, on_progress)
    return embeddings


@torch.no_grad()
def embed_products(
    network: IntentNetwork, tokenizer: BehaviorTokenizer, inputs: Inputs, on_progress: Progress
) -> NDArray[np.float32]:
    """Returns [P, D] product embeddings of the whole catalog."""
    ids = [tokenizer.products.lookup(product_id) for product_id in inputs.product_ids]
    tokens = np.hstack([np.array(ids, np.int32)[:, None], inputs.content])
    parts = []
    for start in range(0, len(tokens), 4096):
        rows = slice(start, start + 4096)
        given = torch.tensor(tokens[rows]), torch.tensor(inputs.text_embeddings[rows])
        parts.append(network.products(*given).numpy())
        on_progress("embedding products", min(start + 4096, len(tokens)), len(tokens))
    return np.concatenate(parts)
