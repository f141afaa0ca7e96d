"""The process that builds a collection or its search graph, for one that has calls to answer.

python -m shopintent.server.index.edge_child PARENT_PID build SHARD RELEASE_FOLDER
                                                        optimize SHARD
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shopintent.artifacts import Manifest, ReleaseError, ReleaseFolder
from shopintent.server.errors import ReleaseMismatch
from shopintent.server.index import edge_engine
from shopintent.server.index.edge_files import BUILD_FAILED
from shopintent.server.parent import end_with


def main(arguments: list[str]) -> int:
    """Does one thing; progress goes to stdout as lines of two numbers."""
    parent, command, *paths = arguments
    end_with(int(parent))
    if command == "optimize":
        os.nice(10)  # Calls come first: it can wait as long as it must.
        edge_engine.optimize(Path(paths[0]))
        return 0
    release = ReleaseFolder(Path(paths[1]))
    try:
        edge_engine.build(Path(paths[0]), release, Manifest.load(release.manifest), _tell)
    except (ReleaseError, ReleaseMismatch) as error:
        print(error, file=sys.stderr)
        return BUILD_FAILED
    return 0


def _tell(done: int, total: int) -> None:
    print(done, total, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
