"""What clients see when Triton dies under load of a real server, and when it comes back."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.demo.stack import serving, triton
from shopintent.client import ShopIntentClient, UnavailableError, events
from shopintent.v1 import recommendation_service_pb2 as pb
from support.stack import World
from support.triton import skip_unless_supported

PATIENCE_S = 20.0


def eventually(holds: Callable[[], bool], *, within_s: float = 60.0) -> bool:
    """Returns whether it holds at last."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def is_free(port: int) -> bool:
    """Returns whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_popular_products_stand_in_while_triton_is_down_and_personal_ones_return(
    world: World, tmp_path: Path
) -> None:
    skip_unless_supported()
    # An index of its own: the other tests' server holds the default one open.
    options = ["--check-interval-s=0.5", f"--index-path={tmp_path / 'index'}"]
    release_id = world.releases.current()
    assert release_id is not None
    seen = next(world.dataset.products()).product_id
    with (
        serving(world.releases, tmp_path / "logs", server_options=options) as stack,
        ShopIntentClient(stack.address, insecure=True) as client,
    ):

        def recommend() -> pb.RecommendResponse:
            return client.recommend("visitor", page_size=5, timeout_s=PATIENCE_S)

        client.track_events("visitor", [events.view_product(seen)], timeout_s=PATIENCE_S)
        personal = recommend()
        assert {each.source for each in personal.recommendations} == {
            pb.RECOMMENDATION_SOURCE_PERSONALIZED
        }

        stack.triton.popen.kill()
        assert eventually(lambda: bool(recommend().degraded_reasons))
        popular = recommend()
        assert list(popular.degraded_reasons) == [pb.DEGRADED_REASON_MODEL_UNAVAILABLE]
        assert len(popular.recommendations) == 5
        assert {each.source for each in popular.recommendations} == {
            pb.RECOMMENDATION_SOURCE_POPULAR
        }
        assert seen not in [each.product.id for each in popular.recommendations]
        assert popular.model.release_id == release_id
        assert popular.model.model_name == ""
        with pytest.raises(UnavailableError) as raised:
            client.predict_intent("visitor", timeout_s=PATIENCE_S)
        assert raised.value.reason == "ERROR_REASON_MODEL_UNAVAILABLE"
        assert raised.value.retry_after_s is not None

        grpc_port, http_port = (
            int(each.rpartition(":")[2])
            for each in (stack.triton_address, stack.triton_http_address)
        )
        assert eventually(lambda: is_free(grpc_port) and is_free(http_port))
        with triton(
            world.releases,
            release_id,
            tmp_path / "again",
            grpc_port=grpc_port,
            http_port=http_port,
        ):
            assert eventually(lambda: not recommend().degraded_reasons)
            again = recommend().recommendations
            assert {each.source for each in again} == {pb.RECOMMENDATION_SOURCE_PERSONALIZED}
            # Time has passed since the event, which may move a product at the end of the list.
            before = {each.product.id for each in personal.recommendations}
            assert len(before & {each.product.id for each in again}) >= 4
            client.predict_intent("visitor", timeout_s=PATIENCE_S)
