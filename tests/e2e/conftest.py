"""One small shop for all end-to-end tests, and a server of it that none of them disturbs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.demo.stack import Stack, serving
from shopintent.client import ShopIntentClient
from support.stack import World, make_world
from support.triton import skip_unless_supported


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def stack(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    skip_unless_supported()
    with serving(world.releases, tmp_path_factory.mktemp("logs")) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[ShopIntentClient]:
    with ShopIntentClient(stack.address, insecure=True) as client:
        yield client
