"""Where everything of a release lies under one folder, the releases root.

routing.json                        which release answers whom (routing.py)
model_repository/intent_<id>/       Triton models: config.pbtxt, 1/model.onnx
                 text_encoder_<id>/ product_encoder_<id>/
releases/<id>/manifest.json         what belongs together; written last
              behavior_tokenizer/   text_tokenizer.json
              products.jsonl        the product collection, a product a line, most popular first
              product_embeddings.npy, product_content.npy      its rows, in the same order
              golden.npz            requests with the answers that must come back
              training/             network and heads, for the trainer to go on from (`update`)

A folder or object store that releases are published to and fetched from has the same layout.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from shopintent.artifacts.routing import (
    Change,
    changing_routing,
    promoted,
    read_routing,
    whoami,
)

RELEASE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def intent_model(release_id: str) -> str:
    """Returns the Triton name of the release's intent model."""
    return f"intent_{release_id}"


def text_encoder_model(release_id: str) -> str:
    """Returns the Triton name of the release's text encoder."""
    return f"text_encoder_{release_id}"


def product_encoder_model(release_id: str) -> str:
    """Returns the Triton name of the release's product encoder."""
    return f"product_encoder_{release_id}"


def collection(release_id: str) -> str:
    """Returns the name of the release's product collection."""
    return f"products_{release_id}"


def models(release_id: str) -> tuple[str, ...]:
    """Returns the Triton names of all models of the release."""
    return tuple(
        name(release_id) for name in (intent_model, text_encoder_model, product_encoder_model)
    )


@dataclass(frozen=True)
class ReleasesRoot:
    """The folder that holds every release of a shop."""

    path: Path

    @property
    def model_repository(self) -> Path:
        """The one Triton model repository of all releases."""
        return self.path / "model_repository"

    def release(self, release_id: str) -> ReleaseFolder:
        """Returns the folder of a release; it need not exist."""
        return ReleaseFolder(self.path / "releases" / release_id)

    def release_ids(self) -> list[str]:
        """Returns the ids of all complete releases, in order of name."""
        found = (self.path / "releases").glob("*/manifest.json")
        return sorted(path.parent.name for path in found if RELEASE_ID.fullmatch(path.parent.name))

    def models(self, release_id: str) -> list[Path]:
        """Returns the folders of a release in the model repository; they need not exist."""
        return [self.model_repository / name for name in models(release_id)]

    def forget(self, release_id: str) -> None:
        """Makes a release one that does not exist, at once; its files are still there."""
        self.release(release_id).manifest.unlink(missing_ok=True)

    def delete(self, release_id: str) -> None:
        """Deletes every file of a release; safe to repeat."""
        self.forget(release_id)
        for folder in (*self.models(release_id), self.release(release_id).path):
            shutil.rmtree(folder, ignore_errors=True)

    def current(self) -> str | None:
        """Returns the id of the release that serves, or None before the first is published.

        Raises RoutingError when routing.json is damaged.
        """
        routing = read_routing(self.path)
        return None if routing is None else routing.serving

    def set_current(self, release_id: str, *, why: str = "first release") -> None:
        """Names the release that serves from now on; a canary and a shadow end with it."""
        with changing_routing(self.path) as routing:
            change = Change("publish", release_id, who=whoami(), why=why)
            routing.write(promoted(routing.routing, release_id), change)


@dataclass(frozen=True)
class ReleaseFolder:
    """The files of one release outside the model repository."""

    path: Path

    @property
    def manifest(self) -> Path:
        """What belongs together."""
        return self.path / "manifest.json"

    @property
    def golden(self) -> Path:
        """Requests with the answers that must come back, see golden.py."""
        return self.path / "golden.npz"

    @property
    def behavior_tokenizer(self) -> Path:
        """The folder that BehaviorTokenizer.load reads."""
        return self.path / "behavior_tokenizer"

    @property
    def text_tokenizer(self) -> Path:
        """The word pieces of the text encoder, in the format of the `tokenizers` library."""
        return self.path / "text_tokenizer.json"

    @property
    def products(self) -> Path:
        """The products, a JSON object a line, most popular first."""
        return self.path / "products.jsonl"

    @property
    def product_embeddings(self) -> Path:
        """[P, D] float32, the rows in the order of `products`."""
        return self.path / "product_embeddings.npy"

    @property
    def product_content(self) -> Path:
        """[P, 6] int32, the content tokens, the rows in the order of `products`."""
        return self.path / "product_content.npy"

    @property
    def training(self) -> Path:
        """The folder of what the trainer goes on from; servers never read it."""
        return self.path / "training"
