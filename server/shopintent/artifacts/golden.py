"""Golden requests: what a release was asked when it was published, and the answers it gave.

A release answers them again wherever it is loaded, within a tolerance for other processors, or it
must not take traffic. golden.npz holds arrays and one JSON document, no pickle. Of a shopper it has
events as tokens and their times, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import signature
from shopintent.artifacts.manifest import AGAIN, ReleaseError
from shopintent.behavior.tokenizer import EVENT_FIELDS, Behavior

FORMAT_VERSION = 1
"""Bump it when an array changes its meaning; another version is refused."""

NAMED = 3
"""So many wrong answers of an output are named, the others are counted."""

Answers = Mapping[str, NDArray[np.float32]]
"""Of each output [N, ...]."""


@dataclass(frozen=True, eq=False)
class Golden:
    """Requests to all models of a release with their answers, by the names of signature.py."""

    behavior_fingerprint: str
    """Of the tokenizer that made the tokens."""
    behaviors: tuple[Behavior, ...]
    """N, from no event at all to the longest window."""
    request_times: NDArray[np.int64]
    """[N], unix seconds."""
    intent: Answers
    """Each output of the intent model, [N, ...]."""
    texts: tuple[str, ...]
    """Of M products and searches; none is empty."""
    text_embeddings: NDArray[np.float32]
    """[M, E], the answers of the text encoder."""
    product_tokens: NDArray[np.int32]
    """[P, 7]"""
    product_texts: NDArray[np.float32]
    """[P, E], the text embeddings that the product encoder is given."""
    product_embeddings: NDArray[np.float32]
    """[P, D], the answers of the product encoder."""
    tolerances: Mapping[str, float]
    """Of each output: how far an answer may be off, as a share of the expected one where that is
    above 1."""

    @property
    def text_answers(self) -> Answers:
        """What the text encoder must say of `texts`."""
        return {signature.TEXT_EMBEDDING: self.text_embeddings}

    @property
    def product_answers(self) -> Answers:
        """What the product encoder must say of `product_tokens` and `product_texts`."""
        return {signature.PRODUCT_EMBEDDING: self.product_embeddings}


def write_golden(path: Path, golden: Golden) -> None:
    """Writes golden requests and answers."""
    said = {
        "format_version": FORMAT_VERSION,
        "behavior_fingerprint": golden.behavior_fingerprint,
        "texts": list(golden.texts),
        "tolerances": dict(golden.tolerances),
    }
    lengths = [len(each) for each in golden.behaviors]
    no_tokens = np.zeros((0, len(EVENT_FIELDS)), np.int32)
    arrays: dict[str, NDArray[np.generic]] = {
        "json": np.frombuffer(json.dumps(said).encode(), np.uint8),
        "lengths": np.array(lengths, np.int64),
        "tokens": np.concatenate([no_tokens, *(each.tokens for each in golden.behaviors)]),
        "event_times": np.concatenate(
            [np.zeros(0, np.int64), *(each.event_times for each in golden.behaviors)]
        ),
        "request_times": golden.request_times,
        "text_embeddings": golden.text_embeddings,
        "product_tokens": golden.product_tokens,
        "product_texts": golden.product_texts,
        "product_embeddings": golden.product_embeddings,
        **{f"intent_{name}": answers for name, answers in golden.intent.items()},
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_golden(path: Path) -> Golden:
    """Reads what `write_golden` wrote. Raises ReleaseError when it is missing or damaged."""
    try:
        # Opened here, because np.load leaves a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        said: dict[str, Any] = json.loads(arrays["json"].tobytes())
        if said["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"format version {said['format_version']}, this program reads {FORMAT_VERSION}"
            )
        ends = np.cumsum(arrays["lengths"])[:-1]
        parts = zip(
            np.split(arrays["tokens"], ends), np.split(arrays["event_times"], ends), strict=True
        )
        return Golden(
            behavior_fingerprint=said["behavior_fingerprint"],
            behaviors=tuple(Behavior(tokens, times) for tokens, times in parts),
            request_times=arrays["request_times"],
            intent={
                name.removeprefix("intent_"): answers
                for name, answers in arrays.items()
                if name.startswith("intent_")
            },
            texts=tuple(said["texts"]),
            text_embeddings=arrays["text_embeddings"],
            product_tokens=arrays["product_tokens"],
            product_texts=arrays["product_texts"],
            product_embeddings=arrays["product_embeddings"],
            tolerances=said["tolerances"],
        )
    except Exception as error:  # A damaged archive raises errors of many kinds.
        raise ReleaseError(
            f"the golden requests {path} cannot be read: {error}; {AGAIN}"
        ) from error


def mismatches(expected: Answers, answers: Answers, tolerances: Mapping[str, float]) -> list[str]:
    """Returns what is wrong with the answers to golden requests, a line an output; [] is right.

    Outputs that were not expected are not looked at.
    """
    found = (
        _mismatch(name, wanted, answers.get(name), tolerances[name])
        for name, wanted in expected.items()
    )
    return [each for each in found if each is not None]


def _mismatch(
    name: str, wanted: NDArray[np.float32], got: NDArray[np.float32] | None, tolerance: float
) -> str | None:
    if got is None:
        return f"{name} is not answered"
    if got.shape != wanted.shape:
        return f"{name} has the shape {list(got.shape)}, golden is {list(wanted.shape)}"
    rows = (len(wanted), -1)
    distance = (np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))).reshape(rows)
    # A comparison with NaN is false, and NaN is as wrong as can be.
    wrong = np.flatnonzero(~(distance <= tolerance).all(axis=1))
    if not len(wrong):
        return None
    worst = np.where(np.isnan(distance), np.inf, distance).argmax(axis=1)
    places = [(row, worst[row]) for row in wrong[:NAMED]]
    flat_got, flat_wanted = got.reshape(rows), wanted.reshape(rows)
    named = ", ".join(
        f"request {row} says {flat_got[row, column]:.5g} instead of {flat_wanted[row, column]:.5g}"
        for row, column in places
    )
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return (
        f"{name} is off by more than {tolerance:g} in {len(wrong)} of {len(wanted)}: {named}{more}"
    )
