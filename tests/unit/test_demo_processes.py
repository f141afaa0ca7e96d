"""The demo's child processes end with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.demo.processes import Process, ProcessError, running

SLEEPER = "import time; print('awake', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER


PARENT = """
import sys
from pathlib import Path
from deploy.demo.processes import running
log = Path(sys.argv[1])
with running("sleeper", sys.argv[2:], log) as child:
    child.wait_until(lambda: b"awake" in log.read_bytes())
    print(child.popen.pid, flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).resolve().parents[2]


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def is_alive(process: Process) -> bool:
    return is_running(process.popen.pid)


def is_running(pid: int) -> bool:
    """Returns whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_a_child_ends_with_its_block(tmp_path: Path) -> None:
    with running("sleeper", python(SLEEPER), tmp_path / "log") as process:
        assert is_alive(process)
    assert not is_alive(process)


def test_a_child_ends_when_its_block_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        running("sleeper", python(SLEEPER), tmp_path / "log") as process,
    ):
        raise KeyboardInterrupt
    assert not is_alive(process)


def test_a_child_that_ignores_the_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.demo.processes.STOP_TIMEOUT_S", 0.1)
    log = tmp_path / "log"
    with running("stubborn", python(STUBBORN), log) as process:
        process.wait_until(lambda: b"awake" in log.read_bytes())
    assert not is_alive(process)


def test_a_child_ends_when_this_process_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*python(PARENT), str(tmp_path / "log"), *python(SLEEPER)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlives its parent"
        time.sleep(0.05)


def test_a_command_that_cannot_run_is_named_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running("server", ["/no/such/server"], log) as process,
        pytest.raises(ProcessError, match="cannot run /no/such/server: No such file"),
    ):
        process.wait_until(lambda: False)


def test_waiting_ends_when_the_child_does_and_the_error_shows_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "import sys; print('the port is taken'); sys.exit(3)"
    with running("server", python(program), log) as process:
        with pytest.raises(ProcessError, match=r"server ended with status 3") as raised:
            process.wait_until(lambda: False)
        assert "the port is taken" in str(raised.value)
        assert str(log) in str(raised.value)


def test_waiting_ends_when_time_is_up(tmp_path: Path) -> None:
    with (
        running("sleeper", python(SLEEPER), tmp_path / "log") as process,
        pytest.raises(ProcessError, match="not ready after"),
    ):
        process.wait_until(lambda: False, timeout_s=0.1)


def test_a_child_sees_no_options_meant_for_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPINTENT_LISTEN", "0.0.0.0:1")
    log = tmp_path / "log"
    program = "import os; print([n for n in os.environ if n.startswith('SHOPINTENT_')])"
    with running("reader", python(program), log) as process:
        process.popen.wait(20)
    assert log.read_text() == "[]\n"
