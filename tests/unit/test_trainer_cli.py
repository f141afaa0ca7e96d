"""The commands: each teaches in --help, and what a user can mend is one line and exit status 1."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.manifest import FLOAT32, ReleaseFile
from shopintent.trainer.__main__ import app
from shopintent.trainer.console import expected_errors
from shopintent.trainer.data import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.publish import Published
from shopintent.trainer.run import Run
from support import shop as shops
from support.trained import Trained

COMMANDS = (
    "simulate", "inspect", "prepare", "train", "update", "evaluate", "publish", "benchmark",
)  # fmt: skip


def trainer(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def error_of(result: Result) -> str:
    """Returns the one line that a command failed with; there must be no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.output
    assert result.output.splitlines()[-1] == lines[0]
    assert "Traceback" not in result.output
    return lines[0]


def test_help_names_every_command_and_the_order_of_a_first_release() -> None:
    result = trainer("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.output
    assert "A first release" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_explains_every_option(command: str) -> None:
    result = trainer(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert len(result.output.splitlines()) > 8


@pytest.mark.parametrize("error", expected_errors(), ids=lambda error: error.__name__)
def test_every_error_a_user_can_mend_is_one_line(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise error("/shop[v2]/x: has columns [a, b];\n  correct [/] it")

    monkeypatch.setattr("shopintent.trainer.data.simulate", fail)
    line = error_of(trainer("simulate", "--out", tmp_path))
    assert line == "error: /shop[v2]/x: has columns [a, b]; correct [/] it"


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyError])
def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise error("a bug")

    monkeypatch.setattr("shopintent.trainer.data.simulate", fail)
    result = trainer("simulate", "--out", tmp_path)
    assert type(result.exception) is error


def test_a_shop_that_cannot_be_simulated(tmp_path: Path) -> None:
    assert "n_products must be at least" in error_of(
        trainer("simulate", "--out", tmp_path, "--products", "2")
    )


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    line = error_of(trainer("prepare", tmp_path, "--mapping", "nobody", "--out", tmp_path / "out"))
    assert "nobody" in line


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    log = tmp_path / "nowhere"
    line = error_of(trainer("prepare", log, "--mapping", "simulated", "--out", tmp_path / "out"))
    assert str(log) in line


def test_training_on_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    line = error_of(trainer("train", tmp_path, "--out", tmp_path / "run"))
    assert "holds no prepared dataset" in line


def test_holding_out_more_than_there_is(trained: Trained, tmp_path: Path) -> None:
    data = trained.dataset.folder
    line = error_of(trainer("train", data, "--out", tmp_path, "--holdout-days", "99"))
    assert "--holdout-days" in line


def test_a_text_encoder_that_is_not_there(trained: Trained, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    options = ["--out", str(tmp_path / "run"), "--text-encoder", str(empty)]
    # A process of its own: the libraries of the encoder log to the streams they find at first.
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "shopintent.trainer",
            "train",
            str(trained.dataset.folder),
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    (line,) = [each for each in ended.stderr.splitlines() if each.startswith("error: ")]
    assert str(empty) in line
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("command", [("evaluate",), ("publish", "--to", "releases")])
def test_a_run_that_is_not_there(command: tuple[str, ...], tmp_path: Path) -> None:
    line = error_of(trainer(command[0], tmp_path / "run", *command[1:]))
    assert "shopintent-trainer train" in line


def test_a_damaged_tokenizer(trained: Trained, tmp_path: Path) -> None:
    run = shutil.copytree(trained.run.folder, tmp_path / "run")
    (run / "behavior_tokenizer" / "arrays.npz").write_bytes(b"")
    assert "behavior_tokenizer" in error_of(trainer("evaluate", run))


def test_a_dataset_that_has_gone(trained: Trained, tmp_path: Path) -> None:
    line = error_of(trainer("evaluate", trained.run.folder, "--data", tmp_path / "gone"))
    assert str(tmp_path / "gone") in line


def test_a_release_id_that_cannot_be(trained: Trained, tmp_path: Path) -> None:
    line = error_of(
        trainer("publish", trained.run.folder, "--to", tmp_path / "r", "--release", "Spring 1")
    )
    assert "'Spring 1' is no release id" in line
    assert not (tmp_path / "r").exists()


def test_simulate_and_prepare_say_where_things_are(tmp_path: Path) -> None:
    log = tmp_path / "shop"
    size = ("--shoppers", "400", "--products", "110", "--days", "7")
    assert "400 shoppers" in trainer("simulate", "--out", log, *size).output
    result = trainer("prepare", log, "--mapping", log / "mapping.toml", "--out", tmp_path / "data")
    assert result.exit_code == 0, result.output
    assert "events are ready to train on" in result.output


# Publishing, without the minute that it takes


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    """Has nothing published; holds where a release was to go, and how."""
    calls: list[tuple[str, dict[str, object]]] = []
    manifest = replace(shops.manifest(3), files=(ReleaseFile("a", 2_500_000, "f" * 64),))

    def to_root(
        run: Run,
        dataset: Dataset,
        root: ReleasesRoot,
        release_id: str,
        bars: Progress,
        **how: object,
    ) -> Published:
        calls.append((str(root.path), how))
        return Published(replace(manifest, release_id=release_id), serving=True)

    def to_url(
        run: Run, dataset: Dataset, url: str, release_id: str, bars: Progress, **how: object
    ) -> Published:
        calls.append((url, how))
        return Published(replace(manifest, release_id=release_id), serving=False)

    monkeypatch.setattr("shopintent.trainer.publish.publish", to_root)
    monkeypatch.setattr("shopintent.trainer.publish.publish_to_url", to_url)
    return calls


@pytest.mark.releases
@pytest.mark.parametrize(
    ("options", "promote", "force"),
    [
        ((), None, None),
        (("--promote",), True, None),
        (("--no-promote", "--force", "a demo"), False, "a demo"),
    ],
)
def test_a_release_goes_to_a_folder_and_says_what_it_is(
    trained: Trained,
    tmp_path: Path,
    asked: list[tuple[str, dict[str, object]]],
    options: tuple[str, ...],
    promote: bool | None,
    force: str | None,
) -> None:
    result = trainer("publish", trained.run.folder, "--to", tmp_path, "--release", "s1", *options)
    assert result.exit_code == 0, result.output
    how = {"promote": promote, "force": force, "precision": FLOAT32}
    assert asked == [(str(tmp_path), how)]
    for said in ("release s1", "1, 2.5 MB", "2025-06-15", "not checked", "all of it, from now on"):
        assert said in result.output


@pytest.mark.releases
def test_a_release_goes_to_a_store_and_says_what_gives_it_traffic(
    trained: Trained, asked: list[tuple[str, dict[str, object]]]
) -> None:
    to = ("--to", "s3://bucket/shop", "--release", "s1")
    result = trainer("publish", trained.run.folder, *to)
    assert result.exit_code == 0, result.output
    how = {"force": None, "promote": None, "precision": FLOAT32}
    assert asked == [("s3://bucket/shop", how)]
    assert "releases promote" in result.output


@pytest.mark.releases
def test_a_store_that_nobody_knows_is_explained(trained: Trained) -> None:
    line = error_of(trainer("publish", trained.run.folder, "--to", "ftpx://there"))
    assert "ftpx://there cannot be opened" in line
    assert "pip install" in line
