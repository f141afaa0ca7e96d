"""The cache stays bounded, and a deadline is shared by what is left of it."""

from __future__ import annotations

import pytest

from shopintent.server.cache import LruCache
from shopintent.server.deadlines import SHORTEST_S, Deadline


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_value_used_least_recently_makes_room() -> None:
    cache: LruCache[str, int] = LruCache(max_entries=2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]
    assert len(cache) == 2


def test_a_value_that_is_too_old_is_forgotten() -> None:
    clock = Clock()
    cache: LruCache[str, int] = LruCache(max_entries=2, max_age_s=60, clock=clock)
    cache.put("a", 1)
    clock.now = 60
    assert cache.get("a") == 1
    clock.now = 61
    assert cache.get("a") is None
    assert len(cache) == 0


def test_a_value_written_anew_is_as_young_as_its_last_write() -> None:
    clock = Clock()
    cache: LruCache[str, int] = LruCache(max_entries=2, max_age_s=60, clock=clock)
    cache.put("a", 1)
    clock.now = 50
    cache.put("a", 2)
    clock.now = 100
    assert cache.get("a") == 2


def test_discarding_what_is_not_held_is_nothing() -> None:
    cache: LruCache[str, int] = LruCache(max_entries=2)
    cache.put("a", 1)
    cache.discard("a")
    cache.discard("a")
    assert cache.get("a") is None


@pytest.mark.parametrize(
    ("caller_s", "expected_s"), [(None, 2.0), (1.0, 0.95), (60.0, 2.0), (0.0, SHORTEST_S)]
)
def test_a_call_gets_what_its_caller_waits_but_never_more_than_allowed(
    caller_s: float | None, expected_s: float
) -> None:
    deadline = Deadline.for_call(caller_s, at_most_s=2.0)
    assert deadline.share_s() == pytest.approx(expected_s, abs=0.05)


def test_a_share_is_of_what_is_left_and_never_nothing() -> None:
    deadline = Deadline.for_call(None, at_most_s=10.0)
    assert deadline.share_s(0.25) == pytest.approx(2.5, abs=0.1)
    assert Deadline(ends_at=0.0).share_s(0.5) == SHORTEST_S
