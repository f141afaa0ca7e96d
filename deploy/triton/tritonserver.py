"""The tritonserver process: how it is started and ended."""

import contextlib
import dataclasses
import functools
import os
import secrets
import subprocess
from pathlib import Path

from deploy.triton.machine import python_library
from deploy.triton.model_control import KEY_HEADER, KEY_VARIABLE, RESTRICTED
from deploy.triton.options import ServeOptions
from deploy.triton.parent import end_with_parent
from deploy.triton.ports import Ports
from deploy.triton.sweeper import STOP_TIMEOUT_S, start_sweeper


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


def start(options: ServeOptions, runtime: Path, ports: Ports, key: str, log_file: Path) -> Triton:
    """Start tritonserver in a process group of its own, with a sweeper watching over it."""
    shm_prefix = f"shopintent_triton_{os.getpid()}_{secrets.token_hex(4)}_"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command(options, runtime, ports, key, shm_prefix),
            env=environment(runtime),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # This process has no threads that a fork could break.
            preexec_fn=functools.partial(end_with_parent, os.getpid()),
        )
    sweeper_pid, lifeline = start_sweeper(process.pid, shm_prefix)
    return Triton(process, ports, log_file, sweeper_pid, lifeline)


def command(
    options: ServeOptions, runtime: Path, ports: Ports, key: str, shm_prefix: str
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
