"""Reads popular products from the index now and then, for every release that is open."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from weakref import WeakKeyDictionary

from shopintent.server.errors import ShopIntentError
from shopintent.server.releases import Component
from shopintent.server.serving import ServingRelease
from shopintent.server.traffic import Traffic

LOOK_EVERY_S = 1.0


async def refresh_popular(traffic: Traffic, *, every_s: float, timeout_s: float) -> None:
    """Lets popular products rise, and go when another server deleted them, for as long as it runs.

    A release is read for at once when it begins to serve.
    """
    refreshed_at: WeakKeyDictionary[ServingRelease, float] = WeakKeyDictionary()
    while True:
        for release in traffic.ready:
            is_due = time.monotonic() - refreshed_at.get(release, -math.inf) >= every_s
            if is_due and release.monitor.serving and Component.INDEX not in release.monitor.down:
                refreshed_at[release] = time.monotonic()
                with suppress(ShopIntentError), release.in_flight:
                    await release.popular.refresh(release.backends.index, timeout_s=timeout_s)
        await asyncio.sleep(min(every_s, LOOK_EVERY_S))
