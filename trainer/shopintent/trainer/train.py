"""The training, top to bottom: read, fit the tokenizer, learn, stop early, calibrate, save."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shopintent.behavior import BehaviorTokenizer, product_text
from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.fit import fit_tokenizer
from shopintent.trainer.losses import action_loss, product_loss
from shopintent.trainer.model import IntentNetwork, ModelConfig
from shopintent.trainer.prefixes import LEARNED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.purchase_head import PurchaseRequests, fit_purchase_head
from shopintent.trainer.run import Run, RunInfo
from shopintent.trainer.sequences import Batch, Sequences, Window, collate, cut_windows
from shopintent.trainer.text import TextEncoder, export_text_encoder
from shopintent.trainer.training_data import (
    actions,
    cut_time,
    horizons,
    load_catalog,
    load_inputs,
    split_shoppers,
)

RETURNING_SHARE = 0.25
"""How often training asks at the moment a shopper comes back, where one does."""
MAX_SCORES = 12_000_000
"""Next-product scores a batch; where there would be more, a random part of the requests is learned.
"""


def train(dataset: Dataset, config: TrainConfig, folder: Path, on_progress: Progress) -> Run:
    """Trains on everything before the held-out time and saves the run into the folder."""
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cut = cut_time(dataset, holdout_share=config.holdout_share, holdout_days=config.holdout_days)
    action_names, horizons_s = actions(dataset), horizons(dataset)

    folder.mkdir(parents=True, exist_ok=True)
    export_text_encoder(config.text_encoder, folder, max_tokens=config.max_text_tokens)
    encoder = TextEncoder.open(folder)
    catalog = load_catalog(dataset, cut)
    known = catalog.most_seen(config.max_products)
    products = [catalog.products[row] for row in known]
    texts = encoder.encode(map(product_text, products), on_progress)
    tokenizer = fit_tokenizer(
        products,
        texts,
        event_types=dataset.info.event_types,
        code_size=config.code_size,
        max_events=config.max_events,
        seed=config.seed,
    )
    inputs = load_inputs(dataset, tokenizer, encoder, catalog, action_names, on_progress)
    encoder.remember(folder)

    network = IntentNetwork(
        ModelConfig(
            field_sizes=tokenizer.sizes,
            n_actions=len(action_names),
            n_horizons=len(horizons_s),
            text_embedding_size=encoder.embedding_size,
            session_gap_s=dataset.info.session_gap_s,
            max_events=config.max_events,
            d_model=config.d_model,
            n_layers=config.n_layers,
            n_heads=config.n_heads,
            dropout=config.dropout,
            id_dropout=config.id_dropout,
        )
    ).to(device)
    ids = np.arange(FIRST, tokenizer.products.size)[:, None]
    sampler = CandidateSampler(
        tokens=torch.tensor(np.hstack([ids, tokenizer.product_table[FIRST:]]), device=device),
        text_embeddings=torch.tensor(texts, device=device),
        shares=torch.tensor(catalog.n_events[known] / catalog.n_events.sum(), device=device),
        n_negatives=config.n_negatives,
        full_softmax_up_to=config.full_softmax_up_to,
    )
    split = split_shoppers(
        inputs.sequences, cut=cut, share=config.validation_share, seed=config.seed
    )
    train_batches, validation_batches = (
        Batches(inputs.sequences, shoppers, cut, dataset.info.session_gap_s, config)
        for shoppers in (split.train_shoppers, split.validation_shoppers)
    )
    history, best_epoch = learn(
        network, sampler, train_batches, validation_batches, config, on_progress
    )
    on_progress("fitting the purchase head", 0, 1)
    prefixes = visit_prefixes(
        inputs.sequences,
        lengths=LEARNED_LENGTHS,
        visits_from=0,
        visits_until=cut,
        observed_until=cut,
        horizons_s=horizons_s,
        cut_before_purchase=False,
    )
    learned, validating = (
        purchase_requests(
            network,
            tokenizer,
            inputs.sequences,
            prefixes.take(np.isin(prefixes.shoppers, shoppers)),
        )
        for shoppers in (split.train_shoppers, split.validation_shoppers)
    )
    fit_purchase_head(network, learned, validating, config.seed)
    on_progress("fitting the purchase head", 1, 1)
    info = RunInfo(
        dataset=str(dataset.folder.resolve()),
        config=config,
        model=network.config,
        actions=action_names,
        horizons_s=horizons_s,
        cut_time=cut,
        history=tuple(history),
        best_epoch=best_epoch,
    )
    run = Run(folder, info, network.cpu().eval(), tokenizer)
    run.save()
    return run


class Batches:
    """The windows of some shoppers before the cut, as batches."""

    def __init__(
        self,
        sequences: Sequences,
        shoppers: NDArray[np.int64],
        cut: int,
        session_gap_s: int,
        config: TrainConfig,
    ) -> None:
        self.sequences = sequences
        self.windows = cut_windows(sequences, shoppers, before=cut, max_events=config.max_events)
        self.cut = cut
        self.session_gap_s = session_gap_s
        self.batch_size = config.batch_size
        self.rng = np.random.default_rng(config.seed)

    def __len__(self) -> int:
        return -(-len(self.windows) // self.batch_size)

    def shuffled(self) -> Iterator[Batch]:
        """Yields every window once, at random, some asked at the moment the shopper comes back."""
        order = self.rng.permutation(len(self.windows))
        for start in range(0, len(order), self.batch_size):
            drawn = order[start : start + self.batch_size]
            yield self._collate([self.windows[n] for n in drawn], learning=True)

    def in_order(self) -> Iterator[Batch]:
        """Yields every window once, always asked right after the last event."""
        for start in range(0, len(self.windows), self.batch_size):
            yield self._collate(self.windows[start : start + self.batch_size], learning=False)

    def _collate(self, windows: list[Window], *, learning: bool) -> Batch:
        longest = max(window.end - window.start for window in windows)
        drawn = self.rng.random((len(windows), longest + 1)) < RETURNING_SHARE
        return collate(
            self.sequences,
            windows,
            observed_until=self.cut,
            session_gap_s=self.session_gap_s,
            returning=drawn if learning else None,
        )


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
    train_batches: Batches,
    validation_batches: Batches,
    config: TrainConfig,
    on_progress: Progress,
) -> tuple[list[dict[str, float]], int]:
    """Fits the network, leaves it at its best epoch, and returns the history and that epoch."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    history: list[dict[str, float]] = []
    best_epoch, best_loss, best_state = 0, float("inf"), deepcopy(network.state_dict())
    stop_at = time.monotonic() + config.max_minutes * 60
    n_steps = config.max_epochs * len(train_batches)
    for epoch in range(config.max_epochs):
        network.train()
        trained = []
        for step, batch in enumerate(train_batches.shuffled()):
            losses = batch_losses(network, sampler, batch)
            optimizer.zero_grad()
            losses.total(config).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            trained.append([loss.item() for loss in losses])
            done = epoch * len(train_batches) + step + 1
            on_progress("training", done, n_steps)
            if time.monotonic() > stop_at:
                break
        validated = validate(network, sampler, validation_batches)
        history.append(summary(epoch, np.mean(trained, axis=0), validated))
        loss = float(Losses(*torch.tensor(validated)).total(config))
        if loss < best_loss:
            best_epoch, best_loss = epoch, loss
            best_state = deepcopy(network.state_dict())
        if epoch - best_epoch >= config.patience or time.monotonic() > stop_at:
            break
    on_progress("training", n_steps, n_steps)
    network.load_state_dict(best_state)
    return history, best_epoch


def summary(
    epoch: int, trained: NDArray[np.float64], validated: NDArray[np.float64]
) -> dict[str, float]:
    """Returns one line of the history."""
    row: dict[str, float] = {"epoch": epoch}
    for prefix, losses in (("train", trained), ("validation", validated)):
        names = [f"{prefix}_{name}" for name in Losses._fields]
        row.update(zip(names, losses.tolist(), strict=True))
    return row


def batch_losses(network: IntentNetwork, sampler: CandidateSampler, batch: Batch) -> Losses:
    """Returns the losses of one batch at all of its requests."""
    device = sampler.tokens.device
    tensors = [torch.as_tensor(array).to(device) for array in batch]
    events, event_times, n_seen, request_times, action_labels, products = tensors
    states = network.states(events, event_times, n_seen, request_times).flatten(0, 1)  # [B * K, D]
    wanted = (products >= FIRST).flatten().nonzero().squeeze(1)  # requests with a next product
    limit = max(1, MAX_SCORES // min(len(sampler.tokens), sampler.full_softmax_up_to))
    if len(wanted) > limit:
        wanted = wanted[torch.randperm(len(wanted), device=device)[:limit]]
    candidates = sampler.draw(products.flatten()[wanted])
    scores = network.product_scores(
        network.embed(states[wanted]),
        network.products(candidates.tokens, candidates.text_embeddings),
    )
    return Losses(
        action=action_loss(network.act(states), action_labels.flatten()),
        product=product_loss(scores, candidates.targets, candidates.log_inclusion),
    )


@torch.no_grad()
def validate(
    network: IntentNetwork, sampler: CandidateSampler, batches: Batches
) -> NDArray[np.float64]:
    """Returns the losses over all batches, the same sample of candidates every time."""
    network.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = [torch.stack(batch_losses(network, sampler, each)) for each in batches.in_order()]
    mean: NDArray[np.float64] = torch.stack(rows).double().mean(0).cpu().numpy()
    return mean


@torch.no_grad()
def purchase_requests(
    network: IntentNetwork, tokenizer: BehaviorTokenizer, sequences: Sequences, prefixes: Prefixes
) -> PurchaseRequests:
    """Returns what the purchase head sees after each prefix, cut exactly as the server cuts it."""
    network.cpu().eval()
    inputs = []
    for start in range(0, len(prefixes), 256):
        part = prefixes.take(np.arange(start, min(start + 256, len(prefixes))))
        windows = [tokenizer.window(each) for each in part.behaviors(sequences)]
        events = torch.tensor(np.stack([window.tokens for window in windows])).long()
        event_times = torch.tensor(np.stack([window.event_times for window in windows]))
        n_seen = (events[:, :, 0] != 0).sum(1, keepdim=True)
        given = events, event_times, n_seen, torch.tensor(part.request_times[:, None])
        seen = torch.cat([network.states(*given), network.features(*given)], dim=-1)
        inputs.append(seen.squeeze(1).numpy())
    return PurchaseRequests(
        np.concatenate(inputs), prefixes.purchase_labels, prefixes.purchase_known
    )
