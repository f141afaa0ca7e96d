"""`python -m deploy.peers`: makes .peers, where RecTools and RecBole live for `benchmark`.

Safe to repeat, and to interrupt: what is not complete is made anew. Standard library only.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".peers"
REQUIREMENTS = Path(__file__).parent / "requirements.txt"
RECBOLE = "recbole==1.2.1"


def main() -> int:
    ready = HOME / "ready"
    made_of = made_from()
    if ready.exists() and ready.read_text(encoding="utf-8") == made_of:
        print(f"RecTools and RecBole are set up in {HOME}")
        return 0
    print(f"setting up RecTools and RecBole in {HOME}: about 1.5 GB")
    venv.create(HOME, clear=True, symlinks=True, with_pip=True)
    install = [str(HOME / "bin" / "python"), "-m", "pip", "install"]
    for what in (["-r", str(REQUIREMENTS)], ["--no-deps", RECBOLE]):
        installed = subprocess.run([*install, *what])
        if installed.returncode:
            print("error: pip could not install them, see above", file=sys.stderr)
            return 1
    ready.write_text(made_of, encoding="utf-8")
    print(f"RecTools and RecBole are set up in {HOME}")
    return 0


def made_from() -> str:
    """What decides how the environment looks, as a hash."""
    inputs = REQUIREMENTS.read_text(encoding="utf-8") + RECBOLE + sys.base_prefix + sys.version
    return hashlib.sha256(inputs.encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
