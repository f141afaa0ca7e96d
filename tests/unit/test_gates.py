"""What `publish` believes of an evaluation, and what it says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shopintent.artifacts.metrics import MetricRow, failed_gates
from shopintent.trainer.code_version import commit_of, git
from shopintent.trainer.evaluation.rows import write_metrics
from shopintent.trainer.gates import FOLDER, GATES, calibration_of, measured
from shopintent.trainer.publish import PublishError, gated
from shopintent.trainer.run import HEADS, WEIGHTS, Run, RunError, weights_digest
from support.trained import Trained

pytestmark = pytest.mark.releases


def row(metric: str, value: float, **more: object) -> MetricRow:
    known = {"model": "shopintent", "split": "time", "ci": (value - 0.01, value + 0.01), "seed": 7}
    return MetricRow(metric=metric, value=value, **{**known, **more})  # type: ignore[arg-type]


GOOD = [
    row("base_rate", 0.05, horizon="24h", samples=900),
    row("ece", 0.01, horizon="24h", samples=900),
    row("calibration_slope", 1.02, horizon="24h", samples=900),
    row("calibration_intercept", -0.1, horizon="24h", samples=900),
    row("ndcg", 0.4, k=10),
    row("ndcg_minus_popular", 0.3, k=10),
    row("ece", 0.5, horizon="24h", prefix="3"),
    row("ece", 0.5, horizon="24h", slice="cold-shoppers"),
    row("ece", 0.5, horizon="24h", model="logistic"),
]
BAD = [*GOOD[:1], row("ece", 0.2, horizon="24h"), row("ndcg_minus_popular", -0.2, k=10)]


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> Run:
    """The tiny run in a folder of its own, without an evaluation."""
    for name in (WEIGHTS, HEADS):
        shutil.copyfile(trained.run.folder / name, tmp_path / name)
    return replace(trained.run, folder=tmp_path)


def evaluated(run: Run, rows: list[MetricRow]) -> None:
    write_metrics(run.folder / FOLDER, {"run": weights_digest(run.folder)}, rows)


def test_all_requests_are_judged_and_slices_are_not(run: Run) -> None:
    evaluated(run, GOOD)
    rows = measured(run)
    assert [each.metric for each in rows] == [each.metric for each in GOOD[:6]]
    assert [each.gate for each in rows] == [GATES.get(each.metric) for each in GOOD[:6]]
    assert rows[1].ci == pytest.approx((0.0, 0.02))
    assert failed_gates(rows) == []
    assert gated(run, None) == (rows, None)
    assert gated(run, "not needed") == (rows, None)


def test_the_calibration_of_each_horizon_is_summed_up(run: Run) -> None:
    evaluated(run, [*GOOD, row("ece", 0.015, horizon="session")])
    day, session = calibration_of(measured(run))
    assert (day.horizon, day.samples, day.base_rate) == ("24h", 900, 0.05)
    assert (day.ece, day.slope, day.intercept) == (0.01, 1.02, -0.1)
    assert (session.horizon, session.ece, session.slope) == ("session", 0.015, None)


def test_a_failed_gate_refuses_with_every_reason_and_the_way_out(run: Run) -> None:
    evaluated(run, BAD)
    with pytest.raises(PublishError) as raised:
        gated(run, None)
    said = str(raised.value)
    assert "ece within 24h is 0.2 (0.19 to 0.21), it must be at most 0.02" in said
    assert "ndcg_minus_popular@10 is -0.2" in said
    assert '--force "why"' in said


def test_force_lets_a_failed_gate_pass_and_needs_a_reason(run: Run) -> None:
    evaluated(run, BAD)
    rows, forced = gated(run, "a bad model on purpose")
    assert (len(rows), forced) == (3, "a bad model on purpose")
    with pytest.raises(PublishError, match="needs a reason"):
        gated(run, " ")


def test_a_run_that_was_not_evaluated_has_no_metrics(run: Run) -> None:
    assert gated(run, None) == ((), None)


@pytest.mark.parametrize("protocol", [{"run": "0123456789abcdef"}, {}])
def test_the_evaluation_of_other_weights_is_not_believed(
    run: Run, protocol: dict[str, object]
) -> None:
    write_metrics(run.folder / FOLDER, protocol, BAD)
    assert measured(run) == ()


@pytest.mark.parametrize("text", ["", "{", '{"format_version": 0, "rows": []}'])
def test_metrics_that_cannot_be_read_are_no_metrics(run: Run, text: str) -> None:
    evaluated(run, BAD)
    (run.folder / FOLDER / "metrics.json").write_text(text, encoding="utf-8")
    assert measured(run) == ()


def test_other_weights_have_another_digest(run: Run) -> None:
    before = weights_digest(run.folder)
    assert json.dumps(before)
    with (run.folder / HEADS).open("ab") as file:
        file.write(b"\0")
    assert weights_digest(run.folder) != before
    (run.folder / WEIGHTS).unlink()
    with pytest.raises(RunError, match="train again"):
        weights_digest(run.folder)


# Which code published it


def test_a_file_that_is_not_in_git_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / "code.py").touch()
    assert commit_of(tmp_path / "code.py") is None


def test_the_commit_of_a_checkout_tells_of_changes(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.touch()
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "code.py")
    assert git(tmp_path, *identity, "commit", "--quiet", "-m", "first") is not None
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert commit is not None
    assert commit_of(file) == commit
    file.write_text("changed", encoding="utf-8")
    assert commit_of(file) == f"{commit}+changes"
    (tmp_path / "other.py").touch()
    assert commit_of(tmp_path / "other.py") is None
