"""The files of the embedded index: every collection built once, and a copy for each worker.

<path>/<collection>/built/       the collection as it was published; nobody writes to it
                    worker-0/    what the first server process opens and writes updates to
                    build.lock, worker-0.lock

A folder holds state.json, written last, and the engine's files in the folder that it names.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from shopintent.artifacts import Manifest, ReleaseError, ReleaseFolder
from shopintent.artifacts.layout import collection
from shopintent.server.index import edge_engine, schema

OnProgress = Callable[[int, int], None]

BUILT_HERE = 5_000
"""Products that are built in this process, in about a second. The engine holds Python's global
lock, so more are built by another process: this one may be serving other releases."""

BUILD_FAILED = 3
"""Exit status of the process that builds, when the release cannot be read."""

SHARED = {
    "matrix.dat",
    "links_compressed.bin",
    "point_to_values.bin",
    "values_to_points.bin",
    "id_tracker.mappings",
}
"""Files that the engine writes once and then maps into memory: vectors, graph and filters. Copies
share them, on the disk and in memory, whatever the number of workers."""


class FolderInUse(OSError):
    """Another process has the folder open."""


@dataclass(frozen=True)
class State:
    """What a folder holds."""

    description: str
    """Of the collection; another one is built again."""
    shard: str
    """The folder with the engine's files."""
    position: int = 0
    """Of the last change in the catalog journal that the files hold; 0 for none."""
    safe_position: int = 0
    """The same, of the last that is on the disk and not only given to the operating system."""
    boot: str = ""
    """When the machine started: what an earlier boot wrote since `safe_position` may be lost."""
    piled_up: int = 0
    """Products written that the search graph does not hold yet."""

    @classmethod
    def load(cls, folder: Path) -> State | None:
        """Returns the state of a folder, or None of one that is not whole."""
        try:
            state = cls(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None
        if state.boot != boot_id():
            state = replace(state, position=state.safe_position)
        return state

    def save(self, folder: Path) -> None:
        """Writes it whole or not at all."""
        written = folder / "state.json.part"
        written.write_text(json.dumps(asdict(replace(self, boot=boot_id()))), encoding="utf-8")
        written.replace(folder / "state.json")


@dataclass
class WorkerFolder:
    """A worker's copy, which this process has open until `lock` is closed."""

    path: Path
    state: State
    lock: IO[bytes]

    @property
    def shard(self) -> Path:
        """The engine's files."""
        return self.path / self.state.shard

    def change(self, **changes: object) -> None:
        """Writes another state."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self.state.save(self.path)

    def pile_up(self, products: int) -> None:
        """Counts products written; the count is kept with the next change."""
        self.state = replace(self.state, piled_up=self.state.piled_up + products)

    def next_shard(self) -> str:
        """Returns the name of a folder that does not exist."""
        _, _, number = self.state.shard.partition("-")
        return f"shard-{int(number or 0) + 1}"


def open_worker_folder(
    path: Path,
    worker: int | str,
    release_folder: ReleaseFolder,
    manifest: Manifest,
    on_progress: OnProgress | None,
) -> WorkerFolder:
    """Returns a worker's copy of the release's collection; built and copied first when needed.

    Blocks meanwhile, also for another process that builds it. Raises FolderInUse and ReleaseError.
    """
    home = path / collection(manifest.release_id)
    home.mkdir(parents=True, exist_ok=True)
    description = json.dumps(schema.description(manifest))
    folder = home / f"worker-{worker}"
    lock = _lock(home / f"worker-{worker}.lock")
    try:
        state = State.load(folder)
        if state is None or state.description != description:
            with _waiting_lock(home / "build.lock"):
                built = _ensure_built(home, description, release_folder, manifest, on_progress)
                _replace_by_copy(built, folder)
            state = State.load(folder)
            assert state is not None
        _remove_but(folder, state.shard)
        opened = WorkerFolder(folder, state, lock)
        if edge_engine.worth_optimizing(state.piled_up, manifest.embedding_size):
            optimize_apart(opened.shard)
            opened.change(piled_up=0)
        return opened
    except BaseException:
        lock.close()
        raise


def build(
    path: Path, release_folder: ReleaseFolder, manifest: Manifest, on_progress: OnProgress | None
) -> None:
    """Builds the release's collection, for workers to copy, when it is not there yet."""
    home = path / collection(manifest.release_id)
    home.mkdir(parents=True, exist_ok=True)
    description = json.dumps(schema.description(manifest))
    with _waiting_lock(home / "build.lock"):
        _ensure_built(home, description, release_folder, manifest, on_progress)


def remove(path: Path, release_id: str) -> bool:
    """Removes a release's collection but for copies that a process has open.

    Returns whether all of it is gone; call it again after those processes have closed theirs.
    """
    home = path / collection(release_id)
    if not home.is_dir():
        return True
    with _waiting_lock(home / "build.lock"):
        in_use = False
        for lock_file in home.glob("worker-*.lock"):
            try:
                _lock(lock_file).close()
            except FolderInUse:
                in_use = True
            else:
                shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
                lock_file.unlink(missing_ok=True)
        shutil.rmtree(home / "built", ignore_errors=True)
        if not in_use:
            shutil.rmtree(home)
    return not in_use


def collections(path: Path) -> list[str]:
    """Returns the names of the collections that have files here."""
    return sorted(each.parent.name for each in path.glob("*/build.lock"))


def copy_shard(source: Path, target: Path) -> None:
    """Copies the engine's files, and waits until they are on the disk.

    What is never written again is shared, and holes are left out.
    """
    shutil.copytree(source, target, copy_function=_copy_file)


def optimize_apart(shard: Path) -> None:
    """Takes what piled up into the search graph, in another process; nobody has the files open."""
    _run_child(["optimize", str(shard)], None)


async def optimize_meanwhile(shard: Path) -> None:
    """The same while this process goes on; stops when it is cancelled."""
    child = await asyncio.create_subprocess_exec(
        *_child_command(["optimize", str(shard)]), stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await child.communicate()
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    _check_child(child.returncode, said.decode(errors="replace"))


def boot_id() -> str:
    """Returns what changes whenever the machine starts; empty where it does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _ensure_built(
    home: Path,
    description: str,
    release_folder: ReleaseFolder,
    manifest: Manifest,
    on_progress: OnProgress | None,
) -> Path:
    built = home / "built"
    state = State.load(built)
    if state is not None and state.description == description:
        return built
    for left in home.glob("built*"):
        shutil.rmtree(left)
    part = Path(mkdtemp(prefix="built.part-", dir=home))
    if manifest.n_products <= BUILT_HERE:
        edge_engine.build(part / "shard", release_folder, manifest, on_progress)
    else:
        _run_child(["build", str(part / "shard"), str(release_folder.path)], on_progress)
    State(description, "shard").save(part)
    part.rename(built)
    return built


def _replace_by_copy(built: Path, folder: Path) -> None:
    for left in folder.parent.glob(f"{folder.name}.part-*"):
        shutil.rmtree(left)
    part = Path(mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    copy_shard(built / "shard", part / "shard")
    shutil.copy(built / "state.json", part / "state.json")
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)


def _remove_but(folder: Path, shard: str) -> None:
    """Removes what an optimization left behind that was stopped halfway."""
    for each in folder.glob("shard*"):
        if each.name != shard:
            shutil.rmtree(each)


def _run_child(arguments: list[str], on_progress: OnProgress | None) -> None:
    with subprocess.Popen(
        _child_command(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stdout:
            if on_progress is not None:
                done, total = map(int, line.split())
                on_progress(done, total)
        said = child.stderr.read()
    _check_child(child.returncode, said)


def _child_command(arguments: list[str]) -> list[str]:
    module = "shopintent.server.index.edge_child"
    return [sys.executable, "-P", "-m", module, str(os.getpid()), *arguments]


def _check_child(status: int | None, said: str) -> None:
    if status == BUILD_FAILED:
        raise ReleaseError(said.strip())
    if status != 0:
        last = said.strip().rpartition("\n")[2]
        raise OSError(f"the process that works on its files ended with status {status}: {last}")


def _lock(path: Path) -> IO[bytes]:
    """Takes a lock until the returned file is closed or the process ends."""
    lock = path.open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise FolderInUse(f"{path.with_suffix('')} is open in another process") from error
    return lock


@contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    while True:
        try:
            lock = _lock(path)
            break
        except FolderInUse:
            time.sleep(0.05)
    with lock:
        yield


def _copy_file(source: str, target: str) -> None:
    if Path(source).name in SHARED:
        with suppress(OSError):  # Of a file system that cannot.
            os.link(source, target)
            return
    with open(source, "rb") as read, open(target, "wb") as written:
        size = os.fstat(read.fileno()).st_size
        written.truncate(size)
        position = 0
        while position < size:
            try:
                position = os.lseek(read.fileno(), position, os.SEEK_DATA)
            except OSError:  # Nothing but a hole is left.
                break
            end = os.lseek(read.fileno(), position, os.SEEK_HOLE)
            while position < end:
                position += os.copy_file_range(
                    read.fileno(), written.fileno(), end - position, position, position
                )
        os.fsync(written.fileno())
