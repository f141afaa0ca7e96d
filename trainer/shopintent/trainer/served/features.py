"""Structured and order features for serving: the numbers of features.py and order_features.py.

Nearly all of them are sums over events of a mask times a column, such as "in this visit" times
"is a purchase". So masks and columns are put side by side and multiplied once; what is left are a
few reductions, and arithmetic on single numbers of a request.

B behaviors, T events, Y event types, M masks, C columns; a row is [B, 1, T]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopintent.behavior.events import ADD_TO_CART, PURCHASE, REMOVE_FROM_CART
from shopintent.behavior.vocabulary import FIRST, PADDING, UNKNOWN
from shopintent.trainer.features import (
    CATEGORY,
    DAY_S,
    HOUR_S,
    NEVER_S,
    PRICE,
    PRIOR_EVENTS,
    PRIOR_SHARE,
    PRIOR_VISITS,
    PRODUCT,
    TYPE,
    feature_names,
)
from shopintent.trainer.order_features import UNITS

LONGEST_S = 2**30
"""Ages are cut here, at 34 years, to fit 32 bits; what never happened is as old."""
WEEK_S = 7 * DAY_S
NOWHERE = 2**30
"""The place of no event."""

Cells = dict[str, Tensor]
"""Name to [B, 1], or to [B, Y] where a name stands for every event type."""

COUNTED = ("ever", "this visit", "last hour", "last day", "same product", "same category")
MASKS = (
    *COUNTED, "earlier at this hour", "last event", "last but one", "first of visit",
    "last before visit", "first", "since the order", "last order",
)  # fmt: skip
COLUMNS = (
    "seen", "bought", "waiting", "price", "priced", "start", "order", "order log", "order units",
    "added", "removed", "added lines", "age", "part of product", "part of category",
)  # fmt: skip
"""Beside those of the event types."""
CELLS = {
    "purchases at this hour": "earlier at this hour: bought",
    "in the cart": "ever: waiting",
    "in the cart, this visit": "this visit: waiting",
    "events": "this visit: seen",
    "duration": "first of visit: age",
    "since the last event": "last event: age",
    "known for": "first: age",
    "price": "last event: price",
    "orders": "ever: order",
    "cart lines": "since the order: added lines",
    "log units of last order": "last order: order log",
}
"""Features that are cells of the table."""
ORDER_FEATURES = (
    "orders", "units an order", "lines an order", "between orders", "between the last orders",
    "since the last order", "left until the next order", "cart", "cart lines",
    "mean log units", "log units of last order", "most log units", "spread of log units",
    "has an order", "has two orders",
)  # fmt: skip
"""Those of order_features.py, in its order."""
PLAIN = (
    "share", "last event", "purchases an event", "purchases a visit", "visits with a purchase",
    "product at hand in the cart", "different products an event", "different categories an event",
    "most events about one product", "visits a day", "new shopper", "price",
    "price above the usual", "hour (sine)", "hour (cosine)", "weekday (sine)", "weekday (cosine)",
    *ORDER_FEATURES[9:],
)  # fmt: skip
"""Features, or groups of one for each event type, that are no logarithms."""


@dataclass(frozen=True, eq=False)
class Moments:
    """The events of each request, seen from its time."""

    fields: Tensor  # [B, 9, T] int32
    places: Tensor  # [T] int32: 1, 2 ..
    n_seen: Tensor  # [B, 1, 1] int32
    raw_ages: Tensor  # [B, 1, T] int32 seconds
    gaps: Tensor  # [B, 1, T] int32 seconds since the event before, 0 for the first
    request_time: Tensor  # [B, 1] int64 unix seconds

    @classmethod
    def of(
        cls, events: Tensor, event_times: Tensor, request_time: Tensor, places: Tensor
    ) -> Moments:
        """[B, T, 9], [B, T], [B, 1] and 1, 2 .. of as many events as there may be."""
        # ONNX Runtime would carry the transposition through all that follows, into dozens of small
        # ones; it stops at this operator.
        fields = events.transpose(1, 2).bitwise_or(torch.zeros(1, dtype=torch.int32))
        ages = (request_time - event_times).clamp(-LONGEST_S, LONGEST_S)
        raw_ages = ages.to(torch.int32).unsqueeze(1)
        happened = (fields[:, TYPE : TYPE + 1] > 0).to(torch.int32)
        return cls(
            fields=fields,
            places=places[: events.shape[1]],
            n_seen=happened.sum(2, keepdim=True, dtype=torch.int32),
            raw_ages=raw_ages,
            gaps=F.pad(raw_ages[:, :, :-1] - raw_ages[:, :, 1:], (1, 0)),
            request_time=request_time,
        )

    def field(self, field: int) -> Tensor:
        """Returns a row: one field of the events."""
        return self.fields[:, field : field + 1]


class LeanFeatures(nn.Module):
    """Moments to [B, X + O]: all features, in the order in which the heads read them."""

    later: Tensor
    types: Tensor
    windows: Tensor

    def __init__(self, event_types: Sequence[str], session_gap_s: int, max_events: int) -> None:
        super().__init__()
        self.event_types, self.session_gap_s = tuple(event_types), session_gap_s
        self.columns = (*self.event_types, *COLUMNS)
        types = torch.arange(FIRST, FIRST + len(self.event_types), dtype=torch.int32)
        self.register_buffer("types", types.unsqueeze(1))
        self.register_buffer("windows", torch.tensor([[HOUR_S], [DAY_S]], dtype=torch.int32))
        self.register_buffer("later", torch.ones(max_events, max_events).tril(-1))

    def forward(self, moments: Moments) -> Tensor:
        """Returns [B, X + O]."""
        table, single = self.count(moments)
        single |= self.arithmetic(table, single) | calendar(moments.request_time)
        values = torch.cat([table, *single.values()], 1)
        names = [f"{mask}: {column}" for mask in MASKS for column in self.columns]
        for name in single:
            per_type = name == "since last"
            names += [f"{name}: {word}" for word in self.event_types] if per_type else [name]
        place = {name: n for n, name in enumerate(names)}
        features = (*feature_names(self.event_types), *ORDER_FEATURES)
        logged = [name for name in features if name.split(": ")[0] not in PLAIN]
        plain = [name for name in features if name not in logged]

        def at(wanted: Sequence[str]) -> Tensor:
            return values.index_select(
                1, torch.tensor([place[CELLS.get(name, name)] for name in wanted])
            )

        both = torch.cat([(at(logged) + 1).log(), at(plain)], 1)
        return both.index_select(
            1, torch.tensor([[*logged, *plain].index(name) for name in features])
        )

    def count(self, moments: Moments) -> tuple[Tensor, Cells]:
        """Returns the table [B, M * C], and what is no sum."""
        places, n_seen, raw_ages = moments.places, moments.n_seen, moments.raw_ages
        seen, is_last = places <= n_seen, places == n_seen
        age = torch.where(seen, raw_ages.clamp(min=0), LONGEST_S)
        about = moments.fields.index_select(1, torch.tensor([PRODUCT, CATEGORY]))  # [B, 2, T]
        compared = torch.cat([about, raw_ages], 1)  # [B, 3, T]
        last = torch.where(is_last, compared, 0).sum(2, keepdim=True, dtype=torch.int32)
        told = (about < PADDING) | (about > UNKNOWN)
        same = (about == last[:, :2]) & told

        starts = moments.gaps > self.session_gap_s
        goes_on = (last[:, 2:] <= self.session_gap_s) & (n_seen > 0)
        start = torch.where(starts, places, 1).amax(2, keepdim=True)
        begin = torch.where(goes_on, start, NOWHERE)
        before = torch.minimum(begin, n_seen + 1) - 1
        in_visit, earlier = (places >= begin) & seen, places <= before
        near = ((age + 3 * HOUR_S) % DAY_S < 6 * HOUR_S) & earlier
        marked = torch.cat([n_seen - 1, begin, before, n_seen.clamp(max=1)], 1)

        is_type = moments.field(TYPE) == self.types
        youngest = torch.where(is_type, age, LONGEST_S).amin(2, keepdim=True)  # [B, Y, 1]
        bought_at = self.of_type(youngest, PURCHASE, LONGEST_S)
        masks = torch.cat(
            [
                seen, in_visit, age <= self.windows, same, near, is_last, places == marked,
                age < bought_at, age == bought_at,
            ],
            1,
        ).float()  # fmt: skip
        typed = is_type.float()
        bought = self.of_type(typed, PURCHASE, 0.0)
        in_visit_rows = masks[:, 1:2]
        units = moments.field(UNITS).float()
        rows = torch.cat([in_visit_rows, bought * units], 1).unsqueeze(1)  # [B, 1, 2, T]
        alike = (compared.unsqueeze(3) == compared.unsqueeze(2)).float()  # [B, 3, T, T]
        met = rows @ alike  # [B, 3, 2, T]
        later = self.later[: alike.shape[3], : alike.shape[3]]
        final = ((bought.unsqueeze(1) @ (alike * later)) == 0).float().squeeze(2)  # [B, 3, T]
        times_seen, order_units = met[:, :2, 0], met[:, 2, 1:]
        order = bought * final[:, 2:]
        logs = order * order_units.clamp(min=1.0).log()
        added = self.of_type(typed, ADD_TO_CART, 0.0)
        price = moments.field(PRICE).float()
        added_units = added * units
        columns = torch.cat(
            [
                typed, masks[:, :1], bought, added * final[:, :1], price, (price > 0).float(),
                starts.float(), order, logs, order * order_units, added_units,
                self.of_type(typed, REMOVE_FROM_CART, 0.0) * units, (added_units > 0).float(),
                age.float(), 1 / times_seen.clamp(min=1.0),
            ],
            1,
        )  # fmt: skip
        apart = seen & ~(in_visit & same[:, 1:])
        again = in_visit_rows * told[:, :1].float() * (times_seen[:, :1] - 1)
        buying = bought * earlier.float()
        visit = starts.long().cumsum(2)
        buying = (buying * 0.0).scatter_reduce(2, visit, buying, "amax")
        orders = order.sum(2, keepdim=True).clamp(min=1.0)
        spread = (logs - order * (logs.sum(2, keepdim=True) / orders)).abs().sum(2)
        oldest = torch.where(bought > 0, age, -1).amax(2)
        other = torch.where((bought > 0) & (age > bought_at), age, LONGEST_S).amin(2)
        newest = bought_at.squeeze(2)
        table = (masks @ columns.transpose(1, 2)).flatten(1)
        return table, {
            "since last": youngest.clamp(max=NEVER_S).float().squeeze(2),
            "last other": torch.where(apart, places, 0).amax(2).float(),
            "most events about one product": again.amax(2),
            "most log units": logs.amax(2),
            "sum of spread": spread,
            "buying visits": buying.sum(2),
            "goes on": goes_on.squeeze(2).float(),
            "order age": newest.float(),
            "all between": (oldest - newest).float(),
            "last between": (other - newest).float(),
        }

    def of_type(self, rows: Tensor, word: str, default: float) -> Tensor:
        """Returns [B, 1, ...] of [B, Y, ...]: those of one event type, which the log may lack."""
        if word not in self.event_types:
            return torch.full_like(rows[:, :1], default)
        at = self.event_types.index(word)
        return rows[:, at : at + 1]

    def arithmetic(self, table: Tensor, single: Cells) -> Cells:
        """Returns what follows from single numbers of each request."""

        def take(*named: str) -> Tensor:
            cells = [name.split(": ") for name in named]
            at = [MASKS.index(m) * len(self.columns) + self.columns.index(c) for m, c in cells]
            return table.index_select(1, torch.tensor(at))

        def cells(*named: str) -> tuple[Tensor, ...]:
            return torch.split(take(*named), 1, 1)

        n, length, begun, price, at_hand, n_bought, bought_here = cells(
            "ever: seen", "this visit: seen", "ever: start", "ever: price", "last event: price",
            "ever: bought", "this visit: bought",
        )  # fmt: skip
        span, duration, newest, age, age_before = cells(
            "first: age", "first of visit: age", "last before visit: age", "last event: age",
            "last but one: age",
        )  # fmt: skip
        n_orders, added, removed, in_cart, n_priced = cells(
            "ever: order", "since the order: added", "since the order: removed",
            "same product: waiting", "ever: priced",
        )  # fmt: skip
        visits = begun + n.clamp(max=1.0) - single["goes on"]
        before = n - length
        one, two = n_orders.clamp(max=1.0), (n_orders - 1).clamp(0.0, 1.0)
        # Thirds add up to one only nearly, and a threshold of a tree may lie between.
        parts = take("this visit: part of product", "this visit: part of category").round()
        products, categories = torch.split(parts, 1, 1)
        rates = {
            "different products an event": (products, length),
            "different categories an event": (categories, length),
            "purchases an event": (n_bought - bought_here + PRIOR_SHARE * PRIOR_EVENTS,
                                   before + PRIOR_EVENTS),
            "purchases a visit": (n_bought - bought_here + PRIOR_SHARE * PRIOR_VISITS,
                                  visits + PRIOR_VISITS),
            "visits with a purchase": (single["buying visits"] + PRIOR_SHARE * PRIOR_VISITS,
                                       visits + PRIOR_VISITS),
            "events a visit before": (before, visits),
            "visits a day": (visits, span / DAY_S + 1),
            "between orders": (single["all between"] * two, n_orders - 1),
            "spread of log units": (single["sum of spread"], n_orders),
            "usual price": (price, n_priced),
        }  # fmt: skip
        shares = {
            "mean gap": ("first of visit: age", "this visit: seen"),
            "units an order": ("ever: order units", "ever: order"),
            "lines an order": ("ever: bought", "ever: order"),
            "mean log units": ("ever: order log", "ever: order"),
            **{f"share: {word}": (f"ever: {word}", "ever: seen") for word in self.event_types},
        }
        above, below = zip(*shares.values(), strict=True)
        tops = torch.cat([take(*above), *(top for top, _ in rates.values())], 1)
        wholes = torch.cat([take(*below), *(whole for _, whole in rates.values())], 1)
        divided = torch.split(tops / wholes.clamp(min=1.0), 1, 1)
        found = dict(zip((*shares, *rates), divided, strict=True))
        since = single["order age"] * one
        return found | {
            "last gap": torch.where(length > 1, age_before - age, 0.0),
            "events in the same category in a row": n - single["last other"],
            "visits before": visits,
            "since the visit before": torch.where(visits > 0, newest - duration, NEVER_S).clamp(
                max=NEVER_S
            ),
            "new shopper": (visits == 0).float(),
            "product at hand in the cart": (in_cart > 0).float(),
            "price above the usual": torch.where(at_hand > 0, at_hand - found["usual price"], 0.0),
            "between the last orders": single["last between"] * two,
            "since the last order": since,
            "left until the next order": (found["between orders"] - since).clamp(min=0.0) * two,
            "cart": (added - removed).clamp(min=0.0),
            "has an order": one,
            "has two orders": two,
        }


def calendar(request_time: Tensor) -> Cells:
    """The hour of the day and the day of the week of [B, 1] times, as points on a circle."""
    hour = (request_time % DAY_S).float() * (2 * math.pi / DAY_S)
    day = ((request_time % WEEK_S).float() / DAY_S).floor() * (2 * math.pi / 7)
    angles = torch.cat([hour, day], 1)
    (sine, weekday_sine), (cosine, weekday_cosine) = (
        torch.split(each, 1, 1) for each in (angles.sin(), angles.cos())
    )
    return {
        "hour (sine)": sine,
        "hour (cosine)": cosine,
        "weekday (sine)": weekday_sine,
        "weekday (cosine)": weekday_cosine,
    }
