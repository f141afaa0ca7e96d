"""A run on disk: it comes back as it was, and one that cannot be used is refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shopintent.behavior import TokenizerError
from shopintent.trainer.run import Run, RunError
from support.learning import TINY, make_run


@pytest.fixture
def saved(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "run", config=replace(TINY, holdout_days=2.5))
    run.save()
    return run


def test_a_run_comes_back_as_it_was_saved(saved: Run) -> None:
    opened = Run.open(saved.folder)
    assert opened.info == saved.info
    assert opened.tokenizer.fingerprint == saved.tokenizer.fingerprint
    assert not opened.network.training
    for part, expected in ((opened.network, saved.network), (opened.heads, saved.heads)):
        weights = part.state_dict()
        assert weights.keys() == expected.state_dict().keys()
        for name, weight in expected.state_dict().items():
            assert torch.equal(weights[name], weight), name


def test_saving_again_replaces_what_was_there(saved: Run) -> None:
    with torch.no_grad():
        saved.network.act.bias.fill_(3.0)
    replace(saved, info=replace(saved.info, best_epoch=1)).save()
    opened = Run.open(saved.folder)
    assert opened.info.best_epoch == 1
    assert bool((opened.network.act.bias == 3.0).all())
    assert not (saved.folder / ".run.json").exists()


def change(run: Run, **values: object) -> None:
    file = run.folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


DAMAGE: dict[str, Callable[[Run], object]] = {
    "no run.json": lambda run: (run.folder / "run.json").unlink(),
    "half a run.json": lambda run: (run.folder / "run.json").write_text('{"format_version": 1,'),
    "no object": lambda run: (run.folder / "run.json").write_text("[]"),
    "other version": lambda run: change(run, format_version=99),
    "unknown setting": lambda run: change(run, config={"colour": "red"}),
    "no actions": lambda run: change(run, actions=None),
    "no weights": lambda run: (run.folder / "model.safetensors").unlink(),
    "no heads": lambda run: (run.folder / "heads.safetensors").unlink(),
    "half the weights": lambda run: (run.folder / "model.safetensors").write_bytes(b"\x10\0\0"),
    "other shape": lambda run: change(run, model=run.info.model.__dict__ | {"d_model": 4}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_that_cannot_be_used_is_refused_with_its_folder_and_the_remedy(
    saved: Run, damage: str
) -> None:
    DAMAGE[damage](saved)
    with pytest.raises(RunError) as raised:
        Run.open(saved.folder)
    assert str(saved.folder) in str(raised.value)
    assert "train" in str(raised.value)


def test_a_folder_that_is_not_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished training run"):
        Run.open(tmp_path / "nowhere")


def test_a_training_that_was_stopped_before_its_end_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    run = make_run(tmp_path / "run")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        run.save()
    with pytest.raises(RunError, match="no finished training run"):
        Run.open(run.folder)


def test_a_damaged_tokenizer_is_named(saved: Run) -> None:
    (saved.folder / "behavior_tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="behavior_tokenizer"):
        Run.open(saved.folder)
