"""The environments that the peers run in, apart from one another and from the project's own.

Each is made once, in .peers/serving/<name>; anew when its requirements change, or when making it
was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path

from rich.console import Console

from deploy.bench.peers.peers import Peer
from deploy.triton.runtime import locked

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / ".peers" / "serving"
REQUIREMENTS = Path(__file__).parent / "requirements"
WRITE_VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


class NotSetUp(Exception):
    """The environment of a peer is missing or cannot be made; the message says what to do."""


def python_of(peer: Peer, home: Path = HOME) -> Path:
    """Returns the Python of a peer's environment. Raises NotSetUp when it is not up to date."""
    folder = home / peer.name
    ready = folder / "ready"
    if not ready.exists() or ready.read_text(encoding="utf-8") != made_from(peer):
        raise NotSetUp(
            f"{peer.title} is not set up in {folder}: run `python -m deploy.bench.peers --set-up`"
        )
    return folder / "bin" / "python"


def set_up(console: Console, peer: Peer, home: Path = HOME) -> Path:
    """Makes the environment of a peer unless it is there; returns its Python. Raises NotSetUp."""
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / f"{peer.name}.lock"):
        try:
            return python_of(peer, home)
        except NotSetUp:
            return _make(console, peer, home / peer.name)


def _make(console: Console, peer: Peer, folder: Path) -> Path:
    console.print(f"setting up {peer.title} in {folder}")
    venv.create(folder, clear=True, symlinks=True, with_pip=True)
    python = folder / "bin" / "python"
    requirements = requirements_of(peer)
    # At a low priority: it is large, and nobody waits for it but this command.
    install = ["nice", str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    if subprocess.run([*install, "-r", str(requirements)], check=False).returncode:
        raise NotSetUp(f"pip could not install {requirements}: mend what it reports above")
    (folder / "ready").write_text(made_from(peer), encoding="utf-8")
    return python


def requirements_of(peer: Peer) -> Path:
    """Returns the file that pins everything in a peer's environment."""
    return REQUIREMENTS / f"{peer.name}.txt"


def made_from(peer: Peer) -> str:
    """Returns a hash of what decides how a peer's environment looks."""
    pins = requirements_of(peer).read_text(encoding="utf-8")
    return hashlib.sha256(f"{pins}\0{sys.base_prefix}\0{sys.version}".encode()).hexdigest()


def versions(peer: Peer, home: Path = HOME) -> dict[str, str]:
    """Returns what is installed of what matters to a peer's speed."""
    wanted = [peer.package, "onnxruntime", "uvicorn", "uvloop", "httptools", "numpy"]
    command = [str(python_of(peer, home)), "-I", "-c", WRITE_VERSIONS, *wanted]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
