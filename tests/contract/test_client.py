"""The Python client covers the contract, and its public names do not change by accident."""

from __future__ import annotations

import inspect
import re

import pytest

import shopintent.client
from shopintent.client import AsyncShopIntentClient, ShopIntentClient, calls
from shopintent.client.errors import PRODUCT_NOT_FOUND, RELEASE_NOT_FOUND, RELEASE_NOT_READY
from shopintent.v1 import error_reason_pb2
from support.scripted_server import services

PUBLIC_NAMES = [
    "AsyncIntentStream",
    "AsyncShopIntentClient",
    "DeadlineExceededError",
    "FieldViolation",
    "IntentStream",
    "InvalidRequestError",
    "PermissionDeniedError",
    "ProductNotFoundError",
    "ReleaseNotFoundError",
    "ReleaseNotReadyError",
    "ShopIntentClient",
    "ShopIntentError",
    "UnavailableError",
    "Visitor",
    "events",
    "money",
    "tls_credentials",
]


def rpc_methods() -> list[str]:
    """Returns the name of the client's method for every RPC of the contract."""
    names = [method.name for service in services() for method in service.methods]
    return sorted(re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in names)


def public_methods(client: object) -> list[str]:
    return sorted(
        name
        for name, _ in inspect.getmembers(client, callable)
        if not name.startswith("_") and name != "close"
    )


def test_the_blocking_client_has_one_method_for_every_rpc() -> None:
    with ShopIntentClient("localhost:1", insecure=True) as client:
        assert public_methods(client) == rpc_methods()


async def test_the_asyncio_client_has_one_method_for_every_rpc() -> None:
    async with AsyncShopIntentClient("localhost:1", insecure=True) as client:
        assert public_methods(client) == rpc_methods()


@pytest.mark.parametrize("name", rpc_methods())
def test_a_request_has_a_parameter_for_every_field(name: str) -> None:
    build = getattr(calls, name)
    (request_type,) = (
        method.input_type
        for service in services()
        for method in service.methods
        if method.name.lower() == name.replace("_", "")
    )
    renamed = {"product_filter": "filter"}  # `filter` is a builtin
    parameters = {renamed.get(each, each) for each in inspect.signature(build).parameters}
    assert parameters == {*request_type.fields_by_name, "timeout_s"}


def test_public_names_are_pinned() -> None:
    assert sorted(shopintent.client.__all__) == PUBLIC_NAMES


def test_reasons_the_client_knows_exist_in_the_contract() -> None:
    known = {PRODUCT_NOT_FOUND, RELEASE_NOT_FOUND, RELEASE_NOT_READY}
    assert known <= set(error_reason_pb2.ErrorReason.keys())


def test_every_method_says_what_it_does() -> None:
    with ShopIntentClient("localhost:1", insecure=True) as client:
        for name in rpc_methods():
            assert inspect.getdoc(getattr(client, name)), name
