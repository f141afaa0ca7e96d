"""The real publisher, killed (SIGKILL) at several moments: what serves goes on serving."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.demo.processes import clean_environment
from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.integrity import verify_release
from support.server import write_small_release
from support.trained import Trained

pytestmark = pytest.mark.releases

MOMENTS = (
    ".aside-*/model_repository/*/config.pbtxt",
    ".aside-*/releases/r2/manifest.json",
)
"""What a publisher has written when it is killed; test_placing.py kills one at all others."""


def publisher(trained: Trained, root: ReleasesRoot) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shopintent.trainer", "publish", str(trained.run.folder)]
    return subprocess.Popen(
        [*command, "--to", str(root.path), "--release", "r2"],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_publisher_leaves_what_serves_and_the_next_one_succeeds(
    trained: Trained, tmp_path: Path, moment: str
) -> None:
    root = ReleasesRoot(tmp_path)
    write_small_release(root, "r1")
    dying = publisher(trained, root)
    while not list(root.path.glob(moment)):
        assert dying.poll() is None, "it ended before it was killed"
        time.sleep(0.002)
    dying.kill()
    assert dying.wait() == -9
    assert root.current() == "r1"
    assert root.release_ids() in (["r1"], ["r1", "r2"])
    for release_id in root.release_ids():
        verify_release(root, release_id)
    if moment == MOMENTS[-1]:  # The other leaves less to be cleaned.
        root.delete("r2")
        with publisher(trained, root) as again:
            assert again.wait() == 0
        assert root.release_ids() == ["r1", "r2"]
        assert root.current() == "r1"
        verify_release(root, "r2")
        assert not list(root.path.glob(".aside-*"))
        assert len(list(root.model_repository.iterdir())) == 6
