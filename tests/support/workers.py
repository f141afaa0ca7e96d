"""Two workers of a server that records events, without Triton."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from shopintent.v1 import event_service_pb2_grpc
from shopintent.v1.event_service_pb2 import TrackEventsRequest
from shopintent.v1.user_event_pb2 import EVENT_TYPE_VIEW_PRODUCT, UserEvent, Visitor

PATIENCE_S = 60.0
SERVER = (sys.executable, "-m", "shopintent.server")


def eventually(holds: Callable[[], object]) -> bool:
    """Returns whether it holds at last."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs a server of two workers, without Triton, and yields its address and its process."""
    ready = root / "ready.json"
    ready.unlink(missing_ok=True)
    options = (
        *(f"--releases={root}", "--triton-address=127.0.0.1:1", "--check-timeout-s=0.2"),
        *("--workers=2", "--listen=127.0.0.1:0", f"--ready-file={ready}", "--log-level=error"),
    )
    process = subprocess.Popen([*SERVER, "serve", *options])
    try:
        assert eventually(ready.exists)
        yield json.loads(ready.read_text())["address"], process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def track(address: str, user_id: str, visitor_id: str, product_id: str) -> None:
    """Records a view over a connection of its own, which either worker may get."""
    event = UserEvent(event_type=EVENT_TYPE_VIEW_PRODUCT, product_id=product_id)
    visitor = Visitor(user_id=user_id, visitor_id=visitor_id)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        stub: Any = event_service_pb2_grpc.EventServiceStub(channel)
        request = TrackEventsRequest(visitor=visitor, events=[event])
        stub.TrackEvents(request, timeout=20, wait_for_ready=True)
