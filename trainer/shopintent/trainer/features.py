"""Structured features of a behavior at the time of a request, inside the exported graph.

They are the X of `p = sigmoid(W^T [H b + X A])`, and what a shop's own team would work out by hand:
how often each type of event happened, over all, in this visit, lately, and with the product or
category at hand; how often this shopper bought before; and what this visit looks like so far.

B behaviors, each asked once; T events, Y event types
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shopintent.behavior.events import ADD_TO_CART, PURCHASE
from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.behavior.vocabulary import FIRST, PADDING, UNKNOWN

HOUR_S, DAY_S = 3_600, 86_400
NEVER_S = 400 * DAY_S
"""The age of what never happened."""
TYPE, PRODUCT, CATEGORY, PRICE = (
    EVENT_FIELDS.index(name) for name in ("event_type", "product", "category", "price_bucket")
)
PRIOR_VISITS, PRIOR_EVENTS, PRIOR_SHARE = 4.0, 40.0, 0.05
"""Rates of shoppers about whom little is known are drawn to a common one by these many events."""

Features = dict[str, Tensor]
"""Name to [B], or to [B, Y]: one column for each event type."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the features are made of."""

    event_types: tuple[str, ...]
    events: Tensor  # [B, T, fields]
    request_time: Tensor  # [B, 1]
    seen: Tensor  # [B, T] bool, false for padding
    n_seen: Tensor  # [B, 1]
    last: Tensor  # [B, 1], where the last event is
    age: Tensor  # [B, T] int64 seconds, 0 for padding
    visit: Tensor  # [B, T], number of the visit
    in_visit: Tensor  # [B, T] bool, of the visit that still goes on
    is_type: Tensor  # [B, T, Y] float, 0 for padding

    def of_type(self, word: str) -> Tensor:
        """Returns [B, T]: which events are of a type; none where the log has no such events."""
        if word not in self.event_types:
            return torch.zeros_like(self.seen)
        return self.is_type[:, :, self.event_types.index(word)] > 0

    def at_last(self, values: Tensor) -> Tensor:
        """Returns [B, 1]: what [B, T] values are at the last event."""
        return values.gather(1, self.last)

    def field(self, field: int) -> Tensor:
        """Returns [B, T]: one field of the events."""
        return self.events[:, :, field]


def look(
    events: Tensor,
    event_times: Tensor,
    request_time: Tensor,
    event_types: tuple[str, ...],
    session_gap_s: int,
) -> Seen:
    """Returns what all features share."""
    seen = events[:, :, TYPE] != 0
    n_seen = seen.sum(1, keepdim=True)
    last = (n_seen - 1).clamp(min=0)
    age = torch.where(seen, (request_time - event_times).clamp(min=0), 0)
    visit = session_numbers(event_times, session_gap_s)
    goes_on = age.gather(1, last) <= session_gap_s
    types = torch.arange(FIRST, FIRST + len(event_types), device=events.device)
    return Seen(
        event_types=event_types,
        events=events,
        request_time=request_time,
        seen=seen,
        n_seen=n_seen,
        last=last,
        age=age,
        visit=visit,
        in_visit=seen & goes_on & (visit == visit.gather(1, last)),
        is_type=(events[:, :, :1] == types).float(),
    )


def session_numbers(event_times: Tensor, session_gap_s: int) -> Tensor:
    """Returns [B, T]: 0 for the events of the first visit, 1 for those of the next, and so on."""
    gaps = event_times[:, 1:] - event_times[:, :-1]
    starts = torch.nn.functional.pad((gaps > session_gap_s).long(), (1, 0))
    return starts.cumsum(1)


def structured_features(
    events: Tensor,  # [B, T, 9] int
    event_times: Tensor,  # [B, T] int64, unix seconds
    request_time: Tensor,  # [B, 1] int64, unix seconds
    *,
    event_types: tuple[str, ...],
    session_gap_s: int,
) -> Tensor:
    """Returns [B, X], of which `feature_names` tells the columns."""
    seen = look(events, event_times, request_time, event_types, session_gap_s)
    columns = [each if each.dim() == 2 else each.unsqueeze(1) for each in groups(seen).values()]
    return torch.cat([column.float() for column in columns], dim=1)


def groups(seen: Seen) -> Features:
    """Returns all features by name."""
    return {
        **counts(seen),
        **recency(seen),
        **earlier_purchases(seen),
        **open_carts(seen),
        **this_visit(seen),
        **history(seen),
        **price(seen),
        **calendar(seen),
    }


def feature_names(event_types: Sequence[str]) -> list[str]:
    """Returns the names of the columns [X] of `structured_features`."""
    words = tuple(event_types)
    nothing = torch.zeros(1, 1, len(EVENT_FIELDS), dtype=torch.int64)
    time = torch.zeros(1, 1, dtype=torch.int64)
    columns = groups(look(nothing, time, time, words, session_gap_s=0))
    return [
        name if column.dim() == 1 else f"{name}: {word}"
        for name, column in columns.items()
        for word in (words if column.dim() == 2 else ("",))
    ]


def counts(seen: Seen) -> Features:
    """How often each type of event happened, and with the product or category at hand."""
    masks = {
        "ever": seen.seen,
        "this visit": seen.in_visit,
        "last hour": seen.seen & (seen.age <= HOUR_S),
        "last day": seen.seen & (seen.age <= DAY_S),
        "same product": same_as_last(seen, PRODUCT),
        "same category": same_as_last(seen, CATEGORY),
    }
    table = torch.stack(list(masks.values()), dim=1).float() @ seen.is_type  # [B, masks, Y]
    named = dict(zip(masks, torch.log1p(table).unbind(1), strict=True))
    named["share"] = table[:, 0] / seen.n_seen.clamp(min=1)
    at_last = seen.last.unsqueeze(-1).expand(-1, -1, seen.is_type.shape[-1])
    named["last event"] = seen.is_type.gather(1, at_last).squeeze(1)
    return named


def same_as_last(seen: Seen, field: int) -> Tensor:
    """Returns [B, T]: whether an event has the same id as the last one."""
    ids = seen.field(field)
    last = seen.at_last(ids)
    return seen.seen & (ids == last) & told(last)


def told(ids: Tensor) -> Tensor:
    """Returns which ids stand for one thing only: known ones, and strangers below 0."""
    return (ids < PADDING) | (ids > UNKNOWN)


def recency(seen: Seen) -> Features:
    """How long ago the last event of each type was."""
    ages = torch.where(seen.is_type > 0, seen.age.unsqueeze(-1), NEVER_S).amin(1)
    return {"since last": torch.log1p(ages.clamp(max=NEVER_S).float())}


def earlier_purchases(seen: Seen) -> Features:
    """How readily this shopper bought in visits before this one."""
    earlier = seen.seen & ~seen.in_visit
    bought = earlier & seen.of_type(PURCHASE)
    n_events, n_visits = total(earlier), earlier_visits(seen)
    n_bought, n_buying = total(bought), different(occurrences(seen.visit, bought), bought)
    return {
        "purchases an event": drawn(n_bought, n_events, PRIOR_EVENTS),
        "purchases a visit": drawn(n_bought, n_visits, PRIOR_VISITS),
        "visits with a purchase": drawn(n_buying, n_visits, PRIOR_VISITS),
        "purchases at this hour": torch.log1p(total(bought & near_hour(seen))),
    }


def near_hour(seen: Seen) -> Tensor:
    """Returns [B, T]: whether an event was within two hours of this hour of the day."""
    apart = (seen.age // HOUR_S) % 24
    return (apart <= 2) | (apart >= 21)


def drawn(count: Tensor, of: Tensor, prior: float) -> Tensor:
    """Returns the rate of a count, drawn to a common rate where there is little to go by."""
    return (count + PRIOR_SHARE * prior) / (of + prior)


def total(mask: Tensor) -> Tensor:
    """Returns [B] float: how many events [B, T] a mask has."""
    return mask.sum(1).float()


def earlier_visits(seen: Seen) -> Tensor:
    """Returns [B] float: how many visits there were before this one."""
    begun = (seen.at_last(seen.visit) + 1 - seen.in_visit.any(1, keepdim=True).long()).squeeze(1)
    return torch.where(seen.n_seen.squeeze(1) > 0, begun, 0).float()


def alike(values: Tensor) -> Tensor:
    """Returns [B, T, T] float: which two events have the same value."""
    small = values.int()
    return (small.unsqueeze(2) == small.unsqueeze(1)).float()


def occurrences(values: Tensor, mask: Tensor) -> Tensor:
    """Returns [B, T] float: how many events of the mask have the value of each event."""
    return (alike(values) @ mask.float().unsqueeze(2)).squeeze(2)


def different(times_seen: Tensor, mask: Tensor) -> Tensor:
    """Returns [B] float: how many different values there are, given `occurrences` in the mask."""
    return torch.where(mask, 1.0 / times_seen.clamp(min=1.0), 0.0).sum(1).round()


def open_carts(seen: Seen) -> Features:
    """What was put into the cart and not bought since."""
    bought = seen.of_type(PURCHASE).float().unsqueeze(2)
    bought_later = (alike(seen.field(PRODUCT)).triu(1) @ bought).squeeze(2) > 0
    waiting = seen.seen & seen.of_type(ADD_TO_CART) & ~bought_later
    at_hand = waiting & same_as_last(seen, PRODUCT)
    return {
        "in the cart": torch.log1p(total(waiting)),
        "in the cart, this visit": torch.log1p(total(waiting & seen.in_visit)),
        "product at hand in the cart": at_hand.any(1),
    }


def this_visit(seen: Seen) -> Features:
    """How long this visit is, how fast, and how focused."""
    length = total(seen.in_visit)
    duration = torch.where(seen.in_visit, seen.age, 0).amax(1).float()
    before_last = seen.age.gather(1, (seen.last - 1).clamp(min=0)) - seen.at_last(seen.age)
    last_gap = torch.where(length > 1, before_last.squeeze(1), 0).float()
    named = {
        "events": torch.log1p(length),
        "duration": torch.log1p(duration),
        "last gap": torch.log1p(last_gap),
        "mean gap": torch.log1p(duration / length.clamp(min=1)),
        "since the last event": torch.log1p(seen.at_last(seen.age).squeeze(1).float()),
    }
    products, categories = (
        occurrences(seen.field(field), seen.in_visit) for field in (PRODUCT, CATEGORY)
    )
    each = length.clamp(min=1)
    named["different products an event"] = different(products, seen.in_visit) / each
    named["different categories an event"] = different(categories, seen.in_visit) / each
    known = seen.in_visit & told(seen.field(PRODUCT))
    named["most events about one product"] = torch.where(known, products - 1, 0).amax(1)
    named["events in the same category in a row"] = torch.log1p(streak(seen))
    return named


def streak(seen: Seen) -> Tensor:
    """Returns [B] float: how many last events of this visit have the category at hand."""
    other = seen.seen & ~(seen.in_visit & same_as_last(seen, CATEGORY))
    position = torch.arange(1, other.shape[1] + 1, device=other.device)
    return (seen.n_seen.squeeze(1) - torch.where(other, position, 0).amax(1)).float()


def history(seen: Seen) -> Features:
    """How well the shopper is known."""
    earlier = seen.seen & ~seen.in_visit
    visits = earlier_visits(seen)
    newest = torch.where(earlier, seen.age, NEVER_S).amin(1)
    start = torch.where(seen.in_visit, seen.age, 0).amax(1)
    pause = torch.where(visits > 0, newest - start, NEVER_S)
    span = seen.age.amax(1).float()
    return {
        "visits before": torch.log1p(visits),
        "events a visit before": torch.log1p(total(earlier) / visits.clamp(min=1)),
        "visits a day": visits / (1 + span / DAY_S),
        "since the visit before": torch.log1p(pause.clamp(max=NEVER_S).float()),
        "known for": torch.log1p(span),
        "new shopper": visits == 0,
    }


def price(seen: Seen) -> Features:
    """The price bucket of the product at hand, and how far it is above the shopper's usual one."""
    bucket = seen.field(PRICE).float()
    known = seen.seen & (bucket > 0)
    usual = (bucket * known).sum(1) / total(known).clamp(min=1)
    at_hand = seen.at_last(bucket * known).squeeze(1)
    return {
        "price": at_hand,
        "price above the usual": torch.where(at_hand > 0, at_hand - usual, 0),
    }


def calendar(seen: Seen) -> Features:
    """The hour of the day and the day of the week, UTC, as points on a circle."""
    time = seen.request_time.squeeze(1)
    hour = (time % DAY_S).float() * (2 * math.pi / DAY_S)
    day = (time // DAY_S % 7).float() * (2 * math.pi / 7)
    return {
        "hour (sine)": hour.sin(),
        "hour (cosine)": hour.cos(),
        "weekday (sine)": day.sin(),
        "weekday (cosine)": day.cos(),
    }
