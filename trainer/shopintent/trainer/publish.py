"""A run becomes a release: models, tokenizers, product collection and manifest, all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch

from shopintent.artifacts import Manifest, ReleasesRoot, write_products
from shopintent.artifacts.layout import RELEASE_ID, ReleaseFolder
from shopintent.behavior.tokenizer import EMPTY_BEHAVIOR
from shopintent.trainer import text
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.export import MODEL_FILE, MODEL_VERSION, ServedIntent, export_models
from shopintent.trainer.predict import embed_products
from shopintent.trainer.run import Run
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs, load_catalog, load_inputs

N_POPULAR = 1_000
N_CHECKED = 64
CHECKED_ROWS = 100_000
"""How many events of the log are read for it."""
TOLERANCE = 1e-4
"""How far the exported graph may be from the trained network."""


class PublishError(ValueError):
    """A run cannot be published; nothing was written. The message says why."""


def new_release_id(run: Run) -> str:
    """Returns an id that sorts by time and names the tokenizer."""
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"r{now}-{run.tokenizer.fingerprint[:8]}"


def publish(
    run: Run, dataset: Dataset, root: ReleasesRoot, release_id: str, on_progress: Progress
) -> Manifest:
    """Writes the release under the root and makes it the current one.

    Everything is written aside and checked first. Models are moved into the repository before the
    release folder appears and `current` is replaced last, so that a reader never sees half a
    release.
    """
    folder = root.release(release_id)
    if not RELEASE_ID.fullmatch(release_id):
        raise PublishError(
            f"{release_id!r} is no release id: use up to 63 of a-z, 0-9 and '-', such as 'spring-2'"
        )
    if folder.path.exists():
        raise PublishError(f"{folder.path} exists: a release never changes, give another id")
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
    )
    root.model_repository.mkdir(parents=True, exist_ok=True)
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".publish-", dir=root.path) as aside:
        written = ReleaseFolder(Path(aside) / "release")
        written.path.mkdir()
        on_progress("exporting models", 0, 1)
        models = export_models(run, release_id, Path(aside) / "models")
        check_export(run, inputs, models[0] / str(MODEL_VERSION) / MODEL_FILE)
        on_progress("exporting models", 1, 1)
        embeddings = embed_products(run.network, run.tokenizer, inputs, on_progress)
        write_products(written, catalog.products, embeddings, inputs.content)
        run.tokenizer.save(written.behavior_tokenizer)
        shutil.copyfile(run.folder / text.TOKENIZER_FILE, written.text_tokenizer)
        manifest.save(written.manifest)
        move_all(
            [(each, root.model_repository / each.name) for each in models]
            + [(written.path, folder.path)]
        )
    root.set_current(release_id)
    return manifest


def move_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Moves folders one after the other, all or none. Raises PublishError."""
    with ExitStack() as undo:
        for source, target in moves:
            try:
                source.rename(target)
            except OSError as error:
                raise PublishError(f"cannot write {target}: {error}") from error
            undo.callback(shutil.rmtree, target)
        undo.pop_all()


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
