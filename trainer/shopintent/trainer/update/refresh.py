"""The update, top to bottom: open, merge, grow, learn, fit heads, judge beside what serves."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shopintent.artifacts.metrics import MetricRow
from shopintent.behavior import BehaviorTokenizer, Product, product_text
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.checkpoint import Checkpoint
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.comparison import OURS
from shopintent.trainer.evaluation.report import write_report
from shopintent.trainer.evaluation.sections import Report
from shopintent.trainer.fit_network import batches_of, known_tokens
from shopintent.trainer.learn import learn
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.run import Run, RunInfo
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.train import fitted_heads
from shopintent.trainer.training_data import Catalog, load_catalog, load_inputs
from shopintent.trainer.training_log import TrainingLog
from shopintent.trainer.update.config import UpdateConfig, UpdateError
from shopintent.trainer.update.grow import grown_network, grown_tokenizer
from shopintent.trainer.update.judge import judge
from shopintent.trainer.update.merge import merge
from shopintent.trainer.update.report import report_of
from shopintent.trainer.update.serving import Serving, open_serving
from shopintent.trainer.update.split import UpdateSplit, split_update, without_old_slice
from shopintent.trainer.update.verdict import NEWEST, OLD, SERVING, changes, forgotten

DATASET, REPORT = "dataset", "update"
"""Of an update's folder: the merged dataset, and what it was judged by."""


@dataclass(frozen=True, eq=False)
class Updated:
    """A finished update, better or worse than what serves."""

    run: Run
    serving: Serving
    dataset: Dataset
    split: UpdateSplit
    report: Report
    unknown_types: dict[str, int]
    """Events left out because the release never learned their types."""
    refusals: list[str]
    """Why it must not be published; then the run is not saved."""


def update(
    releases: str,
    new: Dataset,
    replay: Dataset | None,
    config: UpdateConfig,
    folder: Path,
    on_progress: Progress,
    *,
    restart: bool = False,
) -> Updated:
    """Goes on from the release that serves, and saves the run unless the past was forgotten.

    An update that was killed goes on by the same call. Raises UpdateError and CheckpointError.
    """
    checkpoint = Checkpoint(folder)
    if restart:
        checkpoint.remove()
    (folder / "run.json").unlink(missing_ok=True)  # Until this update is found good there is none.
    started = time.process_time()
    serving = open_serving(releases, folder, on_progress)
    merged = merge(serving, replay, new, folder / DATASET)
    split = split_update(merged.dataset, serving.run.info, config)
    run, n_replayed = refreshed(
        serving, merged.dataset, split, config, folder, on_progress, checkpoint
    )
    seconds = time.process_time() - started
    encoder = TextEncoder.open(folder)
    published = [each.product_id for each in serving.products]
    runs = {OURS: run, SERVING: serving.run}
    rows = judge(runs, merged.dataset, split, published, encoder, on_progress)
    check_judged(rows)
    refusals = forgotten(rows, config.max_old_loss)
    told = {"replayed_shoppers": n_replayed, "processor_seconds": seconds, "refused": refusals}
    report = report_of(run, serving, merged.dataset, split, config, rows, told)
    write_report(folder / REPORT, report)
    if not refusals:
        run.save()
    checkpoint.remove()
    return Updated(run, serving, merged.dataset, split, report, merged.unknown_types, refusals)


def check_judged(rows: list[MetricRow]) -> None:
    """Raises UpdateError where a slice holds nothing that can be judged: no news is not good."""
    for name in (OLD, NEWEST):
        if not any(change.row.metric == "ndcg" for change in changes(rows, name)):
            raise UpdateError(
                f"no visit of the {name} slice has a next product to judge by: give more of the log"
            )


def refreshed(
    serving: Serving,
    dataset: Dataset,
    split: UpdateSplit,
    config: UpdateConfig,
    folder: Path,
    on_progress: Progress,
    checkpoint: Checkpoint,
) -> tuple[Run, int]:
    """Returns the run that learned what the split allows, and how many shoppers were replayed."""
    info = serving.run.info
    train_config = settings_of(info.config, config, split)
    torch.manual_seed(config.seed)
    encoder = TextEncoder.open(folder)
    catalog = load_catalog(dataset, split.learned())
    products = known_products(serving, catalog, train_config.max_products)
    texts = encoder.encode(map(product_text, products), on_progress)
    tokenizer = grown_tokenizer(serving.run.tokenizer, products, texts)
    inputs = load_inputs(dataset, tokenizer, encoder, catalog, info.actions, on_progress)
    inputs = replace(inputs, sequences=without_old_slice(inputs.sequences, split))
    encoder.remember(folder)
    network = reopened(serving, tokenizer, texts, encoder, on_progress)
    training, validation = batches_of(dataset, inputs, split, train_config)
    with TrainingLog(folder) as log:
        history, best_epoch = learn(
            network,
            sampler_of(tokenizer, texts, catalog, network, train_config),
            training,
            validation,
            train_config,
            on_progress,
            seen_filter=not inputs.sequences.any_product_twice(),
            checkpoint=checkpoint,
            log=log,
        )
    network.products.fold()
    network.cpu().eval()
    heads = fitted_heads(
        info.heads,
        network,
        tokenizer,
        inputs.sequences,
        split.prefixes(inputs.sequences, replace(info, config=train_config)),
        on_progress,
        fresh_from=split.validate_from,
        observed_until=split.cut_time,
    )
    about = RunInfo(
        dataset=str(dataset.folder.resolve()),
        config=train_config,
        model=network.config,
        heads=heads.config,
        actions=info.actions,
        horizons_s=info.horizons_s,
        cut_time=split.cut_time,
        history=tuple(history),
        best_epoch=best_epoch,
        observed_until=dataset.info.observed_until,
        parent=serving.release_id,
    )
    n_replayed = int(split.replayed(inputs.sequences).sum())
    return Run(folder, about, network, heads, tokenizer), n_replayed


def settings_of(before: TrainConfig, config: UpdateConfig, split: UpdateSplit) -> TrainConfig:
    """Returns the settings of the run that is gone on from, as the update has them."""
    return replace(
        before,
        seed=config.seed,
        holdout_share=config.holdout_share,
        holdout_days=None,
        holdout_from=split.cut_time,
        validation_share=config.validation_share,
        learning_rate=config.learning_rate,
        max_epochs=config.max_epochs,
        patience=config.patience,
        max_minutes=config.max_minutes,
    )


def known_products(serving: Serving, catalog: Catalog, limit: int) -> list[Product]:
    """Returns the products the release knows, as they are today, and behind them the new ones.

    New are those that were learned from, most seen first.
    """
    now = {each.product_id: each for each in catalog.products}
    known = serving.run.tokenizer.products
    seen = (catalog.products[row] for row in catalog.most_seen(len(catalog.products)))
    new = [each for each in seen if each.product_id not in known.ids]
    before = [now.get(word) or Product(product_id=word) for word in known.words]
    return [*before, *new[: max(0, limit - len(before))]]


def reopened(
    serving: Serving,
    tokenizer: BehaviorTokenizer,
    texts: NDArray[np.float32],
    encoder: TextEncoder,
    on_progress: Progress,
) -> IntentNetwork:
    """Returns the network of the release, ready for training, with room for what is new."""
    known = serving.run.tokenizer
    then = {each.product_id: product_text(each) for each in serving.products}
    texts_then = encoder.encode((then.get(word, "") for word in known.products.words), on_progress)
    network = grown_network(serving.run.network, known, tokenizer)
    network.products.unfold_again(torch.tensor(texts_then), torch.tensor(texts))
    return network.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def sampler_of(
    tokenizer: BehaviorTokenizer,
    texts: NDArray[np.float32],
    catalog: Catalog,
    network: IntentNetwork,
    config: TrainConfig,
) -> CandidateSampler:
    """Returns the products that next ones are told from: all that the tokenizer knows."""
    device = network.gap_edges.device
    events = {
        each.product_id: n for each, n in zip(catalog.products, catalog.n_events, strict=True)
    }
    counts = np.array([events.get(word, 0) for word in tokenizer.products.words], np.float32)
    return CandidateSampler(
        tokens=torch.tensor(known_tokens(tokenizer), device=device),
        text_embeddings=torch.tensor(texts, device=device),
        shares=torch.tensor(counts / counts.sum(), device=device),
        n_negatives=config.n_negatives,
        full_softmax_up_to=config.full_softmax_up_to,
    )
