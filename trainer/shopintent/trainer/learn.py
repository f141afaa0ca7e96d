"""The training loop, in order: batch, forward, losses, backward, clip, step, validate, keep the
best.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import Batch, Batches
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.checkpoint import Checkpoint, digest_of
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.losses import CHUNK, action_loss, product_loss
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.training_log import TrainingLog
from shopintent.trainer.training_state import TrainingState

MIN_STEPS = 40
"""Batches an epoch at least: a small log is passed over several times before it is judged again."""
MIN_RANKED = 200
"""With fewer next products to rank, the validation loss tells when to stop."""
TOP = 10
MAX_SCORES = 4_000_000_000
"""Of more products times moments, only every so manyth moment is ranked in validation."""


class Listener(Protocol):
    """Hears of every step."""

    def stepped(self, state: TrainingState, batch: Batch) -> None:
        """Called after a step over a batch."""


class Losses(NamedTuple):
    """The losses of a batch."""

    action: Tensor
    product: Tensor

    def total(self, config: TrainConfig) -> Tensor:
        """Returns what training minimizes."""
        return config.action_loss_weight * self.action + config.product_loss_weight * self.product


@dataclass(frozen=True)
class Validation:
    """How good the network is on what it does not learn from."""

    action: float
    product: float
    """Losses."""
    ndcg: float
    """NDCG@10 of the next product among all that training knows."""
    n_ranked: int

    def score(self, config: TrainConfig) -> float:
        """Returns what the best epoch has most of."""
        loss = config.action_loss_weight * self.action + config.product_loss_weight * self.product
        return self.ndcg if self.n_ranked >= MIN_RANKED else -loss


def learn(
    network: IntentNetwork,
    sampler: CandidateSampler,
    training: Batches,
    validation: Batches,
    config: TrainConfig,
    on_progress: Progress,
    *,
    seen_filter: bool = False,
    checkpoint: Checkpoint | None = None,
    log: TrainingLog | None = None,
) -> tuple[list[dict[str, float]], int]:
    """Fits the network, leaves it at its best epoch, and returns the history and that epoch.

    With `seen_filter`, products a shopper has already seen do not count in validation: right for a
    log in which nobody comes back to a product. With a `checkpoint`, training goes on where that
    stands, to the same end as without a stop; raises CheckpointError where it is another's.
    """
    state = TrainingState(network, config)
    if checkpoint is not None:
        digest = digest_of(state, sampler, training, validation, config)
        checkpoint.resume(state, digest)
    listeners = [each for each in (log, checkpoint) if each is not None]
    clock = Clock(config, state.elapsed_s, on_progress)
    while not is_over(state, config, clock):
        train_epoch(state, sampler, training, config, clock, listeners)
        validated = validate(network, sampler, validation, seen_filter=seen_filter)
        line = summary(state.epoch, torch.stack(state.losses).mean(0), validated)
        if log is not None:
            log.judged(state, line)
        state.judge(line, validated.score(config))
        if checkpoint is not None:
            checkpoint.save_when_due(state)
    if checkpoint is not None:
        checkpoint.save(state)
    clock.stop()
    network.load_state_dict(state.best_weights)
    return state.history, state.best_epoch


def is_over(state: TrainingState, config: TrainConfig, clock: Clock) -> bool:
    """Returns whether there is nothing more to do, at the end of an epoch."""
    return bool(state.history and not state.losses) and (
        clock.is_over
        or state.epoch >= config.max_epochs
        or state.epoch - 1 - state.best_epoch >= config.patience
    )


class Clock:
    """How long training may still go on."""

    def __init__(self, config: TrainConfig, elapsed_s: float, on_progress: Progress) -> None:
        self.started = time.monotonic() - elapsed_s
        self.elapsed_s = elapsed_s
        self.seconds = int(config.max_minutes * 60)
        self.on_progress = on_progress

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return int(self.elapsed_s) > self.seconds

    def tick(self) -> float:
        """Returns how long training has gone on, in seconds."""
        self.elapsed_s = time.monotonic() - self.started
        self.show(min(int(self.elapsed_s), self.seconds))
        return self.elapsed_s

    def stop(self) -> None:
        """Shows that no more time is needed."""
        self.show(self.seconds)

    def show(self, done: int) -> None:
        """Tells how much of the time is used."""
        self.on_progress("training, seconds at most", done, self.seconds)


def train_epoch(
    state: TrainingState,
    sampler: CandidateSampler,
    training: Batches,
    config: TrainConfig,
    clock: Clock,
    listeners: Sequence[Listener] = (),
) -> None:
    """Takes the steps of an epoch that are still to be taken, while there is time."""
    precision = matrix_precision(config.precision, sampler.tokens.device)
    done = len(state.losses)
    if not done:
        torch.manual_seed(config.seed + state.epoch)
    state.network.train()
    # Seed and epoch decide the batches, so those already learned from are passed over.
    batches = epoch_of(training, np.random.default_rng((config.seed, state.epoch)))
    for batch in islice(batches, done, None):
        losses = batch_losses(state.network, sampler, batch, precision)
        state.step(losses.total(config), torch.stack(losses))
        state.elapsed_s = clock.tick()
        for listener in listeners:
            listener.stepped(state, batch)
        if clock.is_over:
            break


def matrix_precision(wanted: str, device: torch.device) -> torch.dtype:
    """Returns the type of numbers that matrices are multiplied in; sums are float32 in any case.

    "auto" is bfloat16 where the hardware multiplies matrices of it, else float32.
    """
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def epoch_of(training: Batches, rng: np.random.Generator) -> Iterator[Batch]:
    """Yields whole passes over the windows, as many as make MIN_STEPS batches."""
    steps = 0
    while steps < MIN_STEPS:
        for batch in training.shuffled(rng):
            steps += 1
            yield batch


class Moments(NamedTuple):
    """What the network says at the moments of a batch that have a label."""

    action_logits: Tensor  # [M, A]
    action_labels: Tensor  # [M]
    queries: Tensor  # [N, D]
    product_labels: Tensor  # [N], token ids
    seen: Tensor  # [N, S], token ids of the products seen before, 0 for none


def observe(network: IntentNetwork, batch: Batch, precision: torch.dtype) -> Moments:
    """Returns what the network says at all labeled moments of a batch."""
    device = network.gap_edges.device
    tensors = [torch.as_tensor(array).to(device) for array in batch]
    events, event_times, n_seen, owners, request_times, action_labels, product_labels = tensors
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        states, embeddings = network.observe_all(
            events.long(), event_times, n_seen, owners, request_times
        )
        logits = network.act(states)
    acted, asked = action_labels >= 0, product_labels >= FIRST
    row, slot = asked.nonzero(as_tuple=True)
    own = (owners[row] == owners[row, slot, None]) & (
        torch.arange(owners.shape[1], device=device) <= slot[:, None]
    )
    return Moments(
        action_logits=logits[acted].float(),
        action_labels=action_labels[acted],
        queries=network.queries(embeddings[asked].float()),
        product_labels=product_labels[asked],
        seen=torch.where(own, events[row, :, 1], 0),
    )


def batch_losses(
    network: IntentNetwork,
    sampler: CandidateSampler,
    batch: Batch,
    precision: torch.dtype = torch.float32,
) -> Losses:
    """Returns the losses of one batch at all of its moments."""
    return losses_of(network, sampler, observe(network, batch, precision), precision)


def losses_of(
    network: IntentNetwork, sampler: CandidateSampler, moments: Moments, precision: torch.dtype
) -> Losses:
    """Returns the mean losses at some moments."""
    candidates = sampler.draw(moments.product_labels)
    products = network.products(candidates.tokens, candidates.text_embeddings)
    return Losses(
        action=action_loss(moments.action_logits, moments.action_labels),
        product=product_loss(
            moments.queries, products, candidates.targets, candidates.log_inclusion, precision
        ),
    )


@torch.no_grad()
def validate(
    network: IntentNetwork, sampler: CandidateSampler, validation: Batches, *, seen_filter: bool
) -> Validation:
    """Returns how good the network is over all batches, the same candidates every time."""
    network.eval()
    products = network.products(sampler.tokens, sampler.text_embeddings)
    losses, weights, gains = [], [], [torch.zeros(0)]
    n_slots = int(validation.windows.n_slots.sum())
    every = max(1, n_slots * len(products) // MAX_SCORES)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for batch in validation.in_order():
            moments = observe(network, batch, torch.float32)
            losses.append(torch.stack(losses_of(network, sampler, moments, torch.float32)))
            weights.append([len(moments.action_labels), len(moments.product_labels)])
            seen = moments.seen if seen_filter else moments.seen[:, :0]
            queries, targets = moments.queries[::every], moments.product_labels[::every] - FIRST
            gains.append(ndcg(queries, products, targets, seen[::every]))
    shares = torch.tensor(weights, dtype=torch.float64)
    mean = (torch.stack(losses).double().cpu() * shares).sum(0) / shares.sum(0).clamp(min=1)
    ranked = torch.cat([each.cpu() for each in gains])
    ndcg_mean = float(ranked.mean()) if len(ranked) else 0.0
    return Validation(float(mean[0]), float(mean[1]), ndcg_mean, len(ranked))


def ndcg(queries: Tensor, products: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Returns [N] NDCG@10 of `targets` [N] among [P] products, without those `seen` [N, S]."""
    gains = []
    for start in range(0, len(queries), CHUNK):
        rows = slice(start, start + CHUNK)
        # The last column takes what is no product.
        scores = F.pad(queries[rows] @ products.T, (0, 1))
        own = scores.gather(1, targets[rows, None].long())
        ids = seen[rows].long() - FIRST
        scores.scatter_(1, torch.where(ids >= 0, ids, len(products)), -torch.inf)
        rank = (scores[:, :-1] > own).sum(1)
        gains.append(torch.where(rank < TOP, 1 / torch.log2(rank + 2.0), 0.0))
    return torch.cat(gains) if gains else torch.zeros(0)


def summary(epoch: int, trained: Tensor, validated: Validation) -> dict[str, float]:
    """Returns one line of the history."""
    action, product = trained.tolist()
    return {
        "epoch": epoch,
        "train_action": action,
        "train_product": product,
        "validation_action": validated.action,
        "validation_product": validated.product,
        "validation_ndcg": validated.ndcg,
    }
