"""Events as they stand in Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shopintent.artifacts.event_log import IMPRESSION, LogRecord
from shopintent.behavior import Event
from shopintent.server.sessions import TrackedEvent
from shopintent.server.sessions.redis.layout import NO_DIGEST, event_id_digest
from shopintent.server.sessions.redis.link import Value

EVENT_AT = 32
"""Where an event begins in what is kept of it: behind its number and the digest of its id."""


def encoded(tracked: TrackedEvent, shopper: str, received_at: float) -> tuple[Value, ...]:
    """Returns what append.lua is told of an event; it has a record when there is a `shopper`.

    Impressions are not kept and not counted, and events without a product are not counted.
    """
    event = tracked.event
    digest = event_id_digest(tracked.event_id)
    kept = counted = b""
    if event.event_type != IMPRESSION:
        kept = (digest or NO_DIGEST) + _json(
            [
                event.event_type,
                event.event_time,
                event.product_id,
                event.category,
                event.search_query,
                event.quantity,
            ]
        )
        if event.product_id:
            counted = _json([event.event_type, event.event_time, event.product_id, 1])
    line = _record(tracked, shopper, received_at) if shopper else b""
    return event.event_time, digest, kept, counted, line


def kept_events(members: Sequence[bytes]) -> list[Event]:
    """Returns the events of the members of a sorted set."""
    texts = b",".join(member[EVENT_AT:] for member in members)
    return [Event(*fields) for fields in json.loads(b"[%b]" % texts)]


def _record(tracked: TrackedEvent, shopper: str, received_at: float) -> bytes:
    event = tracked.event
    # The source and the number are those of the stream.
    return LogRecord(
        source="",
        sequence=0,
        received_at=received_at,
        shopper=shopper,
        event_type=event.event_type,
        event_time=event.event_time,
        event_id=tracked.event_id,
        product_id=event.product_id,
        category=event.category,
        search_query=event.search_query,
        quantity=event.quantity,
        attribution_token=tracked.attribution_token,
        experiment_ids=tracked.experiment_ids,
        shown_product_ids=tracked.shown_product_ids,
    ).to_line()


def _json(fields: list[str | int]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
