"""Prepare, train, evaluate, publish: on logs of any make, and on logs that lack nearly everything.

Networks are tiny and trained for one epoch; what counts is that each step ends well, or says why.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shopintent.artifacts import ReleasesRoot
from shopintent.trainer import fit_network
from shopintent.trainer.__main__ import app
from shopintent.trainer.evaluation import bootstrap
from shopintent.trainer.text import MODEL_FILE, TOKENIZER_FILE
from support.public_logs import BUY, SHAPES, START, VIEW, Act, acts
from support.trained import Trained

TINY = (
    *("--max-epochs", "1", "--max-minutes", "0.3", "--d-model", "16", "--n-layers", "1"),
    *("--max-events", "16"),
)
DONE = acts(120)
CUT = sorted(act.time for act in DONE)[int(len(DONE) * 0.75)]
"""A little before the newest fifth of the events."""


@pytest.fixture(autouse=True)
def little_work(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the text encoder that is there instead of exporting it again, and few resamples."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 20)
    monkeypatch.setattr(bootstrap, "MIN_RESAMPLES", 20)

    def copy(name: str, folder: Path, *, max_tokens: int) -> None:
        for file in (MODEL_FILE, TOKENIZER_FILE):
            shutil.copyfile(trained.run.folder / file, folder / file)

    monkeypatch.setattr(fit_network, "export_text_encoder", copy)


def trainer(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def prepare(folder: Path, shape: str, done: list[Act]) -> Path:
    log, mapping = folder / "log", folder / "mapping.toml"
    log.mkdir()
    SHAPES[shape].write(log, done)
    mapping.write_text(SHAPES[shape].mapping, encoding="utf-8")
    result = trainer("prepare", log, "--mapping", mapping, "--out", folder / "data")
    assert result.exit_code == 0, result.output
    return folder / "data"


def train_and_evaluate(folder: Path, shape: str, done: list[Act]) -> Path:
    data, run = prepare(folder, shape, done), folder / "run"
    for command in (("train", data, "--out", run, *TINY), ("evaluate", run)):
        result = trainer(*command)
        assert result.exit_code == 0, result.output
    return run


@pytest.mark.parametrize("shape", ["otto", "instacart"])
def test_a_mapping_is_all_that_another_log_needs(tmp_path: Path, shape: str) -> None:
    run = train_and_evaluate(tmp_path, shape, DONE)
    assert any((run / "evaluation").iterdir())


def test_a_log_without_shoppers_and_types_ends_in_a_release(tmp_path: Path) -> None:
    run = train_and_evaluate(tmp_path, "yoochoose", DONE)
    result = trainer("publish", run, "--to", tmp_path / "releases", "--release", "r1")
    assert result.exit_code == 0, result.output
    assert ReleasesRoot(tmp_path / "releases").release("r1").manifest.is_file()


def nobody_bought_before(done: list[Act]) -> list[Act]:
    return [act for act in done if act.kind != BUY or act.time >= CUT]


def all_products_are_new_later(done: list[Act]) -> list[Act]:
    return [replace(a, product=a.product + 100 * (a.time >= CUT)) for a in done]


def one_product(done: list[Act]) -> list[Act]:
    return [replace(act, product=1) for act in done]


def visits_of_one_event(done: list[Act]) -> list[Act]:
    return list({act.session: act for act in done if act.kind == VIEW}.values())


@pytest.mark.parametrize(
    "change",
    [
        nobody_bought_before,
        all_products_are_new_later,
        one_product,
        visits_of_one_event,
    ],
)
def test_a_log_that_lacks_something_is_still_learned_from_and_judged(
    tmp_path: Path, change: Callable[[list[Act]], list[Act]]
) -> None:
    train_and_evaluate(tmp_path, "tabs", sorted(change(DONE), key=lambda act: act.time))


def within_an_hour(done: list[Act]) -> list[Act]:
    return [replace(act, time=START + (act.time - START) // 1_000) for act in done]


def at_one_time(done: list[Act]) -> list[Act]:
    return [replace(act, time=START) for act in done]


def few_shoppers(done: list[Act]) -> list[Act]:
    return [act for act in done if act.shopper <= 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (within_an_hour, "the log spans"),
        (at_one_time, "the log spans 0.0 hours"),
        (few_shoppers, "shoppers have events before the held-out time"),
    ],
)
def test_a_log_that_is_too_little_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[list[Act]], list[Act]], message: str
) -> None:
    data = prepare(tmp_path, "tabs", change(DONE))
    result = trainer("train", data, "--out", tmp_path / "run", *TINY)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.split())
