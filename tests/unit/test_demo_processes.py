"""The demo's child processes end with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from deploy.demo.processes import Process, ProcessError, running

SLEEPER = "import time; print('awake', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPER


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def is_alive(process: Process) -> bool:
    try:
        os.kill(process.popen.pid, 0)
    except ProcessLookupError:
        return False
    return True


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
