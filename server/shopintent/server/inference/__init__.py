"""The models of a release, behind Triton in production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts.signature import Signature
from shopintent.behavior import Behavior


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the intent model says of one behavior."""

    next_actions: NDArray[np.float32]
    """[A], sums to 1; the columns are Manifest.actions."""
    purchases: NDArray[np.float32]
    """[H]; the columns are Manifest.horizons_s."""
    behavior_embedding: NDArray[np.float32]
    """[D], L2-normalized."""
    optional_answers: Mapping[str, float]
    """By each of Manifest.answers."""
    model_version: str
    """The version of the model in Triton that answered."""


class BehaviorModel(Protocol):
    """The intent model."""

    async def predict(
        self, behavior: Behavior, *, request_time: int, timeout_s: float
    ) -> Prediction:
        """Returns the prediction for a behavior of at most the tokenizer's `max_events` events.

        `request_time` is in unix seconds. Raises ModelUnavailable when there is no answer within
        `timeout_s` seconds, and Overloaded at once when none can be expected.
        """


class ContentEncoder(Protocol):
    """The text encoder and the product tower."""

    async def encode_texts(self, texts: Sequence[str], *, timeout_s: float) -> NDArray[np.float32]:
        """Returns [N, E] embeddings; an empty text is all zeros. Raises ModelUnavailable."""

    async def encode_products(
        self,
        product_tokens: NDArray[np.int32],
        text_embeddings: NDArray[np.float32],
        *,
        timeout_s: float,
    ) -> NDArray[np.float32]:
        """Returns [N, D] product embeddings of [N, 7] tokens and [N, E] text embeddings.

        Raises ModelUnavailable.
        """


@dataclass(frozen=True)
class ModelDescription:
    """What a served model says of itself."""

    signature: Signature
    max_batch_size: int
    """0 when it takes batches of any size."""
    parameters: Mapping[str, str]


class ModelRepository(Protocol):
    """The models that are being served."""

    async def describe(self, model_name: str, *, timeout_s: float) -> ModelDescription:
        """Returns the model's description. Raises ModelUnavailable when it is not served."""

    async def load(self, model_name: str, *, timeout_s: float) -> None:
        """Loads a model of the repository unless it is served. Raises ModelUnavailable."""

    async def unload(self, model_name: str, *, timeout_s: float) -> None:
        """Stops serving a model and frees its memory. Raises ModelUnavailable."""
