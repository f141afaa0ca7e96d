"""The arithmetic of `make bench`, and what it makes up."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.bench import machine, report, stages
from deploy.bench.bench import short
from deploy.bench.collection import grown, sized_release
from deploy.bench.measured import Measured
from deploy.bench.options import parse
from deploy.bench.overload import Probe, judge
from deploy.bench.results import Cell, parts, peak, ratios, rows, spread
from deploy.bench.visitors import make_visitors
from shopintent.artifacts import Manifest, ReleasesRoot, read_products
from support import shop as shops


def measured(rps: float, *, p50_ms: float = 1.0, n_failed: int = 0) -> Measured:
    return Measured(rps, p50_ms, 2 * p50_ms, n_answers=100, n_failed=n_failed, offered_rps=rps)


ROUNDS = {
    Cell("triton", 1, 0): [measured(90, p50_ms=1.0), measured(100, p50_ms=1.1)],
    Cell("predict_intent", 1, 50): [measured(80, p50_ms=1.5), measured(80, p50_ms=1.7)],
    Cell("triton", 64, 0): [measured(1000), measured(500), measured(800)],
    Cell("predict_intent", 64, 50): [measured(900), measured(400), measured(400)],
    Cell("recommend", 64, 50): [measured(450, n_failed=2), measured(400), measured(300)],
    Cell("recommend", 64, 10): [measured(10), measured(10), measured(10)],
}


def test_a_row_holds_the_medians_of_its_rounds_and_how_far_apart_they_are() -> None:
    row = rows(ROUNDS, {Cell("recommend", 64, 50): 3})[4]
    assert (row.target, row.in_flight, row.products) == ("recommend", 64, 50)
    assert row.rps == 400
    assert row.spread == pytest.approx(150 / 400)
    assert (row.failed, row.wrong) == (2, 3)
    assert spread([0.0, 0.0]) == 0.0


def test_ratios_are_taken_within_rounds_and_of_the_collection_asked_for() -> None:
    found = ratios(ROUNDS, products=50)
    assert found["predict_intent_vs_triton_at_64"]["median"] == 0.8
    assert found["predict_intent_added_p50_ms_at_1"]["median"] == 0.55
    assert found["recommend_vs_predict_intent_at_64"] == {
        "median": 0.75,
        "smallest": 0.5,
        "largest": 1.0,
    }


def test_one_call_is_taken_apart_by_differences() -> None:
    rounds = {**ROUNDS, Cell("health", 1, 0): [measured(1, p50_ms=0.2), measured(1, p50_ms=0.2)]}
    found = parts(rounds, products=50)
    assert found["a call of no content"]["median"] == 0.2
    assert found["what PredictIntent adds to both"] == {
        "median": 0.35,
        "smallest": 0.3,
        "largest": 0.4,
    }
    assert "what Recommend adds to PredictIntent" not in found


def test_what_was_not_measured_has_no_ratio() -> None:
    assert ratios({Cell("triton", 16, 0): [measured(1)]}, products=50) == {}


def test_the_peak_is_the_best_of_all_numbers_in_flight() -> None:
    assert peak(ROUNDS, "triton", 0) == 800
    assert peak(ROUNDS, "recommend", 50) == 400


PAGE = """
# HELP shopintent_stage_duration_seconds How long each stage of an answer took.
# TYPE shopintent_stage_duration_seconds histogram
shopintent_stage_duration_seconds_bucket{{le="+Inf",stage="model"}} {n}
shopintent_stage_duration_seconds_count{{stage="model"}} {n}
shopintent_stage_duration_seconds_sum{{stage="model"}} {model_s}
# HELP rpc_server_call_duration_seconds How long calls took.
# TYPE rpc_server_call_duration_seconds histogram
rpc_server_call_duration_seconds_bucket{{le="+Inf",rpc_method="a"}} {n}
rpc_server_call_duration_seconds_count{{rpc_method="a"}} {n}
rpc_server_call_duration_seconds_sum{{rpc_method="a"}} {call_s}
"""


def test_a_stage_costs_what_was_added_to_it_between_two_looks() -> None:
    before = stages.parse(PAGE.format(n=10, model_s=1.0, call_s=2.0))
    after = stages.parse(PAGE.format(n=30, model_s=1.1, call_s=2.3))
    found = stages.between(before, after)
    assert found["model"] == {"ms_per_call": 5.0, "times_per_call": 1.0}
    assert found["call"]["ms_per_call"] == 15.0
    assert found["rest"]["ms_per_call"] == 10.0
    assert stages.between(after, after) == {}


def test_a_grown_collection_begins_with_the_most_popular_and_goes_on_with_products_like_them() -> (
    None
):
    originals = shops.indexed(shops.products(20))
    collection = grown(originals, 500)
    assert collection.products[:20] == [each.product for each in originals]
    assert len({product.product_id for product in collection.products}) == 500
    assert all(product.title for product in collection.products)
    assert np.allclose(np.linalg.norm(collection.embeddings, axis=1), 1, atol=1e-5)
    nearest = (collection.embeddings[20:] @ collection.embeddings[:20].T).max(axis=1)
    assert nearest.min() > 0.5
    assert collection.content.shape == (500, 6)


def test_a_smaller_collection_holds_only_the_most_popular() -> None:
    originals = shops.indexed(shops.products(20))
    assert grown(originals, 5).products == [each.product for each in originals[:5]]


def test_a_sized_release_is_the_same_release_with_other_products(tmp_path: Path) -> None:
    source = ReleasesRoot(tmp_path / "releases")
    shops.write_release(source.release("r1").path, shops.indexed(shops.products(20)))
    shops.manifest(20).save(source.release("r1").manifest)
    source.model_repository.mkdir()
    source.set_current("r1")
    sized = sized_release(source, 70, tmp_path / "sized")
    assert sized.current() == "r1"
    assert len(list(read_products(sized.release("r1")))) == 70
    manifest = Manifest.load(sized.release("r1").manifest)
    assert (manifest.n_products, manifest.release_id) == (70, "r1")
    assert len(list(read_products(source.release("r1")))) == 20
    assert sized_release(source, 70, tmp_path / "sized").path == sized.path


def test_visitors_are_many_and_differ_but_are_the_same_every_time() -> None:
    def make() -> list[tuple[str, tuple[object, ...]]]:
        visitors = make_visitors(
            shops.products(50), n_visitors=30, n_events=12, newest_time=1_000_000
        )
        return [(each.visitor_id, each.events) for each in visitors]

    visitors = make()
    assert visitors == make()
    assert len({events for _, events in visitors}) == 30
    assert len({len(visitor_id) for visitor_id, _ in visitors}) == 1
    times = [event.event_time for event in visitors[0][1]]  # type: ignore[attr-defined]
    assert times == sorted(times)
    assert times[-1] == 1_000_000
    assert len(times) == 12


def test_probes_are_judged_by_what_became_of_them() -> None:
    probes = [
        *[Probe("OK", 100.0, False)] * 6,
        *[Probe("RESOURCE_EXHAUSTED", 2.0, True)] * 3,
        Probe("RESOURCE_EXHAUSTED", 4.0, False),
        *[Probe("DEADLINE_EXCEEDED", 500.0, False)] * 10,
    ]
    found = judge(
        probes,
        target="recommend",
        products=50,
        times_peak=3.0,
        offered_rps=300.0,
        answered_rps=100.0,
        deadline_ms=500,
    )
    assert (found.accepted_share, found.refused_share) == (0.3, 0.2)
    assert found.other == {"DEADLINE_EXCEEDED": 0.5}
    assert found.refused_with_retry_info == 0.75
    assert (found.accepted_p99_ms, found.refused_p50_ms) == (100.0, 2.0)


def test_what_no_probe_met_is_left_open() -> None:
    found = judge(
        [Probe("OK", 1.0, False)],
        target="recommend",
        products=50,
        times_peak=3.0,
        offered_rps=3.0,
        answered_rps=1.0,
        deadline_ms=500,
    )
    assert found.refused_p99_ms is None
    assert found.refused_with_retry_info is None


@pytest.mark.parametrize(("n", "name"), [(10_000, "10k"), (1_000_000, "1m"), (1_234, "1234")])
def test_sizes_have_short_names(n: int, name: str) -> None:
    assert short(n) == name


def test_quick_is_small_and_what_is_given_beside_it_wins() -> None:
    options = parse(["--quick", "--products", "500", "--growth"])
    assert (options.rounds, options.products) == (1, (500,))
    assert options.growth == (0, 8, 32, 128)
    assert options.main_size == 500
    assert parse([]).growth == ()
    assert parse(["--products", "1000000", "50000"]).main_size == 50_000


def test_memory_is_that_of_a_process_and_all_below_it() -> None:
    sleeper = "import time; print('up', flush=True); time.sleep(60)"
    line = [sys.executable, "-c", sleeper]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert child.pid in machine.descendants(os.getpid())
            assert 1 < machine.memory_mb(child.pid) < 100
            assert machine.memory_mb(os.getpid()) > machine.memory_mb(child.pid)
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.3, "goal"), (0.4, "goal"), (0.8, "bar"), (0.81, "below the bar")]
)
def test_a_ratio_is_judged_by_bar_and_goal(value: float, verdict: str) -> None:
    (wanted,) = (each for each in report.WANTED if "added_p50" in each.ratio)
    assert wanted.judge(value) == verdict
    upside_down = replace(wanted, bar=0.4, goal=0.8, lower_is_better=False)
    assert upside_down.judge(0.3) == "below the bar"
