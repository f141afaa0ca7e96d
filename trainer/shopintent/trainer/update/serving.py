"""The release that serves, as training goes on from it: nothing else of its making is needed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from shopintent.artifacts import ReleaseError, ReleasesRoot, layout, read_products
from shopintent.artifacts.integrity import verify_release
from shopintent.artifacts.remote import fetch
from shopintent.artifacts.remote_routing import read_remote_routing
from shopintent.behavior import Product
from shopintent.trainer import text
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.export import MODEL_FILE, MODEL_VERSION
from shopintent.trainer.run import INFO, Run
from shopintent.trainer.update.config import UpdateError


@dataclass(frozen=True, eq=False)
class Serving:
    """A release whose files were verified."""

    release_id: str
    run: Run
    products: list[Product]
    """Its collection."""


def open_serving(releases: str, folder: Path, on_progress: Progress) -> Serving:
    """Opens the release that serves at a releases root, a folder or a URL.

    What comes from a URL, and the text encoder, are copied into the folder, which is made. Raises
    UpdateError, and ReleaseError where the release is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root, release_id = found(releases, folder, on_progress)
    verify_release(root, release_id, on_progress)
    release = root.release(release_id)
    if not (release.training / INFO).is_file():
        raise UpdateError(
            f"release {release_id} holds nothing to go on from, since an earlier version published "
            "it: publish its run again, or `train` anew"
        )
    encoder = root.model_repository / layout.text_encoder_model(release_id)
    shutil.copyfile(encoder / str(MODEL_VERSION) / MODEL_FILE, folder / text.MODEL_FILE)
    shutil.copyfile(release.text_tokenizer, folder / text.TOKENIZER_FILE)
    run = Run.open(release.training, release.behavior_tokenizer)
    return Serving(release_id, run, [each.product for each in read_products(release)])


def found(releases: str, folder: Path, on_progress: Progress) -> tuple[ReleasesRoot, str]:
    """Returns where the files of the release that serves are, and its id."""
    if "://" not in releases:
        root = ReleasesRoot(Path(releases))
        return root, served(root.current(), releases)
    routing = read_remote_routing(releases)
    release_id = served(None if routing is None else routing.serving, releases)
    root = ReleasesRoot(folder / "serving")
    try:
        fetch(release_id, releases, root, on_progress)
    except OSError as error:
        raise ReleaseError(f"{releases} cannot be read: {error}") from error
    return root, release_id


def served(release_id: str | None, releases: str) -> str:
    """Returns the id. Raises UpdateError where there is none."""
    if release_id is None:
        raise UpdateError(
            f"no release serves at {releases}: make a first one with `train` and `publish`"
        )
    return release_id
