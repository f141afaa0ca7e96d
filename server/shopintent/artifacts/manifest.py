"""The manifest of a release: what the server must find, and refuses when it does not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FORMAT_VERSION = 2
"""Bump it when a field changes its meaning; a server refuses a manifest of another version."""


class ReleaseError(ValueError):
    """A release cannot be used; the message names the part and the remedy."""


@dataclass(frozen=True)
class Manifest:
    """One trained bundle. Everything it names carries the same release id."""

    release_id: str
    created_at: str
    """RFC 3339, UTC."""
    behavior_fingerprint: str
    """BehaviorTokenizer.fingerprint; config.pbtxt of the intent model says the same."""
    actions: tuple[str, ...]
    """What each column of next_action_probabilities means."""
    horizons_s: tuple[int, ...]
    """What each column of purchase_probabilities means, in seconds, ascending."""
    answers: tuple[str, ...]
    """Those of signature.OPTIONAL_ANSWERS that the model learned; it says nothing by the others."""
    embedding_size: int
    """D, of behavior and product embeddings."""
    text_embedding_size: int
    """E, of text embeddings."""
    max_text_tokens: int
    """Longer texts are cut before they reach the text encoder."""
    n_products: int
    """The products of the collection when it was published."""
    popularity: tuple[float, ...]
    """Events in the newest week of the log of each of the first products of the collection."""
    session_gap_s: int
    """A visit ends after this many idle seconds."""
    format_version: int = FORMAT_VERSION

    def save(self, path: Path) -> None:
        """Writes the manifest as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Reads a manifest. Raises ReleaseError when it is missing, damaged or outdated."""
        try:
            saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = saved.get("format_version")
            if version != FORMAT_VERSION:
                raise ReleaseError(
                    f"{path} has format version {version}, this program reads {FORMAT_VERSION}: "
                    "publish the release again with the trainer of this version"
                )
            known = {field.name for field in fields(cls)}
            values = {name: value for name, value in saved.items() if name in known}
            for name in ("actions", "horizons_s", "answers", "popularity"):
                values[name] = tuple(values[name])
            return cls(**values)
        except ReleaseError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(f"the manifest {path} cannot be read: {error}") from error
