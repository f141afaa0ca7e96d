"""A group of appends, and the rows that it adds to the file of the sessions."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shopintent.artifacts.event_log import IMPRESSION
from shopintent.server.pseudonyms import Pseudonyms
from shopintent.server.sessions import TrackedEvent
from shopintent.server.sessions.sqlite_lookup import Found, Known
from shopintent.server.sessions.sqlite_rows import Row

TRIM_EVERY = 32
"""Events of a visitor between looks for those to drop."""


@dataclass(frozen=True, eq=False)
class Append:
    """What is to be added of a visitor."""

    visitor: str
    events: Sequence[TrackedEvent]
    alias: str = ""

    def __len__(self) -> int:
        return max(len(self.events), 1)


@dataclass(frozen=True, eq=False)
class Sent:
    """An event of a group."""

    number: int
    """Among all of the group."""
    job: Append
    tracked: TrackedEvent


@dataclass(eq=False)
class Rows:
    """What a group adds to each table."""

    visitors: dict[int, Row] = field(default_factory=dict)
    """Of those whom it adds and those whom it changes, by their ids."""
    names: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    impressions: list[Row] = field(default_factory=list)
    records: list[Row] = field(default_factory=list)
    to_trim: set[int] = field(default_factory=set)
    """The visitors who may have too many events now."""


def numbered(group: Sequence[Append]) -> Iterator[Sent]:
    """Returns the events of a group."""
    number = 0
    for job in group:
        for tracked in job.events:
            yield Sent(number, job, tracked)
            number += 1


def by_job(group: Sequence[Append]) -> Iterator[tuple[Append, range]]:
    """Returns each append with the numbers of its events."""
    start = 0
    for job in group:
        yield job, range(start, start + len(job.events))
        start += len(job.events)


class GroupRows:
    """Collects what a group adds, given what the file says of its visitors."""

    def __init__(self, found: Found, pseudonyms: Pseudonyms | None, now: float) -> None:
        self.rows = Rows()
        self._found = found
        self._pseudonyms = pseudonyms
        self._now = now
        self._visitors = {each.visitor_id: each for each in found.known.values()}
        self._whose = {key: each.visitor_id for key, each in found.known.items()}
        self._shoppers: dict[int, str] = {}

    @property
    def known(self) -> Mapping[str, Known]:
        """By each key whom it means, as it is once the group is added."""
        return {key: self._visitors[visitor_id] for key, visitor_id in self._whose.items()}

    def add(self, sent: Sequence[Sent], new: Sequence[bool], refused: Collection[int]) -> None:
        """Adds the new ones of events; of a repeat only that the visitor was heard of."""
        for each in sent:
            if each.number not in refused:
                visitor = self._heard_of(each)
                if new[each.number]:
                    self._add(each.tracked, visitor)

    def _heard_of(self, sent: Sent) -> Known:
        key = sent.job.visitor
        if key not in self._whose:
            new_id = self._found.newest_visitor + len(self.rows.names) + 1
            self._whose[key] = new_id
            self._visitors[new_id] = Known(new_id, 0, self._now, 0, key)
            self.rows.names.append((key, new_id))
        visitor = self._visitors[self._whose[key]]
        visitor = replace(
            visitor,
            version=self._found.version + 1 + sent.number,
            untrimmed=(visitor.untrimmed + 1) % TRIM_EVERY,
        )
        if not visitor.untrimmed:
            self.rows.to_trim.add(visitor.visitor_id)
        self._visitors[visitor.visitor_id] = visitor
        row = (visitor.visitor_id, visitor.version, self._now, visitor.untrimmed)
        self.rows.visitors[visitor.visitor_id] = row
        return visitor

    def _add(self, tracked: TrackedEvent, visitor: Known) -> None:
        """Adds an event, which has the number that is the visitor's version now."""
        if tracked.event.event_type != IMPRESSION:
            self.rows.events.append(_event_row(tracked, visitor, self._now))
        elif tracked.event_id:
            row = (visitor.visitor_id, visitor.version, tracked.event_id, self._now)
            self.rows.impressions.append(row)
        if self._pseudonyms is not None:
            shopper = self._shoppers.get(visitor.visitor_id)
            if shopper is None:
                shopper = self._pseudonyms.pseudonym(visitor.key)
                self._shoppers[visitor.visitor_id] = shopper
            self.rows.records.append(_record_row(tracked, visitor.version, self._now, shopper))
        elif tracked.event.product_id:
            self.rows.records.append(_counted_row(tracked, visitor.version, self._now))


def _event_row(tracked: TrackedEvent, visitor: Known, now: float) -> Row:
    event = tracked.event
    return (
        visitor.visitor_id,
        event.event_time,
        visitor.version,
        tracked.event_id,
        now,
        event.event_type,
        event.product_id,
        event.category,
        event.search_query,
        event.quantity,
        tracked.attribution_token,
    )


def _record_row(tracked: TrackedEvent, sequence: int, now: float, shopper: str) -> Row:
    event = tracked.event
    return (
        sequence,
        now,
        shopper,
        event.event_type,
        event.event_time,
        tracked.event_id,
        event.product_id,
        event.category,
        event.search_query,
        event.quantity,
        tracked.attribution_token,
        _listed(tracked.experiment_ids),
        _listed(tracked.shown_product_ids),
    )


def _counted_row(tracked: TrackedEvent, sequence: int, now: float) -> Row:
    """Returns the record of an event that is in no log, and counted all the same."""
    event = tracked.event
    counted = (event.event_type, event.event_time, "", event.product_id)
    return (sequence, now, "", *counted, "", "", 0, "", "", "")


def _listed(names: Sequence[str]) -> str:
    return json.dumps(names, ensure_ascii=False) if names else ""
