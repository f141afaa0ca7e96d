#!/usr/bin/env python3
"""Run a real tritonserver from PyPI on this machine, without a container; standard library only.

`setup` fetches it once; `serve` starts it, says where it listens, and leaves nothing behind.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import fcntl
import hashlib
import http.client
import inspect
import json
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT_HOME = HERE.parents[1] / ".triton"
REQUIREMENTS = HERE / "requirements.txt"
BACKEND_MODEL = HERE / "backends" / "onnxruntime" / "model.py"

TRITON_WHEEL = "nvidia-pytriton==0.7.0"
OLDEST_GLIBC = (2, 35)
# numpy < 2, which Triton's Python backend needs, has no build for later ones.
PYTHON_VERSIONS = ("3.11", "3.12")
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

KEY_VARIABLE = "SHOPINTENT_TRITON_MODEL_CONTROL_KEY"
KEY_HEADER = "shopintent-model-control"
# Triton checks gRPC metadata under this prefix, and HTTP headers under the bare name.
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"
RESTRICTED = "model-repository,shared-memory,trace,logging"

STOP_TIMEOUT_S = 10
ATTEMPTS = 3
SHARED_MEMORY = Path("/dev/shm")
PR_SET_PDEATHSIG = 1


class LaunchError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


# --- setup ---------------------------------------------------------------------------------------


def setup(home: Path) -> Path:
    """Build the runtime under `home` unless it is there, and return its folder."""
    check_platform()
    runtime = runtime_path(home)
    if runtime.is_dir():
        say(f"Triton is set up in {runtime}")
        return runtime
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / "lock"):
        if not runtime.is_dir():
            remove_unused(home)
            build(Path(tempfile.mkdtemp(prefix="building-", dir=home)), runtime)
    say(f"Triton is set up in {runtime}")
    return runtime


def runtime_path(home: Path) -> Path:
    """The folder whose name is the hash of everything it was built from: there, or out of date."""
    inputs = hashlib.sha256()
    recipe = inspect.getsource(build) + inspect.getsource(unpack)
    for part in (TRITON_WHEEL, PYTHON_VERSION, sys.base_prefix, recipe):
        inputs.update(part.encode() + b"\0")
    for file in (REQUIREMENTS, BACKEND_MODEL):
        inputs.update(file.read_bytes() + b"\0")
    return home / f"runtime-{inputs.hexdigest()[:16]}"


def build(folder: Path, runtime: Path) -> None:
    """Assemble everything in `folder`, then rename it to `runtime` in one step."""
    say("[1/4] creating an environment for Triton's Python backend")
    run([sys.executable, "-m", "venv", str(folder / "env")])
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    say("[2/4] installing its numpy and onnxruntime")
    run([*pip, "install", "--only-binary=:all:", "--requirement", str(REQUIREMENTS)])
    say(f"[3/4] downloading {TRITON_WHEEL} (55 MB)")
    run([*pip, "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), TRITON_WHEEL])
    say("[4/4] unpacking tritonserver and its backends")
    unpack(folder)
    folder.chmod(0o755)
    folder.rename(runtime)


def unpack(folder: Path) -> None:
    """Take tritonserver, its libraries and the Python backend out of the wheel in `folder`."""
    (wheel,) = folder.glob("nvidia_pytriton-*.whl")
    triton = "pytriton/tritonserver"
    stub = f"{triton}/python_backend_stubs/{PYTHON_VERSION}/triton_python_backend_stub"
    wanted = ("nvidia_pytriton.libs/", f"{triton}/bin/", f"{triton}/backends/python/", stub)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(
            folder / "wheel", [name for name in archive.namelist() if name.startswith(wanted)]
        )
    wheel.unlink()
    backends = folder / "backends"
    shutil.move(folder / "wheel" / triton / "backends", backends)
    shutil.move(folder / "wheel" / stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    shutil.copy(BACKEND_MODEL, backends / "onnxruntime")
    # A zip archive read by Python loses the permission to execute.
    (folder / "wheel" / triton / "bin" / "tritonserver").chmod(0o755)
    (backends / "python" / "triton_python_backend_stub").chmod(0o755)


def check_platform() -> None:
    """Raise unless the wheel can run here: Linux, a recent glibc, a Python with its library."""
    libc, version = platform.libc_ver()
    if sys.platform != "linux" or libc != "glibc":
        raise LaunchError("the tritonserver of PyPI runs on Linux with glibc; use deploy/docker")
    if glibc_version() < OLDEST_GLIBC:
        raise LaunchError(
            f"tritonserver needs glibc {'.'.join(map(str, OLDEST_GLIBC))}, this machine has "
            f"{version}; use Debian 12, Ubuntu 22.04 or later, or deploy/docker"
        )
    if PYTHON_VERSION not in PYTHON_VERSIONS:
        raise LaunchError(
            f"run this with Python {' or '.join(PYTHON_VERSIONS)}, not {PYTHON_VERSION}: Triton's "
            "Python backend needs numpy < 2, which has no build for it"
        )
    python_library()


def glibc_version() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.libc_ver()[1].split(".")[:2] or ["0"] if part)


def python_library() -> Path:
    """The shared library of this Python, which Triton's Python backend embeds."""
    name = f"libpython{PYTHON_VERSION}.so.1.0"
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path(sys.base_prefix, "lib")]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise LaunchError(
        f"{name} is not in {' or '.join(map(str, folders))}: install it (on Debian and Ubuntu, "
        f"apt-get install libpython{PYTHON_VERSION}) or use a Python built with --enable-shared"
    )


def remove_unused(home: Path) -> None:
    """Remove interrupted builds, and the runtimes of other pins that no server is using."""
    for leftover in [*home.glob("building-*"), *home.glob("runtime-*")]:
        with contextlib.suppress(BlockingIOError), locked(leftover / "lock", fcntl.LOCK_NB):
            say(f"removing {leftover}, which is out of date")
            shutil.rmtree(leftover)


@contextlib.contextmanager
def locked(path: Path, how: int = 0, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold the lock file `path`, waiting for its other holders unless `how` is LOCK_NB."""
    with path.open("w") as lock:
        fcntl.flock(lock, kind | how)
        yield


def run(command: list[str]) -> None:
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise LaunchError(
            f"this command failed; mend what it reports and repeat setup:\n  {' '.join(command)}"
        )


# --- serve ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where the three services listen."""

    host: str
    grpc: int
    http: int
    metrics: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.address(name)}" for name in ("grpc", "http", "metrics"))

    def address(self, service: str) -> str:
        return f"{self.host}:{getattr(self, service)}"


@dataclasses.dataclass(frozen=True)
class Triton:
    """A running tritonserver, and the sweeper that clears up when this process is gone."""

    process: subprocess.Popen[bytes]
    ports: Ports
    log_file: Path
    sweeper_pid: int
    lifeline: int

    def stop(self) -> None:
        """End tritonserver, gracefully if it can, and wait until nothing of it is left."""
        if self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S + 5)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.lifeline)
        os.waitpid(self.sweeper_pid, 0)


def serve(options: argparse.Namespace) -> None:
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


def start_on_free_ports(
    options: argparse.Namespace,
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


def start(
    options: argparse.Namespace, runtime: Path, ports: Ports, key: str, log_file: Path
) -> Triton:
    """Start tritonserver in a process group of its own, with a sweeper watching over it."""
    shm_prefix = f"shopintent_triton_{os.getpid()}_{secrets.token_hex(4)}_"
    launcher, libc = os.getpid(), ctypes.CDLL(None)

    def end_with_launcher() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != launcher:
            os._exit(1)

    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command(options, runtime, ports, key, shm_prefix),
            env=environment(runtime),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_launcher,
        )
    sweeper_pid, lifeline = start_sweeper(process.pid, shm_prefix)
    return Triton(process, ports, log_file, sweeper_pid, lifeline)


def command(
    options: argparse.Namespace, runtime: Path, ports: Ports, key: str, shm_prefix: str
) -> list[str]:
    return [
        str(runtime / "wheel" / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={options.model_repository}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in options.load_model),
        f"--backend-directory={runtime / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--grpc-address={ports.host}",
        f"--grpc-port={ports.grpc}",
        f"--http-address={ports.host}",
        f"--http-port={ports.http}",
        f"--metrics-address={ports.host}",
        f"--metrics-port={ports.metrics}",
        f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={key}",
        f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={key}",
        # Else one release that fails to load makes the whole server unready, and it stays so.
        "--strict-readiness=false",
        f"--exit-timeout-secs={STOP_TIMEOUT_S}",
    ]


def environment(runtime: Path) -> dict[str, str]:
    """This process's variables, with the backend's own Python and libraries first."""
    unwanted = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", KEY_VARIABLE}
    inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
    libraries = [python_library().parent, runtime / "wheel" / "nvidia_pytriton.libs"]
    return inherited | {
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "PATH": os.pathsep.join([str(runtime / "env" / "bin"), os.environ.get("PATH", os.defpath)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }


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


def reasons(log_file: Path) -> str:
    """What Triton itself says went wrong: its failures, or other errors, or else its last lines."""
    lines = log_file.read_text(errors="replace").splitlines()
    # E1122 00:22:38.051848 5949 model_lifecycle.cc:642] "failed to load 'a' version 1: why\\n..."
    matches = [
        re.match(r'E\d{4} \S+ \d+ [\w.]+:\d+\] "(.*?)(\\n\\nAt:.*)?"$', line) for line in lines
    ]
    # Without a GPU, Triton reports this one at every start.
    errors = [m[1] for m in matches if m and not m[1].startswith("CudaDriverHelper")]
    failures = [error for error in errors if error.startswith("failed to ")]
    told = "".join(f"\n  {line}" for line in failures or errors or lines[-5:])
    return f":{told}\n(the whole log is {log_file})"


def announce(triton: Triton, key: str, ready_file: Path | None) -> None:
    """Say that Triton is ready and, in `ready_file` (mode 0600), how to reach it."""
    say(f"Triton is ready: {triton.ports}")
    if ready_file is None:
        return
    content = {
        "grpc": triton.ports.address("grpc"),
        "http": triton.ports.address("http"),
        "metrics": triton.ports.address("metrics"),
        "pid": os.getpid(),
        "triton_pid": triton.process.pid,
        "model_control_header": GRPC_KEY_HEADER,
        "model_control_key": key,
    }
    ready_file.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp creates it with mode 0600; the rename makes it appear whole.
    handle, partial = tempfile.mkstemp(prefix=f"{ready_file.name}.", dir=ready_file.parent)
    with os.fdopen(handle, "w") as file:
        json.dump(content, file, indent=2)
    Path(partial).replace(ready_file)


def installed(home: Path) -> Path:
    runtime = runtime_path(home)
    if not runtime.is_dir():
        state = "out of date" if any(home.glob("runtime-*")) else "not set up"
        where = "" if home == DEFAULT_HOME else f" --home {home}"
        raise LaunchError(
            f"Triton is {state} in {home}; run: {sys.executable} {Path(__file__)} setup{where}"
        )
    return runtime


def model_control_key(given: str | None) -> str:
    key = given or os.environ.get(KEY_VARIABLE) or secrets.token_urlsafe(24)
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", key):
        raise LaunchError(f"{KEY_VARIABLE}: use 16 or more letters, digits, '-' or '_'")
    return key


def log_path(given: Path | None) -> tuple[Path, bool]:
    """The log file and whether to keep it after an orderly stop."""
    if given:
        given.parent.mkdir(parents=True, exist_ok=True)
        return given, True
    handle, name = tempfile.mkstemp(prefix="shopintent-triton-", suffix=".log")
    os.close(handle)
    return Path(name), False


def choose_ports(options: argparse.Namespace) -> Ports:
    """The given ports, or free ones where 0 is given; raise if a given one is taken."""
    with contextlib.ExitStack() as stack:
        ports = []
        for name in ("grpc_port", "http_port", "metrics_port"):
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((options.host, getattr(options, name)))
            except OSError as error:
                option = "--" + name.replace("_", "-")
                raise LaunchError(
                    f"{option}: cannot listen on {options.host}:{getattr(options, name)} "
                    f"({error.strerror}); give another, or 0 for a free one"
                ) from error
            ports.append(listener.getsockname()[1])
    return Ports(options.host, *ports)


def stop_conditions(exit_with_parent: bool) -> Callable[[], bool]:
    """Whether it is time to stop: SIGTERM or SIGINT came, or the parent went, if that counts."""
    signaled = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: signaled.set())
    parent = os.getppid()
    return lambda: signaled.is_set() or (exit_with_parent and os.getppid() != parent)


# --- the sweeper ---------------------------------------------------------------------------------


def start_sweeper(group: int, shm_prefix: str) -> tuple[int, int]:
    """Fork a process that sweeps when this one is gone, however it ended.

    Returns its pid and the pipe it listens on: it starts when no process holds that open.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(read_end)
        return pid, write_end
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(write_end)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.read(read_end, 1)
        sweep(group, shm_prefix)
    finally:
        os._exit(0)


def sweep(group: int, shm_prefix: str) -> None:
    """Wait for the processes of `group` to end, kill those that do not, free their memory."""
    began = time.monotonic()
    while running := members(group):
        # tritonserver leads the group; without it the Python stubs have nothing to finish.
        patience_s = STOP_TIMEOUT_S + 5 if group in running else 3
        if time.monotonic() - began > patience_s:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(0.1)
    for region in SHARED_MEMORY.glob(f"{shm_prefix}*"):
        region.unlink(missing_ok=True)


def members(group: int) -> set[int]:
    """The pids in process group `group` that still run, so without zombies."""
    pids = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state not in "ZX":
                pids.add(int(stat.parent.name))
    return pids


# --- the command line ----------------------------------------------------------------------------


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a real tritonserver from PyPI on this machine, without a container.",
        epilog="Start here:\n"
        "  python deploy/triton/launch.py setup\n"
        "  python deploy/triton/launch.py serve --model-repository releases/model_repository \\\n"
        "      --load-model intent_r1 --grpc-port 8001\n\n"
        "`launch.py serve --help` shows the options. Production runs NVIDIA's container instead\n"
        "(deploy/compose.yaml); the model repository is the same.",
    )
    commands = parser.add_subparsers(required=True, metavar="{setup,serve}")
    add_setup(commands.add_parser("setup", help="fetch Triton once; the second call is instant"))
    add_serve(commands.add_parser("serve", help="run Triton until SIGTERM or Ctrl-C"))
    return parser.parse_args(arguments)


def add_home(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--home",
        type=lambda text: Path(text).absolute(),
        default=DEFAULT_HOME,
        metavar="DIR",
        help="where Triton is or will be installed (default: .triton in the checkout)",
    )


def add_setup(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"Fetch {TRITON_WHEEL} from PyPI, which carries tritonserver, and build an environment\n"
        "for its Python backend apart from the project's (that backend needs numpy < 2).\n"
        "About 310 MB on disk; safe to repeat and to interrupt."
    )
    parser.set_defaults(action=lambda options: setup(options.home))
    add_home(parser)


def add_serve(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run tritonserver in EXPLICIT mode: it serves the models named here and those that an\n"
        "operator loads later through the model repository API. It listens on loopback, or on\n"
        "the address that --host names; nothing it speaks is encrypted."
    )
    parser.epilog = (
        "Loading and unloading models, shared memory, trace and log settings need the model\n"
        f"control key, as gRPC metadata {GRPC_KEY_HEADER}\n"
        f"or as HTTP header {KEY_HEADER}; inference, health, metadata, config\n"
        "and statistics do not:\n"
        f'  curl -X POST -H "{KEY_HEADER}: $KEY" \\\n'
        "      http://127.0.0.1:PORT/v2/repository/models/intent_r2/load\n\n"
        "Triton takes the key as an argument, so users of this machine who may list its\n"
        "processes can read it: it guards against mistakes and remote callers, not against them."
    )
    parser.set_defaults(action=serve)
    parser.add_argument(
        "--model-repository",
        type=lambda text: Path(text).absolute(),
        required=True,
        metavar="DIR",
        help="folder with one folder per model: config.pbtxt and 1/model.onnx",
    )
    parser.add_argument(
        "--load-model",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="models to load at the start; any that fails stops the start",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    for service in ("grpc", "http", "metrics"):
        parser.add_argument(
            f"--{service}-port",
            type=int,
            default=0,
            metavar="PORT",
            help=f"port of the {service} service (default 0: any free one)",
        )
    parser.add_argument(
        "--ready-file",
        type=lambda text: Path(text).absolute(),
        metavar="PATH",
        help="written as JSON once all models are ready: grpc, http and metrics addresses, pid of "
        "this process, model_control_key (mode 0600; removed at the end)",
    )
    parser.add_argument(
        "--log-file",
        type=lambda text: Path(text).absolute(),
        metavar="PATH",
        help="Triton's log (default: a temporary file, removed after an orderly stop)",
    )
    parser.add_argument(
        "--model-control-key",
        metavar="KEY",
        help=f"key of the model repository API (default: ${KEY_VARIABLE}, or else a random one, "
        "told in the ready file)",
    )
    parser.add_argument(
        "--ready-timeout-s",
        type=float,
        default=120.0,
        metavar="S",
        help="give up when Triton is not ready after this long (%(default)g)",
    )
    parser.add_argument(
        "--exit-with-parent",
        action="store_true",
        help="stop when the process that started this one ends (for tests and demos)",
    )
    add_home(parser)


def main() -> int:
    options = parse(sys.argv[1:])
    try:
        options.action(options)
    except LaunchError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
