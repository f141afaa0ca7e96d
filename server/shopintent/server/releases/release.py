"""One release as the server holds it: read once at start and never changed."""

from __future__ import annotations

from dataclasses import dataclass

from shopintent.artifacts import Manifest, ReleaseError, ReleaseFolder, ReleasesRoot, layout
from shopintent.behavior import BehaviorTokenizer, TokenizerError


@dataclass(frozen=True, eq=False)
class Release:
    """What one release is made of; the names of models and collection follow from its id."""

    folder: ReleaseFolder
    manifest: Manifest
    tokenizer: BehaviorTokenizer

    @property
    def release_id(self) -> str:
        """The id that everything of the release carries."""
        return self.manifest.release_id

    @property
    def intent_model(self) -> str:
        """The Triton name of the intent model."""
        return layout.intent_model(self.release_id)

    @property
    def text_encoder(self) -> str:
        """The Triton name of the text encoder."""
        return layout.text_encoder_model(self.release_id)

    @property
    def product_encoder(self) -> str:
        """The Triton name of the product encoder."""
        return layout.product_encoder_model(self.release_id)

    @property
    def models(self) -> tuple[str, ...]:
        """The Triton names of all its models."""
        return (self.intent_model, self.text_encoder, self.product_encoder)

    @property
    def collection(self) -> str:
        """The name of the product collection."""
        return layout.collection(self.release_id)


def load_release(root: ReleasesRoot, release_id: str) -> Release:
    """Reads a release; the current one when `release_id` is empty.

    Raises ReleaseError, saying what to do, when it is missing, incomplete or damaged.
    """
    chosen = release_id or root.current()
    if chosen is None:
        raise ReleaseError(
            f"{root.path} has no current release: publish one with `shopintent-trainer publish`, "
            "or name one with SHOPINTENT_RELEASE"
        )
    if not layout.RELEASE_ID.fullmatch(chosen):
        raise ReleaseError(f"{chosen!r} is no release id: it has a-z, 0-9 and -, at most 63")
    if not root.release(chosen).manifest.is_file():
        raise ReleaseError(
            f"{root.path} has no complete release {chosen!r}; it has: "
            f"{', '.join(root.release_ids()) or 'none'}. Publish it or choose one of these"
        )
    folder = root.release(chosen)
    try:
        tokenizer = BehaviorTokenizer.load(folder.behavior_tokenizer)
    except TokenizerError as error:
        raise ReleaseError(f"release {chosen}: {error}; publish it again") from error
    return Release(folder, Manifest.load(folder.manifest), tokenizer)
