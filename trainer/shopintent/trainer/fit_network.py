"""From a prepared dataset and a split of it to a fitted network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shopintent.behavior import BehaviorTokenizer, product_text
from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import Batches, cut_windows
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.checkpoint import Checkpoint
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.fit import fit_tokenizer
from shopintent.trainer.learn import learn
from shopintent.trainer.model import IntentNetwork, ModelConfig
from shopintent.trainer.splits import Split
from shopintent.trainer.text import TextEncoder, export_text_encoder
from shopintent.trainer.training_data import (
    Catalog,
    Inputs,
    TrainingDataError,
    actions,
    check_enough,
    load_catalog,
    load_inputs,
)
from shopintent.trainer.training_log import TrainingLog

MAX_VALIDATED = 20_000
"""Windows that tell when to stop; more are drawn from at random."""


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A network at its best epoch, and what it was fitted to."""

    network: IntentNetwork
    """On the CPU, in evaluation mode."""
    tokenizer: BehaviorTokenizer
    catalog: Catalog
    inputs: Inputs
    history: tuple[dict[str, float], ...]
    """The losses of every epoch."""
    best_epoch: int


@dataclass(frozen=True, eq=False)
class Fit:
    """A network before its training, and all that it learns from."""

    network: IntentNetwork
    """On a GPU where there is one."""
    sampler: CandidateSampler
    training: Batches
    validation: Batches
    """What tells when to stop."""
    tokenizer: BehaviorTokenizer
    catalog: Catalog
    inputs: Inputs

    @property
    def seen_filter(self) -> bool:
        """Whether nobody comes back to a product, so that those seen need not be ranked."""
        return not self.inputs.sequences.any_product_twice()


def fit_network(
    dataset: Dataset,
    split: Split,
    config: TrainConfig,
    folder: Path,
    on_progress: Progress,
    *,
    checkpoint: Checkpoint | None = None,
    log: TrainingLog | None = None,
) -> FittedNetwork:
    """Fits tokenizer and network to what the split lets training know.

    The text encoder and its embeddings are saved into the folder. With a checkpoint, training goes
    on where that stands. Raises TrainingDataError and CheckpointError.
    """
    fit = begin_fit(dataset, split, config, folder, on_progress)
    history, best_epoch = learn(
        fit.network,
        fit.sampler,
        fit.training,
        fit.validation,
        config,
        on_progress,
        seen_filter=fit.seen_filter,
        checkpoint=checkpoint,
        log=log,
    )
    fit.network.products.fold()
    return FittedNetwork(
        fit.network.cpu().eval(),
        fit.tokenizer,
        fit.catalog,
        fit.inputs,
        tuple(history),
        best_epoch,
    )


def begin_fit(
    dataset: Dataset, split: Split, config: TrainConfig, folder: Path, on_progress: Progress
) -> Fit:
    """Fits the tokenizer and makes everything ready for the training of the network.

    The text encoder and its embeddings are saved into the folder. Raises TrainingDataError.
    """
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    action_names = actions(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    export_text_encoder(config.text_encoder, folder, max_tokens=config.max_text_tokens)
    encoder = TextEncoder.open(folder)
    catalog = load_catalog(dataset, split.learned())
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
            text_embedding_size=encoder.embedding_size,
            session_gap_s=dataset.info.session_gap_s,
            max_events=config.max_events,
            d_model=config.d_model,
            n_layers=config.n_layers,
            n_heads=config.n_heads,
            dropout=config.dropout,
            id_dropout=config.id_dropout,
        )
    )
    network.products.unfold(torch.tensor(texts), torch.tensor(tokenizer.codebook.centroids))
    network.to(device)
    sampler = CandidateSampler(
        tokens=torch.tensor(known_tokens(tokenizer), device=device),
        text_embeddings=torch.tensor(texts, device=device),
        shares=torch.tensor(
            catalog.n_events[known] / catalog.n_events.sum(), device=device, dtype=torch.float32
        ),
        n_negatives=config.n_negatives,
        full_softmax_up_to=config.full_softmax_up_to,
    )
    training, validation = batches_of(dataset, inputs, split, config)
    return Fit(network, sampler, training, validation, tokenizer, catalog, inputs)


def known_tokens(tokenizer: BehaviorTokenizer) -> NDArray[np.int32]:
    """Returns [P, 7], the tokens of every product the tokenizer knows, in the order of its ids."""
    ids = np.arange(FIRST, tokenizer.products.size, dtype=np.int32)[:, None]
    return np.hstack([ids, tokenizer.product_table[FIRST:]])


def batches_of(
    dataset: Dataset, inputs: Inputs, split: Split, config: TrainConfig
) -> tuple[Batches, Batches]:
    """Returns what is learned from, and what tells when to stop."""
    sequences = inputs.sequences
    spans = split.training(sequences), split.validation(sequences)
    check_enough(known=int((spans[1].ends > spans[0].begins).sum()))
    windows = [cut_windows(sequences, span, config.max_events) for span in spans]
    if not len(windows[0]):
        raise TrainingDataError(
            "nearly all events before the held-out time happen at one time, so nothing can be "
            "learned from them; check the times of the log"
        )
    drawn = np.random.default_rng(config.seed).permutation(len(windows[1]))[:MAX_VALIDATED]
    windows[1] = windows[1].take(np.sort(drawn))
    training, validation = (
        Batches(sequences, own, span, dataset.info.session_gap_s, config.batch_events)
        for own, span in zip(windows, spans, strict=True)
    )
    return training, validation
