"""One Triton, and a server for each collection size, all ended with the block that started them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.bench.collection import sized_release
from deploy.bench.progress import Say
from deploy.demo.processes import Process
from deploy.demo.stack import server, triton, triton_http_address
from shopintent.artifacts import ReleasesRoot
from shopintent.artifacts.layout import intent_model

INDEXING_S_PER_PRODUCT = 0.002
"""Patience for the first start with a collection, far above what it takes."""


@dataclass(frozen=True, eq=False)
class Server:
    """A server of one collection size."""

    process: Process
    address: str
    metrics_address: str
    releases: ReleasesRoot
    release_id: str
    n_products: int


@dataclass(frozen=True, eq=False)
class Servers:
    """Everything that runs."""

    triton: Process
    triton_address: str
    model_name: str
    by_size: Mapping[int, Server]
    """By number of products, ascending."""


@contextmanager
def serving(
    releases: ReleasesRoot,
    sizes: Sequence[int],
    folder: Path,
    *,
    server_options: Sequence[str],
    say: Say,
) -> Iterator[Servers]:
    """Runs Triton and a server for every size with the current release of `releases`."""
    release_id = releases.current()
    assert release_id is not None, f"{releases.path} names no current release"
    with ExitStack() as running:
        say("starting Triton")
        logs = folder / "logs"
        process, address = running.enter_context(triton(releases, release_id, logs))
        start = partial(_start, running, folder, address, triton_http_address(logs), server_options)
        by_size = {}
        for size in sorted(sizes):
            say(f"making a collection of {size:,} products")
            sized = sized_release(releases, size, folder / "collections")
            say(f"starting a server with {size:,} products (the first start indexes them)")
            by_size[size] = start(sized, size)
        yield Servers(process, address, intent_model(release_id), by_size)


def _start(
    running: ExitStack,
    folder: Path,
    triton_address: str,
    http_address: str,
    server_options: Sequence[str],
    releases: ReleasesRoot,
    n_products: int,
) -> Server:
    release_id = releases.current()
    assert release_id is not None
    logs = folder / "logs" / str(n_products)
    # What earlier runs tracked and wrote is no part of this one.
    state = running.enter_context(TemporaryDirectory(prefix="state-", dir=folder))
    process, address = running.enter_context(
        server(
            releases,
            triton_address,
            logs,
            server_options=(
                "--metrics-listen=127.0.0.1:0",
                f"--state-path={state}",
                *server_options,
            ),
            start_timeout_s=120 + n_products * INDEXING_S_PER_PRODUCT,
            triton_http_address=http_address,
        )
    )
    ready = json.loads((logs / "server.json").read_text(encoding="utf-8"))
    return Server(process, address, ready["metrics_address"], releases, release_id, n_products)
