"""A run becomes a release: models, tokenizers, product collection, golden requests and manifest.

All or nothing: everything is written aside and checked first, and appears at once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import polars as pl
import torch

from shopintent.artifacts import Manifest, ReleaseError, ReleasesRoot, remote, write_products
from shopintent.artifacts.golden import write_golden
from shopintent.artifacts.integrity import seal
from shopintent.artifacts.layout import RELEASE_ID
from shopintent.artifacts.manifest import FLOAT32, INT8, DataWindow
from shopintent.artifacts.metrics import MetricRow, failed_gates
from shopintent.artifacts.placing import aside, place, refuse_existing
from shopintent.artifacts.remote_routing import changing_remote_routing, read_remote_routing
from shopintent.artifacts.routing import Change, promoted, whoami
from shopintent.artifacts.signature import (
    Signature,
    product_encoder_signature,
    text_encoder_signature,
)
from shopintent.behavior.tokenizer import EMPTY_BEHAVIOR
from shopintent.trainer import text
from shopintent.trainer.code_version import code_version
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.export import (
    MODEL_FILE,
    MODEL_VERSION,
    ServedIntent,
    export_models,
    intent_signature,
)
from shopintent.trainer.gates import calibration_of, measured
from shopintent.trainer.golden import make_golden
from shopintent.trainer.predict import embed_products
from shopintent.trainer.quantize import quantize
from shopintent.trainer.run import Run
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs, load_catalog, load_inputs
from shopintent.trainer.warmup import write_warmups

N_POPULAR = 1_000
N_CHECKED = 64
CHECKED_ROWS = 100_000
"""How many events of the log are read for it, and for golden requests."""
TOLERANCE = 1e-4
"""How far the exported graph may be from the trained network."""


class PublishError(ValueError):
    """A run cannot be published; nothing was written. The message says why."""


@dataclass(frozen=True)
class Published:
    """What was published, and whether it serves now."""

    manifest: Manifest
    serving: bool


def new_release_id(run: Run) -> str:
    """Returns an id that sorts by time and names the tokenizer."""
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"r{now}-{run.tokenizer.fingerprint[:8]}"


def publish(
    run: Run,
    dataset: Dataset,
    root: ReleasesRoot,
    release_id: str,
    on_progress: Progress,
    *,
    force: str | None = None,
    promote: bool | None = None,
    precision: str = FLOAT32,
) -> Published:
    """Writes the release under the root.

    The first release of a root serves at once, any other when it is promoted; `promote` says
    otherwise. `force` is why it is published although gates fail, and stands in the manifest.
    Raises PublishError.
    """
    check_id(release_id)
    try:
        refuse_existing(root, release_id)
        metrics, forced = gated(run, force)
        with aside(root) as written:
            parent = root.current()
            manifest = write_release(
                run, dataset, written, release_id, on_progress,
                metrics=metrics, parent=parent, forced=forced, precision=precision,
            )  # fmt: skip
            on_progress("placing the release", 0, 1)
            place(written, root, release_id)
            on_progress("placing the release", 1, 1)
    except (OSError, ReleaseError) as error:
        raise PublishError(f"{error}; nothing was published") from error
    return Published(manifest, give_traffic(root, release_id, promote))


def publish_to_url(
    run: Run,
    dataset: Dataset,
    url: str,
    release_id: str,
    on_progress: Progress,
    *,
    force: str | None = None,
    promote: bool | None = None,
    precision: str = FLOAT32,
) -> Published:
    """Writes the release to a folder or object store that fsspec knows.

    As in `publish`, but only the first release can be had serve from here: others are proved by a
    server that fetches them. Raises PublishError.
    """
    check_id(release_id)
    try:
        remote.refuse_existing(url, release_id)
        routing = read_remote_routing(url)
        if promote and routing is not None:
            raise PublishError(
                f"{url} has a release that serves: publish without --promote, then promote with "
                "`shopintent-server releases promote`, which proves the release first"
            )
        metrics, forced = gated(run, force)
        with TemporaryDirectory(prefix="shopintent-publish-") as folder:
            written = ReleasesRoot(Path(folder))
            manifest = write_release(
                run, dataset, written, release_id, on_progress,
                metrics=metrics, parent=None if routing is None else routing.serving,
                forced=forced, precision=precision,
            )  # fmt: skip
            remote.upload(written, release_id, url, on_progress)
    except (OSError, ReleaseError) as error:
        raise PublishError(f"{error}; nothing was published") from error
    wanted = routing is None and promote is not False
    return Published(manifest, serving=wanted and give_remote_traffic(url, release_id))


def check_id(release_id: str) -> None:
    """Raises PublishError unless it may be the id of a release."""
    if not RELEASE_ID.fullmatch(release_id):
        raise PublishError(
            f"{release_id!r} is no release id: use up to 63 of a-z, 0-9 and '-', such as 'spring-2'"
        )


def gated(run: Run, force: str | None) -> tuple[tuple[MetricRow, ...], str | None]:
    """Returns what the run's evaluation measured, and why a gate that fails does not count.

    A run that was not evaluated passes, and its manifest says that it has no metrics. Raises
    PublishError where a gate fails and nothing is forced.
    """
    if force is not None and not force.strip():
        raise PublishError("--force needs a reason, which the release keeps")
    metrics = measured(run)
    failures = failed_gates(metrics)
    if failures and force is None:
        raise PublishError(
            f"the evaluation of {run.folder} speaks against it: {'; '.join(failures)}. Train "
            'again, or publish with --force "why", which the release keeps'
        )
    return metrics, force if failures else None


def write_release(
    run: Run,
    dataset: Dataset,
    root: ReleasesRoot,
    release_id: str,
    on_progress: Progress,
    *,
    metrics: tuple[MetricRow, ...],
    parent: str | None,
    forced: str | None,
    precision: str,
) -> Manifest:
    """Writes everything of a release into a root that nobody reads; the manifest comes last.

    The exported graphs are compared with the network first.
    """
    encoder = TextEncoder.open(run.folder)
    catalog = load_catalog(dataset, known_before(run.info.cut_time))
    inputs = load_inputs(
        dataset,
        run.tokenizer,
        encoder,
        catalog,
        run.info.actions,
        on_progress,
        first_rows=CHECKED_ROWS,
    )
    folder = root.release(release_id)
    folder.path.mkdir(parents=True)
    root.model_repository.mkdir()
    on_progress("exporting models", 0, 1)
    models = export_models(run, release_id, root.model_repository)
    graph = models[0] / str(MODEL_VERSION) / MODEL_FILE
    check_export(run, inputs, graph)
    if precision == INT8:
        metrics += quantize(run, dataset, inputs, graph, on_progress)
    on_progress("exporting models", 1, 1)
    embeddings = embed_products(run.network, run.tokenizer, inputs, on_progress)
    write_products(folder, catalog.products, embeddings, inputs.content)
    run.tokenizer.save(folder.behavior_tokenizer)
    write_training(run, dataset, folder.training)
    shutil.copyfile(run.folder / text.TOKENIZER_FILE, folder.text_tokenizer)
    on_progress("asking golden requests", 0, 1)
    golden = make_golden(run, inputs, catalog.products, encoder.tokenizer, models)
    write_golden(folder.golden, golden)
    write_warmups(models, golden, run.tokenizer, encoder)
    on_progress("asking golden requests", 1, 1)
    n_popular = min(N_POPULAR, len(catalog.products))
    manifest = Manifest(
        release_id=release_id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        behavior_fingerprint=run.tokenizer.fingerprint,
        actions=run.info.actions,
        horizons_s=run.info.horizons_s,
        answers=run.heads.answers,
        embedding_size=run.info.model.d_model,
        text_embedding_size=run.info.model.text_embedding_size,
        max_text_tokens=run.info.config.max_text_tokens,
        n_products=len(catalog.products),
        popularity=tuple(catalog.popularity[:n_popular].tolist()),
        session_gap_s=run.info.model.session_gap_s,
        parent=run.info.parent or parent,
        data=data_window(dataset, run.info.cut_time),
        seeds=(run.info.config.seed,),
        code=code_version(),
        precision=precision,
        signatures=signatures(run),
        calibration=calibration_of(metrics),
        metrics=metrics,
        forced=forced,
        files=(),
    )
    return seal(root, manifest, on_progress)


def write_training(run: Run, dataset: Dataset, folder: Path) -> None:
    """Writes what `update` goes on from, so that it needs nothing but the release.

    It names no folder of the machine that trained.
    """
    info = replace(run.info, dataset="", observed_until=dataset.info.observed_until)
    replace(run, info=info).save_weights(folder)


def give_traffic(root: ReleasesRoot, release_id: str, promote: bool | None) -> bool:
    """Has a new release serve, unless another one does; returns whether it serves now."""
    serves = root.current() is None if promote is None else promote
    if serves:
        root.set_current(release_id, why="published")
    return serves


def give_remote_traffic(url: str, release_id: str) -> bool:
    """Has a new release of a URL serve, unless another one does; returns whether it serves now."""
    with (
        TemporaryDirectory(prefix="shopintent-publish-") as folder,
        changing_remote_routing(url, Path(folder)) as held,
    ):
        serves = held.routing is None
        if serves:
            change = Change("publish", release_id, who=whoami(), why="published")
            held.write(promoted(None, release_id), change)
    return serves


def data_window(dataset: Dataset, cut_time: int) -> DataWindow:
    """Returns the part of the log that was learned from."""
    times = dataset.events().filter(known_before(cut_time)).select("event_time")
    first, last = (
        times.select(pl.min("event_time").alias("first"), pl.max("event_time").alias("last"))
        .collect()
        .row(0)
    )
    return DataWindow(int(first), int(last), cut_time)


def signatures(run: Run) -> dict[str, Signature]:
    """Returns what each model reads and writes, by its name without the release id."""
    model = run.info.model
    return {
        "intent": intent_signature(run),
        "text_encoder": text_encoder_signature(text_embedding_size=model.text_embedding_size),
        "product_encoder": product_encoder_signature(
            text_embedding_size=model.text_embedding_size, embedding_size=model.d_model
        ),
    }


@torch.no_grad()
def check_export(run: Run, inputs: Inputs, graph: Path) -> None:
    """Raises PublishError unless the exported graph answers as the network does.

    It is asked about behaviors of the log, of every length up to the longest, and about none at
    all.
    """
    sequences = inputs.sequences
    shoppers = np.arange(min(N_CHECKED, len(sequences)))
    ends = [int(sequences.offsets[each + 1]) for each in shoppers]
    behaviors = [
        sequences.behavior(int(each), end) for each, end in zip(shoppers, ends, strict=True)
    ]
    behaviors.append(EMPTY_BEHAVIOR)
    windows = [run.tokenizer.window(each) for each in behaviors]
    events = np.stack([window.tokens for window in windows])
    event_times = np.stack([window.event_times for window in windows])
    request_time = event_times.max(axis=1, keepdims=True) + 5
    given = {"events": events, "event_times": event_times, "request_time": request_time}
    session = onnxruntime.InferenceSession(str(graph))
    exported = session.run(None, given)
    trained = ServedIntent(run.network, run.heads)(
        *(torch.tensor(array) for array in given.values())
    )
    for output, expected, got in zip(session.get_outputs(), trained, exported, strict=True):
        # Seconds and units are compared by their size, all others are at most 1.
        wanted = expected.numpy()
        distance = float((np.abs(wanted - got) / np.maximum(1.0, np.abs(wanted))).max())
        if not distance <= TOLERANCE:
            raise PublishError(
                f"the exported graph differs from the trained network by {distance:g} in "
                f"{output.name}, more than {TOLERANCE:g}: nothing was published"
            )
