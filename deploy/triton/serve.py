"""Runs Triton from its start to its end, and leaves nothing behind."""

import contextlib
import fcntl
import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from deploy.triton.log import log_path, reasons
from deploy.triton.machine import check_platform
from deploy.triton.model_control import model_control_key
from deploy.triton.options import ServeOptions
from deploy.triton.ports import Ports, choose_ports
from deploy.triton.ready_file import announce
from deploy.triton.runtime import installed, locked
from deploy.triton.terminal import LaunchError, say
from deploy.triton.tritonserver import Triton, start

ATTEMPTS = 3


def serve(options: ServeOptions) -> None:
    """Run tritonserver until a signal, or until it ends by itself, which is an error."""
    check_platform()
    runtime = installed(options.home)
    if not options.model_repository.is_dir():
        raise LaunchError(f"--model-repository: {options.model_repository} is not a folder")
    key = model_control_key(options.model_control_key)
    should_stop = stop_conditions(options.exit_with_parent)
    log_file, keep_log = log_path(options.log_file)
    # Setup leaves a runtime alone while a server holds its lock.
    with locked(runtime / "lock", kind=fcntl.LOCK_SH):
        triton = start_on_free_ports(options, runtime, key, log_file, should_stop)
        try:
            watch(triton, key, options.ready_file, should_stop)
        finally:
            triton.stop()
    if not keep_log:
        log_file.unlink()
    say("Triton has stopped")


def stop_conditions(exit_with_parent: bool) -> Callable[[], bool]:
    """Whether it is time to stop: SIGTERM or SIGINT came, or the parent went, if that counts."""
    signaled = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: signaled.set())
    parent = os.getppid()
    return lambda: signaled.is_set() or (exit_with_parent and os.getppid() != parent)


def start_on_free_ports(
    options: ServeOptions,
    runtime: Path,
    key: str,
    log_file: Path,
    should_stop: Callable[[], bool],
) -> Triton:
    """Start Triton and wait for it; choose again when a free port was taken meanwhile."""
    chosen = 0 in (options.grpc_port, options.http_port, options.metrics_port)
    for attempt in range(ATTEMPTS):
        triton = start(options, runtime, choose_ports(options), key, log_file)
        try:
            wait_until_ready(triton, options.ready_timeout_s, should_stop)
            return triton
        except BaseException as error:
            triton.stop()
            taken = isinstance(error, LaunchError) and "already in use" in str(error)
            if not (taken and chosen and attempt + 1 < ATTEMPTS):
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def wait_until_ready(triton: Triton, timeout_s: float, should_stop: Callable[[], bool]) -> None:
    """Return when Triton is ready or a stop is asked for; raise why it never will be."""
    say(f"starting Triton ({triton.ports}); its log is {triton.log_file}")
    deadline = time.monotonic() + timeout_s
    while not should_stop() and not is_ready(triton.ports):
        if triton.process.poll() is not None:
            raise LaunchError(f"Triton could not start{reasons(triton.log_file)}")
        if time.monotonic() > deadline:
            raise LaunchError(
                f"Triton was not ready after {timeout_s:g} s; raise --ready-timeout-s if it loads "
                f"large models{reasons(triton.log_file)}"
            )
        time.sleep(0.1)


def is_ready(ports: Ports) -> bool:
    connection = http.client.HTTPConnection(ports.host, ports.http, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def watch(
    triton: Triton, key: str, ready_file: Path | None, should_stop: Callable[[], bool]
) -> None:
    """Say where Triton is and stay until it is time to stop; raise when Triton ends first."""
    try:
        if not should_stop():
            announce(triton, key, ready_file)
        while not should_stop():
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = triton.process.wait(timeout=0.2)
                why = reasons(triton.log_file)
                raise LaunchError(f"tritonserver ended with status {status}{why}")
    finally:
        if ready_file:
            ready_file.unlink(missing_ok=True)
