"""The training, top to bottom: read, fit the tokenizer, learn, stop early, calibrate, save."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shopintent.behavior import BehaviorTokenizer
from shopintent.trainer.checkpoint import Checkpoint
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.fit_network import fit_network
from shopintent.trainer.heads import HeadsConfig, IntentHeads, fit_heads
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.orders import purchase_window_s
from shopintent.trainer.predict import head_inputs
from shopintent.trainer.prefixes import LEARNED_LENGTHS, Prefixes, visit_prefixes
from shopintent.trainer.run import Run, RunInfo
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.training_data import actions, horizons, time_split
from shopintent.trainer.training_log import TrainingLog


def train(
    dataset: Dataset,
    config: TrainConfig,
    folder: Path,
    on_progress: Progress,
    *,
    restart: bool = False,
) -> Run:
    """Trains on everything before the held-out time and saves the run into the folder.

    A training that was killed there goes on, unless it is to `restart`. Raises CheckpointError
    where the folder holds the checkpoint of another training.
    """
    checkpoint = Checkpoint(folder)
    if restart:
        checkpoint.remove()
    split = time_split(dataset, config)
    horizons_s = horizons(dataset)
    with TrainingLog(folder) as log:
        fitted = fit_network(
            dataset, split, config, folder, on_progress, checkpoint=checkpoint, log=log
        )
    sequences, cut = fitted.inputs.sequences, split.cut_time
    prefixes = visit_prefixes(
        sequences,
        lengths=LEARNED_LENGTHS,
        visits_from=dataset.info.observed_from,
        visits_until=cut,
        observed_until=cut,
        horizons_s=horizons_s,
        session_gap_s=dataset.info.session_gap_s,
        cut_before_purchase=False,
    )
    heads = fitted_heads(
        HeadsConfig(
            event_types=fitted.tokenizer.event_types.words,
            n_actions=len(actions(dataset)),
            n_horizons=len(horizons_s),
            d_model=config.d_model,
            session_gap_s=dataset.info.session_gap_s,
            purchase_window_s=purchase_window_s(
                observed_from=dataset.info.observed_from,
                cut=cut,
                observed_until=dataset.info.observed_until,
            ),
        ),
        fitted.network,
        fitted.tokenizer,
        sequences,
        some_of(prefixes, config.max_prefixes, config.seed),
        on_progress,
        fresh_from=split.validate_from,
        observed_until=cut,
    )
    info = RunInfo(
        dataset=str(dataset.folder.resolve()),
        config=config,
        model=fitted.network.config,
        heads=heads.config,
        actions=actions(dataset),
        horizons_s=horizons_s,
        cut_time=cut,
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        observed_until=dataset.info.observed_until,
    )
    run = Run(folder, info, fitted.network, heads, fitted.tokenizer)
    run.save()
    checkpoint.remove()
    return run


def some_of(prefixes: Prefixes, limit: int, seed: int) -> Prefixes:
    """Returns at most that many prefixes, in random order."""
    return prefixes.take(np.random.default_rng(seed).permutation(len(prefixes))[:limit])


def fitted_heads(
    config: HeadsConfig,
    network: IntentNetwork,
    tokenizer: BehaviorTokenizer,
    sequences: Sequences,
    prefixes: Prefixes,
    on_progress: Progress,
    *,
    fresh_from: int,
    observed_until: int,
) -> IntentHeads:
    """Returns heads fitted to what a network says at the ends of prefixes, see `fit_heads`."""
    heads = IntentHeads(config)
    seen = head_inputs(
        network,
        heads,
        tokenizer,
        prefixes.behaviors(sequences),
        prefixes.request_times,
        on_progress,
    )
    fit_heads(
        heads, sequences, prefixes, seen, fresh_from=fresh_from, observed_until=observed_until
    )
    return heads
