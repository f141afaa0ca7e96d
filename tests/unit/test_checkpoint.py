"""Training that stops anywhere goes on as if it had not."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensorboardX.proto.event_pb2 import Event

from shopintent.trainer import learn as learning
from shopintent.trainer.checkpoint import CHECKPOINT_FILE, Checkpoint, CheckpointError
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.training_log import LOG_FOLDER, TrainingLog
from support import resumable
from support.resumable import CONFIG, WEIGHTS_FILE, run


class Stopped(Exception):
    pass


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MIN_STEPS", 6)


def stop_at(step: int) -> Progress:
    steps = count(1)

    def on_progress(description: str, done: int, total: int) -> None:
        if next(steps) == step:
            raise Stopped

    return on_progress


def train(
    folder: Path, on_progress: Progress = silent, **changes: object
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]], int]:
    config: TrainConfig = replace(CONFIG, **changes)  # type: ignore[arg-type]
    checkpoint = Checkpoint(folder, save_every_s=0.0)
    network, history, best = run(config, on_progress, checkpoint)
    return network.state_dict(), history, best


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


@pytest.mark.parametrize("step", [1, 2, 8, 10, 15])
def test_a_training_that_stops_at_any_step_ends_as_if_it_had_not(step: int, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(Stopped):
        train(tmp_path / "stopped", stop_at(step))
    resumed = train(tmp_path / "stopped")
    assert_same(resumed[0], whole[0])
    assert resumed[1:] == whole[1:]


def test_a_checkpoint_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    network, history, best = run(CONFIG, silent)
    kept = train(tmp_path)
    assert_same(network.state_dict(), kept[0])
    assert (history, best) == kept[1:]


def test_a_finished_training_is_not_trained_again_unless_it_may_go_on_for_longer(
    tmp_path: Path,
) -> None:
    first = train(tmp_path, max_epochs=1)
    again = train(tmp_path, stop_at(2), max_epochs=1)  # the end of the bar, and no step
    assert_same(first[0], again[0])
    longer = train(tmp_path, max_epochs=3)
    assert longer[1] == train(tmp_path / "whole", max_epochs=3)[1]


def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, stop_at(4))
    with pytest.raises(CheckpointError, match="other settings or other data: train with --re"):
        train(tmp_path, learning_rate=0.02)


def test_other_data_is_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, stop_at(4))
    made = resumable.shoppers_who_view_and_buy
    monkeypatch.setattr(
        resumable, "shoppers_who_view_and_buy", lambda *, seed, n: made(seed=seed + 1, n=n)
    )
    with pytest.raises(CheckpointError, match="other data"):
        train(tmp_path)


def test_a_checkpoint_of_another_version_or_a_damaged_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, stop_at(4))
    file = tmp_path / CHECKPOINT_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=f"{CHECKPOINT_FILE} is damaged"):
        train(tmp_path)
    file.write_bytes(whole)
    with safe_open(file, "pt") as opened:
        about = opened.metadata() | {"format_version": "0"}
    save_file(load_file(file), file, about)
    with pytest.raises(CheckpointError, match="another version of the trainer"):
        train(tmp_path)


def test_a_removed_checkpoint_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, stop_at(4))
    Checkpoint(tmp_path).remove()
    with pytest.raises(Stopped):
        train(tmp_path, stop_at(6), max_epochs=1)


def test_a_training_killed_by_the_system_ends_with_the_very_same_weights(tmp_path: Path) -> None:
    whole, killed = start(tmp_path / "whole"), start(tmp_path / "killed")
    with whole, killed:
        assert killed.stdout is not None
        for _ in range(50):  # in the second epoch
            assert killed.stdout.readline() == "step\n"
        killed.send_signal(signal.SIGKILL)
        whole.communicate()
    assert not (tmp_path / "killed" / WEIGHTS_FILE).exists()
    with start(tmp_path / "killed") as resumed:
        resumed.communicate()
    first, second = (tmp_path / name / WEIGHTS_FILE for name in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()


def start(folder: Path) -> subprocess.Popen[str]:
    """Starts, or goes on with, a training of two epochs in a process of its own."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "support.resumable", str(folder), "2"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_the_curves_of_a_stopped_training_go_on(tmp_path: Path) -> None:
    for stopped in (True, False):
        checkpoint = Checkpoint(tmp_path, save_every_s=0.0)
        with TrainingLog(tmp_path, write_every_s=0.0) as log:
            if stopped:
                with pytest.raises(Stopped):
                    run(CONFIG, stop_at(9), checkpoint, log)
            else:
                run(CONFIG, silent, checkpoint, log)
    first, second = sorted((tmp_path / LOG_FOLDER).iterdir(), key=lambda file: int(file.suffix[1:]))
    before, after = steps_told(first), steps_told(second)
    assert before["loss/product"] == [*range(8)]
    assert after["loss/product"][0] == 8
    assert after["loss/product"][-1] == after["epoch/validation_ndcg"][-1]


def steps_told(file: Path) -> dict[str, list[int]]:
    """Returns the steps of every curve in an event file."""
    content, told = file.read_bytes(), defaultdict(list)
    while content:
        (size,) = struct.unpack("<Q", content[:8])  # and a checksum of 4 bytes, before and behind
        event = Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]
        for value in event.summary.value:
            told[value.tag].append(event.step)
    return told
