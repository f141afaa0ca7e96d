"""The manifest of a release: what the server must find, and refuses when it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from shopintent.artifacts.metrics import MetricRow
from shopintent.artifacts.signature import Signature, Tensor

FORMAT_VERSION = 3
"""Bump it when a field changes its meaning; a server refuses a manifest of another version."""

FLOAT32, INT8 = "float32", "int8"
"""What the weights of the intent model are stored in."""


class ReleaseError(ValueError):
    """A release cannot be used; the message names the part and the remedy."""


@dataclass(frozen=True)
class DataWindow:
    """The part of the log that a release was trained on, unix seconds."""

    first_event_time: int
    last_event_time: int
    cut_time: int
    """From here on nothing was learned from."""


@dataclass(frozen=True)
class CodeVersion:
    """What trained and published a release."""

    package: str
    """The version of shopintent."""
    commit: str | None = None
    """The git commit, with "+changes" where files differed from it; None where it is not known."""


@dataclass(frozen=True)
class Calibration:
    """How far the purchase probabilities of one horizon can be believed; None is not measured."""

    horizon: str
    samples: int | None
    base_rate: float | None
    """The share of samples that bought."""
    ece: float | None
    slope: float | None
    intercept: float | None


@dataclass(frozen=True)
class ReleaseFile:
    """One file of a release as it was published."""

    path: str
    """Below the releases root, with "/" between folders."""
    size: int
    sha256: str


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
    parent: str | None
    """The release that this one goes on from, or else the one that served when it was published."""
    data: DataWindow
    seeds: tuple[int, ...]
    """Of everything random in training."""
    code: CodeVersion
    precision: str
    """Of the intent model: FLOAT32 or INT8."""
    signatures: Mapping[str, Signature] = field(hash=False)
    """What each Triton model reads and writes, by its name without the release id."""
    calibration: tuple[Calibration, ...]
    metrics: tuple[MetricRow, ...]
    """Empty when the run was published without being evaluated."""
    forced: str | None
    """Why it was published although gates failed."""
    files: tuple[ReleaseFile, ...]
    """Every file but the manifest itself, in order of path."""
    format_version: int = FORMAT_VERSION

    def save(self, path: Path) -> None:
        """Writes the manifest as JSON, with a digest of itself."""
        content = json.loads(json.dumps(asdict(self)))
        text = json.dumps({**content, "digest": digest_of(content)}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Reads a manifest. Raises ReleaseError when it is missing, damaged or outdated."""
        try:
            return cls.from_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ReleaseError(f"the manifest {path} cannot be read: {error}") from error

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Returns the manifest that `save` wrote. Raises ReleaseError as `load` does."""
        try:
            saved: dict[str, Any] = json.loads(text)
            version, digest = saved.get("format_version"), saved.pop("digest", None)
        except (ValueError, AttributeError) as error:
            raise ReleaseError(f"it is cut short or no manifest ({error}); {AGAIN}") from error
        if version != FORMAT_VERSION:
            raise ReleaseError(
                f"it has format version {version}, this program reads {FORMAT_VERSION}: "
                "publish the release again with the trainer of this version"
            )
        if digest != digest_of(saved):
            raise ReleaseError(f"it was changed after it was published; {AGAIN}")
        try:
            known = {each.name for each in fields(cls)}
            return cls(
                **{
                    name: DECODERS.get(name, _as_it_is)(value)
                    for name, value in saved.items()
                    if name in known
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReleaseError(f"it is damaged: {error}; {AGAIN}") from error


AGAIN = "publish the release again, or fetch it again from where it was published"


def digest_of(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of what a manifest says, however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _as_it_is(value: Any) -> Any:
    return value


def _tensors(values: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(each["name"], each["dtype"], tuple(each["shape"])) for each in values)


DECODERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("actions", "horizons_s", "answers", "popularity", "seeds"), tuple),
    "data": lambda value: DataWindow(**value),
    "code": lambda value: CodeVersion(**value),
    "signatures": lambda values: {
        name: Signature(_tensors(each["inputs"]), _tensors(each["outputs"]))
        for name, each in values.items()
    },
    "calibration": lambda values: tuple(Calibration(**each) for each in values),
    "metrics": lambda values: tuple(map(MetricRow.from_json, values)),
    "files": lambda values: tuple(ReleaseFile(**each) for each in values),
}
"""How the values of fields come back from JSON."""
