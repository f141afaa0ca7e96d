"""Golden requests come back as written, and every kind of wrong answer is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopintent.artifacts import ReleaseError, golden
from shopintent.artifacts.golden import Golden, mismatches, read_golden, write_golden
from shopintent.behavior import Behavior
from shopintent.behavior.tokenizer import EMPTY_BEHAVIOR

pytestmark = pytest.mark.releases


def behavior(length: int) -> Behavior:
    tokens = np.arange(length * 9, dtype=np.int32).reshape(length, 9)
    return Behavior(tokens, np.arange(length, dtype=np.int64) + 1_760_000_000)


GOLDEN = Golden(
    behavior_fingerprint="f" * 64,
    behaviors=(EMPTY_BEHAVIOR, behavior(1), behavior(7)),
    request_times=np.array([1_760_000_000, 1_760_000_005, 1_760_000_011], np.int64),
    intent={
        "purchase_probabilities": np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32),
        "expected_time_to_purchase_s": np.array([[90.0], [5_000.0], [0.5]], np.float32),
    },
    texts=("стул", "a red chair"),
    text_embeddings=np.eye(2, 8, dtype=np.float32),
    product_tokens=np.ones((3, 7), np.int32),
    product_texts=np.zeros((3, 8), np.float32),
    product_embeddings=np.eye(3, 16, dtype=np.float32),
    tolerances={"purchase_probabilities": 1e-3, "expected_time_to_purchase_s": 1e-3},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_golden(tmp_path / "golden.npz", GOLDEN)
    return tmp_path / "golden.npz"


def test_golden_requests_come_back_as_they_were(path: Path) -> None:
    read = read_golden(path)
    assert len(read.behaviors) == 3
    for back, each in zip(read.behaviors, GOLDEN.behaviors, strict=True):
        np.testing.assert_array_equal(back.tokens, each.tokens)
        np.testing.assert_array_equal(back.event_times, each.event_times)
        assert back.tokens.dtype == np.int32
        assert back.event_times.dtype == np.int64
    assert read.texts == GOLDEN.texts
    assert read.tolerances == GOLDEN.tolerances
    assert read.behavior_fingerprint == GOLDEN.behavior_fingerprint
    assert read.intent.keys() == GOLDEN.intent.keys()
    for name, answers in GOLDEN.intent.items():
        np.testing.assert_array_equal(read.intent[name], answers)
    for name in (
        "request_times", "text_embeddings", "product_tokens", "product_texts",
        "product_embeddings",
    ):  # fmt: skip
        np.testing.assert_array_equal(getattr(read, name), getattr(GOLDEN, name))


def test_nothing_to_ask_comes_back_too(path: Path) -> None:
    empty = np.zeros((0, 8), np.float32)
    write_golden(
        path, replace(GOLDEN, behaviors=(EMPTY_BEHAVIOR,), texts=(), text_embeddings=empty)
    )
    assert read_golden(path).texts == ()
    assert len(read_golden(path).behaviors[0]) == 0


@pytest.mark.parametrize("size", [0, 10, 1_000, -1])
def test_a_damaged_file_is_refused(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ReleaseError, match=f"{path} cannot be read"):
        read_golden(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="publish the release again"):
        read_golden(tmp_path / "golden.npz")


def test_another_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "FORMAT_VERSION", 2)
    with pytest.raises(ReleaseError, match="format version 1, this program reads 2"):
        read_golden(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    with (tmp_path / "golden.npz").open("wb") as file:
        np.savez(file, json=np.array([{"format_version": 1}], dtype=object))
    with pytest.raises(ReleaseError, match="allow_pickle"):
        read_golden(tmp_path / "golden.npz")


# Comparing answers


def answers(**changes: object) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in GOLDEN.intent.items()} | changes  # type: ignore[return-value]


def wrong(given: dict[str, np.ndarray]) -> list[str]:
    return mismatches(GOLDEN.intent, given, GOLDEN.tolerances)


def test_the_same_answers_are_right() -> None:
    assert wrong(answers()) == []


def test_what_other_processors_round_is_right_and_large_numbers_count_by_share() -> None:
    given = answers()
    given["purchase_probabilities"] += 9e-4
    given["expected_time_to_purchase_s"][1] += 4.0
    assert wrong(given) == []
    given["expected_time_to_purchase_s"][1] += 2.0
    assert wrong(given) == [
        "expected_time_to_purchase_s is off by more than 0.001 in 1 of 3: request 1 says 5006 "
        "instead of 5000"
    ]


def test_each_wrong_request_is_told_with_its_worst_number() -> None:
    given = answers()
    given["purchase_probabilities"][0, 0] = 0.102
    given["purchase_probabilities"][2] = (0.51, 0.9)
    assert wrong(given) == [
        "purchase_probabilities is off by more than 0.001 in 2 of 3: request 0 says 0.102 instead "
        "of 0.1, request 2 says 0.9 instead of 0.6"
    ]


def test_not_a_number_is_wrong() -> None:
    given = answers()
    given["purchase_probabilities"][1, 1] = np.nan
    (line,) = wrong(given)
    assert "request 1 says nan instead of 0.4" in line


def test_a_missing_output_and_another_shape_are_wrong() -> None:
    given = answers(purchase_probabilities=np.zeros((3, 3), np.float32))
    del given["expected_time_to_purchase_s"]
    assert wrong(given) == [
        "purchase_probabilities has the shape [3, 3], golden is [3, 2]",
        "expected_time_to_purchase_s is not answered",
    ]


def test_many_wrong_requests_are_counted() -> None:
    expected = {"x": np.zeros((10, 1), np.float32)}
    (line,) = mismatches(expected, {"x": np.ones((10, 1), np.float32)}, {"x": 0.1})
    assert line.startswith("x is off by more than 0.1 in 10 of 10: request 0 says 1 instead of 0,")
    assert line.endswith("request 2 says 1 instead of 0 and 7 more")
