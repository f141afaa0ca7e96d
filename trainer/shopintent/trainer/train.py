"""The training, top to bottom: read, fit the tokenizer, learn, stop early, calibrate, save."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from shopintent.behavior import product_text
from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.action_head import fit_action_head
from shopintent.trainer.batches import Batches
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.fit import fit_tokenizer
from shopintent.trainer.learn import learn
from shopintent.trainer.model import IntentNetwork, ModelConfig
from shopintent.trainer.predict import head_inputs
from shopintent.trainer.prefixes import LEARNED_LENGTHS, visit_prefixes
from shopintent.trainer.purchase_head import PurchaseRequests, fit_purchase_head
from shopintent.trainer.run import Run, RunInfo
from shopintent.trainer.sequences import cut_windows
from shopintent.trainer.text import TextEncoder, export_text_encoder
from shopintent.trainer.training_data import (
    TrainingDataError,
    actions,
    check_enough,
    cut_time,
    horizons,
    load_catalog,
    load_inputs,
    newest_share_from,
)


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
    sequences = inputs.sequences
    check_enough(sequences, cut)
    start = dataset.info.observed_from
    validate_from = newest_share_from(dataset, config.validation_share, before=cut)
    training, validation = (
        Batches(
            sequences,
            cut_windows(sequences, after=after, before=before, max_events=config.max_events),
            learn_after=after,
            observed_until=before,
            session_gap_s=dataset.info.session_gap_s,
            batch_events=config.batch_events,
        )
        for after, before in ((start, validate_from), (validate_from, cut))
    )
    if not training.windows:
        raise TrainingDataError(
            "nearly all events before the held-out time happen at one time, so nothing can be "
            "learned from them; check the times of the log"
        )
    history, best_epoch = learn(network, sampler, training, validation, config, on_progress)
    prefixes = visit_prefixes(
        sequences,
        lengths=LEARNED_LENGTHS,
        visits_from=start,
        visits_until=cut,
        observed_until=cut,
        horizons_s=horizons_s,
        session_gap_s=dataset.info.session_gap_s,
        cut_before_purchase=False,
    )
    drawn = np.random.default_rng(config.seed).permutation(len(prefixes))[: config.max_prefixes]
    prefixes = prefixes.take(drawn)
    seen = head_inputs(
        network.cpu().eval(),
        tokenizer,
        prefixes.behaviors(sequences),
        prefixes.request_times,
        on_progress,
    )
    fit_action_head(network, seen, prefixes.next_actions, prefixes.request_times)
    fit_purchase_head(network, PurchaseRequests.of(prefixes, seen))
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
    run = Run(folder, info, network, tokenizer)
    run.save()
    return run
