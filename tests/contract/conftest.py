"""Stores of sessions, each made in turn for every test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.session_suite import (
    LOGGED_STORES,
    STORES,
    Clock,
    LoggedStore,
    MakeLoggedStore,
    MakeStore,
    Store,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    return STORES[request.param](tmp_path)


@pytest.fixture
async def sessions(make_store: MakeStore, clock: Clock) -> AsyncIterator[Store]:
    store = make_store(clock)
    yield store
    await store.close()


@pytest.fixture(params=LOGGED_STORES)
def make_logged_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeLoggedStore:
    return LOGGED_STORES[request.param](tmp_path)


@pytest.fixture
async def logged_sessions(
    make_logged_store: MakeLoggedStore, clock: Clock
) -> AsyncIterator[LoggedStore]:
    store = make_logged_store(clock)
    yield store
    await store.close()
