"""What tracking costs beside predicting: calls kept in flight, every cell once a round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from deploy.bench import results
from deploy.bench.events.gateways import Gateways
from deploy.bench.events.options import Options
from deploy.bench.load import Load, Target, grpc_frame, grpc_target
from deploy.bench.results import Cell, Rounds
from deploy.bench.rounds import Planned
from deploy.bench.targets import PREDICT_INTENT, ask_predict_intent, predict_intent_target
from deploy.bench.verify import answer_bytes
from deploy.bench.visitors import Visitor
from shopintent.behavior import Product
from shopintent.client import ShopIntentClient, events
from shopintent.v1.event_service_pb2 import TrackEventsRequest, TrackEventsResponse
from shopintent.v1.user_event_pb2 import Visitor as VisitorMessage

TRACK_EVENTS = "shopintent.v1.EventService/TrackEvents"
WARM_UP_SHARE = 0.2
"""Of what is measured: so long every load runs before it."""
SAMPLED = 50
"""Answers whose length is looked at before."""
TOKEN = "t" * 20
"""Shorter than any consistency token, so that no right answer is taken for an empty one."""


def target_name(store: str, what: str) -> str:
    """Returns what the target of a store is called."""
    return f"{store} {what}"


def planned(
    options: Options,
    gateways: Mapping[str, Gateways],
    clients: Mapping[str, ShopIntentClient],
    visitors: Sequence[Visitor],
    products: Sequence[Product],
) -> dict[Cell, Planned]:
    """Returns every closed loop; what is compared with one another stands side by side."""

    def cells() -> Iterator[tuple[Cell, Planned]]:
        for in_flight in options.in_flight:
            load = Load(
                in_flight, duration_s=options.seconds, warm_up_s=options.seconds * WARM_UP_SHARE
            )
            for store, each in gateways.items():
                asks = predict_intent_target(each.address, visitors)
                n_bytes = answer_bytes(ask_predict_intent, clients[store], visitors[:SAMPLED])
                yield (
                    Cell(target_name(store, PREDICT_INTENT), in_flight, 0),
                    Planned(
                        replace(asks, answer_bytes=n_bytes),
                        load,
                        partial(ask_predict_intent, clients[store], visitors[0]),
                    ),
                )
                for n_events in options.batches:
                    target = track_target(each.address, visitors, products, n_events)
                    name = target_name(store, f"track_{n_events}")
                    yield Cell(name, in_flight, 0), Planned(target, load)

    return dict(cells())


def track_target(
    address: str, visitors: Sequence[Visitor], products: Sequence[Product], n_events: int
) -> Target:
    """Returns the target that tells a server of events of the visitors in turn."""
    ids = _of_one_length([product.product_id for product in products])
    requests = [
        TrackEventsRequest(
            visitor=VisitorMessage(visitor_id=visitor.visitor_id),
            events=[
                events.view_product(ids[(number * n_events + i) % len(ids)])
                for i in range(n_events)
            ],
        ).SerializeToString()
        for number, visitor in enumerate(visitors)
    ]
    answer = TrackEventsResponse(recorded_count=n_events, consistency_token=TOKEN)
    return replace(
        grpc_target(f"track_{n_events}", address, TRACK_EVENTS, requests),
        answer_bytes=len(grpc_frame(answer.SerializeToString())),
    )


def _of_one_length(ids: Sequence[str]) -> list[str]:
    """Returns those of the most frequent length: h2load sends bodies of one length only."""
    [(length, _)] = Counter(len(each.encode()) for each in ids).most_common(1)
    return [each for each in ids if len(each.encode()) == length]


def rows(measured: Rounds, wrong: Counter[Cell]) -> list[dict[str, Any]]:
    """Returns a row a cell, with events a second and what a call costs beside PredictIntent."""
    found = []
    for row in results.rows(measured, wrong):
        store, what = row.target.split(" ")
        n_events = 0 if what == PREDICT_INTENT else int(what.removeprefix("track_"))
        asked = measured[Cell(target_name(store, PREDICT_INTENT), row.in_flight, 0)]
        told = measured[Cell(row.target, row.in_flight, 0)]
        ratios = [one.rps / other.rps for one, other in zip(told, asked, strict=True)]
        found.append(
            {
                **asdict(row),
                "store": store,
                "what": what,
                "events_per_s": round(row.rps * n_events, 1),
                "rps_to_predict_intent": results.summary(ratios),
            }
        )
    return found
