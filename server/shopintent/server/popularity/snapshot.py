"""Snapshots of the counters: what a server that starts goes on from.

A snapshot names products, and the position of the feed up to which they were counted, and nobody
who asked for them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopintent.server.popularity.counters import Popularity

FORMAT_VERSION = 1
LONGEST_AGE_S = 10 * 24 * 60 * 60.0
"""By then all of it has faded to a thousandth."""


class SnapshotError(ValueError):
    """A snapshot can not be gone on from; the message says why."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The counters at one moment."""

    position: str
    """Of the feed: everything before it is counted."""
    written_at: float
    started_at: float
    half_lives_s: Sequence[float]
    """Of each kind of count, as the next two."""
    landmarks: Sequence[float]
    product_ids: Sequence[str]
    values: NDArray[np.float64]
    """[kinds of counts, N], as of their landmarks."""

    @classmethod
    def of(cls, popularity: Popularity, position: str) -> Snapshot:
        """Returns the counters as they are now."""
        return cls(
            position=position,
            written_at=popularity.clock(),
            started_at=popularity.started_at,
            half_lives_s=[each.half_life_s for each in popularity.counts],
            landmarks=[each.landmark for each in popularity.counts],
            product_ids=list(popularity.popular.values),
            values=np.array([list(each.values.values()) for each in popularity.counts]),
        )

    def restore(self, popularity: Popularity) -> None:
        """Puts the counters back as they were; raises SnapshotError for what can not be right."""
        if self.half_lives_s != [each.half_life_s for each in popularity.counts]:
            raise SnapshotError("its counts fade at another pace")
        if abs(popularity.clock() - self.written_at) > LONGEST_AGE_S:
            raise SnapshotError("it is too old")
        popularity.started_at = self.started_at
        rows = zip(popularity.counts, self.landmarks, self.values, strict=True)
        for counts, landmark, values in rows:
            counts.landmark = landmark
            counts.values = dict(zip(self.product_ids, values.tolist(), strict=True))

    def to_bytes(self) -> bytes:
        """Returns it as JSON; the numbers in base64, which is written ten times as fast."""
        document = {
            "format_version": FORMAT_VERSION,
            "position": self.position,
            "written_at": self.written_at,
            "started_at": self.started_at,
            "half_lives_s": self.half_lives_s,
            "landmarks": self.landmarks,
            "product_ids": self.product_ids,
            "values": base64.b64encode(self.values.astype("<f8").tobytes()).decode(),
        }
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes) -> Snapshot:
        """Reads what `to_bytes` wrote; raises SnapshotError for anything else."""
        try:
            return cls._of_document(json.loads(content))
        except SnapshotError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotError(f"it is damaged: {error!r}") from error

    @classmethod
    def _of_document(cls, document: dict[str, Any]) -> Snapshot:
        version = document["format_version"]
        if version != FORMAT_VERSION:
            raise SnapshotError(f"its format is {version}, and not {FORMAT_VERSION}")
        product_ids, landmarks = document["product_ids"], document["landmarks"]
        raw = base64.b64decode(document["values"], validate=True)
        half_lives_s = document["half_lives_s"]
        values = np.frombuffer(raw, "<f8").reshape(len(half_lives_s), len(product_ids))
        times = [document["written_at"], document["started_at"], *landmarks]
        if not (np.isfinite(values).all() and np.isfinite(times).all()):
            raise ValueError("a number in it is none")
        if len(landmarks) != len(half_lives_s) or not all(isinstance(k, str) for k in product_ids):
            raise ValueError("its parts do not fit")
        return cls(
            position=str(document["position"]),
            written_at=document["written_at"],
            started_at=document["started_at"],
            half_lives_s=half_lives_s,
            landmarks=landmarks,
            product_ids=product_ids,
            values=values,
        )
