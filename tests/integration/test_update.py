"""A release is taught a new season: it gains there, forgets nothing, and must not where it would.

On the small shop NDCG@10 of the newest visits has to rise by MARGIN at least; `shopintent-trainer
benchmark update` tells by how much it rises in a larger one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.integrity import verify_release
from shopintent.artifacts.metrics import ALL
from shopintent.trainer.__main__ import app
from shopintent.trainer.checkpoint import Checkpoint
from shopintent.trainer.data import Dataset
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.evaluation import bootstrap
from shopintent.trainer.publish import publish
from shopintent.trainer.run import Run, RunError
from shopintent.trainer.update import refresh
from shopintent.trainer.update.config import UpdateConfig, UpdateError
from shopintent.trainer.update.refresh import Updated, update
from shopintent.trainer.update.verdict import NEWEST, OLD, changes
from support.seasons import FIRST, Seasons, make_seasons
from support.trained import Trained

pytestmark = [pytest.mark.events, pytest.mark.timeout(900)]

MARGIN = 0.05
"""Of NDCG@10 on the newest visits, as a share of what the serving release has."""
CONFIG = UpdateConfig(max_epochs=8, patience=2, max_minutes=60.0)


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Draws shoppers often enough for intervals, and no more."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("RESAMPLES", "MIN_RESAMPLES"):
            patched.setattr(bootstrap, name, 60)
        yield


@pytest.fixture(scope="module")
def seasons(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Seasons:
    return make_seasons(tmp_path_factory.mktemp("seasons"), trained)


@pytest.fixture(scope="module")
def updated(
    seasons: Seasons, few_resamples: None, tmp_path_factory: pytest.TempPathFactory
) -> Updated:
    folder = tmp_path_factory.mktemp("update") / "run"
    return updated_in(folder, seasons, CONFIG)


def updated_in(
    folder: Path, seasons: Seasons, config: UpdateConfig, on_progress: Progress = silent
) -> Updated:
    releases = str(seasons.releases.path)
    return update(releases, seasons.second, seasons.first, config, folder, on_progress)


def command(seasons: Seasons, out: Path, *options: str | Path) -> Result:
    given = ("--releases", seasons.releases.path, "--data", seasons.second.folder, "--out", out)
    return CliRunner().invoke(app, ["update", *map(str, (*given, *options))])


def better(updated: Updated, judged: str, metric: str = "ndcg") -> float:
    """Returns by how much the update is better than the release, as a share."""
    (change,) = [
        each
        for each in changes(updated.report.rows, judged)
        if (each.row.metric, each.row.k) == (metric, 10)
    ]
    return -change.loss


def test_an_update_gains_on_new_visits_and_loses_less_than_2_percent_on_old_ones(
    updated: Updated,
) -> None:
    assert better(updated, NEWEST) > MARGIN
    assert better(updated, OLD) > -0.02
    assert updated.refusals == []


def test_both_answer_the_same_requests(updated: Updated) -> None:
    whole = [row for row in updated.report.rows if (row.prefix, row.slice) == (ALL, ALL)]
    for judged in (OLD, NEWEST):
        for metric in ("ndcg", "hr", "pr_auc", "log_loss", "next_action_log_loss"):
            samples = {
                (row.model, row.horizon, row.k): row.samples
                for row in whole
                if (row.split, row.metric) == (judged, metric)
            }
            assert {model for model, _, _ in samples} == {"shopintent", "serving"}, metric
            for (model, horizon, k), n in samples.items():
                assert n == samples["serving", horizon, k], (model, metric)
    assert any(row.metric == "ndcg_minus_serving" and row.ci for row in whole)


def test_known_products_keep_their_ids_and_new_ones_are_learned(
    seasons: Seasons, updated: Updated
) -> None:
    before, after = seasons.run.tokenizer, updated.run.tokenizer
    for name in ("products", "categories", "brands"):
        words = getattr(before, name).words
        assert getattr(after, name).words[: len(words)] == words
    assert len(after.products.words) > 1.1 * len(before.products.words)
    assert "Sports > Winter > Skis" in after.categories.words
    assert after.fingerprint != before.fingerprint
    assert updated.run.info.actions == seasons.run.info.actions


def test_an_update_is_published_with_the_release_it_goes_on_from(
    seasons: Seasons, updated: Updated, tmp_path: Path
) -> None:
    root = ReleasesRoot(tmp_path / "releases")
    run = Run.open(updated.run.folder)
    published = publish(run, Dataset.open(Path(run.info.dataset)), root, "season-2", silent)
    assert published.manifest.parent == FIRST
    assert published.manifest.data.cut_time == updated.split.cut_time
    assert verify_release(root, "season-2").n_products == updated.dataset.info.n_products
    # The release alone is enough to go on from.
    folder = root.release("season-2")
    again = Run.open(folder.training, folder.behavior_tokenizer)
    assert again.info.observed_until == updated.dataset.info.observed_until


def test_what_forgets_the_past_is_refused(seasons: Seasons, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--learning-rate", "3", "--replay-ratio", "0", "--max-epochs", "3")
    result = command(seasons, out, "--replay", seasons.first.folder, *options)
    assert result.exit_code == 1
    (line,) = [each for each in result.output.splitlines() if each.startswith("error: ")]
    assert "refused, so that nothing can be published: " in line
    assert "ndcg@10 is 0." in line
    assert "the serving release has 0." in line
    assert "2.0% is allowed" in line
    with pytest.raises(RunError):
        Run.open(out)
    assert (out / refresh.REPORT / "report.html").stat().st_size > 10_000
    assert seasons.releases.release_ids() == [FIRST]


def test_an_update_that_was_killed_goes_on_to_the_very_same_result(
    seasons: Seasons, updated: Updated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    steps = 0

    def kill(description: str, done: int, total: int) -> None:
        nonlocal steps
        steps += description.startswith("training")
        if steps == 60:
            raise Killed

    often = partial(Checkpoint, save_every_s=0.0)
    monkeypatch.setattr("shopintent.trainer.update.refresh.Checkpoint", often)
    with pytest.raises(Killed):
        updated_in(tmp_path, seasons, CONFIG, kill)
    assert (tmp_path / "checkpoint.safetensors").exists()
    again = updated_in(tmp_path, seasons, CONFIG)
    for name, weight in updated.run.network.state_dict().items():
        assert torch.equal(again.run.network.state_dict()[name], weight), name
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_without_old_events_nothing_can_tell_what_is_forgotten(
    seasons: Seasons, tmp_path: Path
) -> None:
    with pytest.raises(UpdateError, match="with --replay"):
        update(str(seasons.releases.path), seasons.second, None, CONFIG, tmp_path / "run", silent)


def test_without_new_events_there_is_nothing_to_learn(seasons: Seasons, tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match="only 0 new events can be learned from"):
        update(str(seasons.releases.path), seasons.first, None, CONFIG, tmp_path / "run", silent)


def test_a_release_of_an_earlier_version_says_how_it_can_be_updated(
    seasons: Seasons, tmp_path: Path
) -> None:
    root = ReleasesRoot(tmp_path / "releases")
    shutil.copytree(seasons.releases.path, root.path)
    manifest = verify_release(root, FIRST)
    shutil.rmtree(root.release(FIRST).training)
    files = tuple(each for each in manifest.files if "/training/" not in each.path)
    replace(manifest, files=files).save(root.release(FIRST).manifest)
    verify_release(root, FIRST)  # It serves as it always did.
    with pytest.raises(UpdateError, match="publish its run again"):
        update(str(root.path), seasons.second, None, CONFIG, tmp_path / "run", silent)


def test_a_root_without_a_release_says_what_to_do(seasons: Seasons, tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match="make a first one with `train` and `publish`"):
        update(str(tmp_path), seasons.second, None, CONFIG, tmp_path / "run", silent)
