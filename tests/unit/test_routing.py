"""Routing: which release answers whom."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shopintent.artifacts.routing import (
    AUDIT,
    Change,
    Routing,
    RoutingError,
    Share,
    changing_routing,
    promoted,
    read_audit,
    read_routing,
    routing_path,
)

CHANGE = Change("promote", "r2", who="ann", why="better")
VISITORS = [f"visitor:{number}" for number in range(4_000)]


def test_a_canary_answers_about_its_share_of_the_visitors_and_nobody_else() -> None:
    routing = Routing(serving="r1", canary=Share("r2", 10.0))
    answered = [routing.release_for(visitor) for visitor in VISITORS]
    assert set(answered) == {"r1", "r2"}
    assert 0.07 < answered.count("r2") / len(answered) < 0.13


def test_a_visitor_who_names_nobody_is_answered_by_the_serving_release() -> None:
    assert Routing(serving="r1", canary=Share("r2", 100.0)).release_for("") == "r1"
    assert Routing(serving="r1", canary=Share("r2", 100.0)).release_for("visitor:1") == "r2"


def test_who_was_in_a_canary_stays_in_when_it_grows() -> None:
    small, large = Share("r2", 5.0), Share("r2", 30.0)
    taken = [visitor for visitor in VISITORS if small.takes(visitor)]
    assert taken
    assert all(large.takes(visitor) for visitor in taken)


def test_another_canary_takes_other_visitors() -> None:
    first = {visitor for visitor in VISITORS if Share("r2", 50.0).takes(visitor)}
    second = {visitor for visitor in VISITORS if Share("r3", 50.0).takes(visitor)}
    assert 0.3 < len(first & second) / len(first) < 0.7


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.1, float("nan")])
def test_a_share_is_above_none_and_at_most_all(percent: float) -> None:
    with pytest.raises(RoutingError, match="percent"):
        Share("r2", percent)


def test_every_release_that_may_be_asked_is_named() -> None:
    routing = Routing("r2", canary=Share("r3", 1.0), shadow=Share("r4", 50.0), previous="r1")
    assert routing.named == {"r1", "r2", "r3", "r4"}
    assert Routing("r1").named == {"r1"}


def test_what_is_written_is_read_again_with_the_next_generation(tmp_path: Path) -> None:
    assert read_routing(tmp_path) is None
    assert read_audit(tmp_path) == []
    wanted = Routing("r2", canary=Share("r3", 2.5), previous="r1")
    with changing_routing(tmp_path) as change:
        assert change.routing is None
        change.write(wanted, CHANGE)
    with changing_routing(tmp_path) as change:
        assert change.routing is not None
        assert replace(change.routing, change=None) == replace(wanted, generation=1)
        change.write(wanted, CHANGE)
    written = read_routing(tmp_path)
    assert written is not None
    assert replace(written, change=None) == replace(wanted, generation=2)
    assert written.change is not None
    assert replace(written.change, at="") == CHANGE


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: saved | {"format_version": 2},
        lambda saved: saved | {"unknown": 1},
        lambda saved: saved | {"canary": {"release_id": "r2", "percent": 200.0}},
        lambda saved: {key: saved[key] for key in saved if key != "serving"},
        lambda saved: [saved],
    ],
)
def test_a_damaged_document_is_refused_and_the_remedy_named(
    tmp_path: Path, damage: Callable[[Any], Any]
) -> None:
    with changing_routing(tmp_path) as change:
        change.write(Routing("r1"), CHANGE)
    saved = json.loads(routing_path(tmp_path).read_text())
    routing_path(tmp_path).write_text(json.dumps(damage(saved)))
    with pytest.raises(RoutingError, match="releases promote"):
        read_routing(tmp_path)


def test_changes_of_several_processes_follow_each_other(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    writers = [spawning.Process(target=change_often, args=(tmp_path, 20)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    routing = read_routing(tmp_path)
    assert routing is not None
    assert routing.generation == 40
    assert [entry["generation"] for entry in read_audit(tmp_path)] == list(range(1, 41))


def test_every_change_is_audited_with_who_what_and_why(tmp_path: Path) -> None:
    for release_id in ("r1", "r2"):
        with changing_routing(tmp_path) as change:
            change.write(
                promoted(change.routing, release_id), replace(CHANGE, release_id=release_id)
            )
    entries = read_audit(tmp_path)
    assert [entry["generation"] for entry in entries] == [1, 2]
    assert [entry["release_id"] for entry in entries] == ["r1", "r2"]
    assert [entry["previous"] for entry in entries] == [None, "r1"]
    assert {entry["who"] for entry in entries} == {"ann"}
    assert {entry["why"] for entry in entries} == {"better"}
    assert all(entry["at"] for entry in entries)


@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_change_whose_audit_a_crash_cut_short_is_audited_before_the_next(
    tmp_path: Path, kept: int
) -> None:
    with changing_routing(tmp_path) as change:
        change.write(Routing("r1"), CHANGE)
    whole = (tmp_path / AUDIT).read_bytes()
    (tmp_path / AUDIT).write_bytes(whole[:kept])
    with changing_routing(tmp_path) as change:
        change.write(Routing("r2"), CHANGE)
    assert {entry["generation"] for entry in read_audit(tmp_path)} == {1, 2}


def change_often(root: Path, times: int) -> None:
    for _ in range(times):
        with changing_routing(root) as change:
            change.write(Routing("r1"), CHANGE)
