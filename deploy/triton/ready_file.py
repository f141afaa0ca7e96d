"""The announcement that Triton is ready, and how to reach it."""

import json
import os
import tempfile
from pathlib import Path

from deploy.triton.model_control import GRPC_KEY_HEADER
from deploy.triton.terminal import say
from deploy.triton.tritonserver import Triton


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
