"""The training loop, in order: batch, forward, losses, backward, clip, step, validate, keep the
best.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import Batches
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.losses import action_loss, product_loss
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.sequences import Batch

MAX_SCORES = 12_000_000
"""Next-product scores a batch; where there would be more, a random part of the requests counts."""
WARM_UP_STEPS = 50
MIN_STEPS = 40
"""Batches an epoch at least: a small log is passed over several times before it is judged again."""


class Losses(NamedTuple):
    """The losses of a batch."""

    action: Tensor
    product: Tensor

    def total(self, config: TrainConfig) -> Tensor:
        """Returns what training minimizes."""
        return config.action_loss_weight * self.action + config.product_loss_weight * self.product


def learn(
    network: IntentNetwork,
    sampler: CandidateSampler,
    training: Batches,
    validation: Batches,
    config: TrainConfig,
    on_progress: Progress,
) -> tuple[list[dict[str, float]], int]:
    """Fits the network, leaves it at its best epoch, and returns the history and that epoch."""
    rng = np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=WARM_UP_STEPS)
    history: list[dict[str, float]] = []
    best_epoch, best_loss, best_state = 0, float("inf"), deepcopy(network.state_dict())
    started = time.monotonic()
    seconds = int(config.max_minutes * 60)
    for epoch in range(config.max_epochs):
        network.train()
        trained = []
        for batch in epoch_of(training, rng):
            losses = batch_losses(network, sampler, batch)
            optimizer.zero_grad()
            losses.total(config).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            warm_up.step()
            trained.append([loss.item() for loss in losses])
            elapsed = int(time.monotonic() - started)
            on_progress("training, seconds at most", min(elapsed, seconds), seconds)
            if elapsed > seconds:
                break
        validated = validate(network, sampler, validation)
        history.append(summary(epoch, np.mean(trained, axis=0), validated))
        loss = float(Losses(*torch.tensor(validated)).total(config))
        if loss < best_loss:
            best_epoch, best_loss = epoch, loss
            best_state = deepcopy(network.state_dict())
        if epoch - best_epoch >= config.patience or elapsed > seconds:
            break
    on_progress("training, seconds at most", seconds, seconds)
    network.load_state_dict(best_state)
    return history, best_epoch


def epoch_of(training: Batches, rng: np.random.Generator) -> Iterator[Batch]:
    """Yields whole passes over the windows, as many as make MIN_STEPS batches."""
    steps = 0
    while steps < MIN_STEPS:
        for batch in training.shuffled(rng):
            steps += 1
            yield batch


def batch_losses(network: IntentNetwork, sampler: CandidateSampler, batch: Batch) -> Losses:
    """Returns the losses of one batch at all of its requests."""
    device = sampler.tokens.device
    tensors = [torch.as_tensor(array).to(device) for array in batch]
    events, event_times, n_seen, request_times, action_labels, products = tensors
    states, embeddings = network.observe(events, event_times, n_seen, request_times)
    wanted = (products >= FIRST).flatten().nonzero().squeeze(1)  # requests with a next product
    limit = max(1, MAX_SCORES // min(len(sampler.tokens), sampler.full_softmax_up_to))
    if len(wanted) > limit:
        wanted = wanted[torch.randperm(len(wanted), device=device)[:limit]]
    candidates = sampler.draw(products.flatten()[wanted])
    scores = network.product_scores(
        embeddings.flatten(0, 1)[wanted],
        network.products(candidates.tokens, candidates.text_embeddings),
    )
    return Losses(
        action=action_loss(network.act(states).flatten(0, 1), action_labels.flatten()),
        product=product_loss(scores, candidates.targets, candidates.log_inclusion),
    )


@torch.no_grad()
def validate(
    network: IntentNetwork, sampler: CandidateSampler, validation: Batches
) -> NDArray[np.float64]:
    """Returns the losses over all batches, the same sample of candidates every time."""
    network.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = [torch.stack(batch_losses(network, sampler, each)) for each in validation.in_order()]
    mean: NDArray[np.float64] = torch.stack(rows).double().mean(0).cpu().numpy()
    return mean


def summary(
    epoch: int, trained: NDArray[np.float64], validated: NDArray[np.float64]
) -> dict[str, float]:
    """Returns one line of the history."""
    row: dict[str, float] = {"epoch": epoch}
    for prefix, losses in (("train", trained), ("validation", validated)):
        names = [f"{prefix}_{name}" for name in Losses._fields]
        row.update(zip(names, losses.tolist(), strict=True))
    return row
