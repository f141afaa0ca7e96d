"""Whether answers are right: checked before the load and after it, and watched under it.

What h2load counts as an answer could be anything. Here PredictIntent is compared with what Triton
says of the same behavior, and Recommend with an exact search of the same embedding.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.bench.load import grpc_frame
from deploy.bench.servers import Server
from deploy.bench.targets import PAGE_SIZE, Answer, DirectModel, ask_predict_intent, ask_recommend
from deploy.bench.visitors import Visitor
from shopintent.artifacts import Manifest, read_products, signature
from shopintent.client import ShopIntentClient, ShopIntentError
from shopintent.v1.recommendation_service_pb2 import PredictIntentResponse, RecommendResponse

TOLERANCE = 1e-4
WATCH_S = 0.1
RIGHT_IN_A_ROW = 20
RECOVERY_S = 30.0


class WrongAnswer(Exception):
    """A target answers, but wrongly: its speed means nothing. The message says how."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """The products of a server, to search exactly."""

    ids: NDArray[np.str_]
    """[P]"""
    embeddings: NDArray[np.float32]
    """[P, D], L2-normalized."""
    in_stock: NDArray[np.bool_]
    """[P]"""

    def nearest(self, embedding: NDArray[np.float32], *, but: set[str], n: int) -> list[str]:
        """Returns the ids of the n nearest products in stock that are not among `but`."""
        scores = np.where(self.in_stock, self.embeddings @ embedding, -np.inf)
        n_ranked = min(n + len(but), len(scores))
        first = np.argpartition(-scores, n_ranked - 1)[:n_ranked]
        ranked = self.ids[first[np.argsort(-scores[first])]].tolist()
        return [each for each in ranked if each not in but][:n]


@dataclass(frozen=True)
class Verified:
    """What was found right."""

    n_visitors: int
    largest_difference: float
    """Of a probability of PredictIntent to Triton's."""
    recall: float
    """Share of the nearest products that Recommend's pages show, on average."""
    least_recall: float
    """The same, of the visitor it is worst for."""


def read_catalog(server: Server) -> Catalog:
    """Reads the products of a server from its release."""
    folder = server.releases.release(server.release_id)
    known = [(each.product.product_id, each.product.in_stock) for each in read_products(folder)]
    return Catalog(
        ids=np.array([product_id for product_id, _ in known]),
        embeddings=np.load(folder.product_embeddings, allow_pickle=False),
        in_stock=np.array([in_stock for _, in_stock in known]),
    )


def verify(
    client: ShopIntentClient,
    direct: DirectModel,
    manifest: Manifest,
    catalog: Catalog,
    visitors: Sequence[Visitor],
) -> Verified:
    """Asks for every visitor and returns how right it was. Raises WrongAnswer."""
    differences, recalls = [], []
    for visitor in visitors:
        intent, outputs = _same_second(client, direct, visitor)
        differences.append(difference(intent, outputs, manifest))
        page = ask_recommend(client, visitor)
        recalls.append(recall(page, outputs[signature.BEHAVIOR_EMBEDDING], catalog, visitor))
    found = Verified(
        n_visitors=len(visitors),
        largest_difference=max(differences),
        recall=round(float(np.mean(recalls)), 4),
        least_recall=min(recalls),
    )
    if not found.largest_difference <= TOLERANCE:
        raise WrongAnswer(
            f"PredictIntent differs from Triton by {found.largest_difference:g}, more than "
            f"{TOLERANCE:g}"
        )
    return found


def _same_second(
    client: ShopIntentClient, direct: DirectModel, visitor: Visitor
) -> tuple[PredictIntentResponse, dict[str, NDArray[np.float32]]]:
    """Returns both answers to one time of request, which is in whole seconds."""
    while True:
        now = int(time.time())
        intent = ask_predict_intent(client, visitor)
        if int(time.time()) == now:
            return intent, direct.ask(visitor, request_time=now)


def difference(
    intent: PredictIntentResponse, outputs: dict[str, NDArray[np.float32]], manifest: Manifest
) -> float:
    """Returns how far the furthest probability is from the one that Triton gives."""
    if intent.degraded_reasons:
        raise WrongAnswer(f"PredictIntent is degraded: {list(intent.degraded_reasons)}")
    actions = {each.action: each.probability for each in intent.next_actions}
    given = [actions[name] for name in manifest.actions]
    given += [each.probability for each in intent.purchases]
    wanted = [
        *outputs[signature.NEXT_ACTION_PROBABILITIES],
        *outputs[signature.PURCHASE_PROBABILITIES],
    ]
    return float(np.abs(np.array(given) - np.array(wanted)).max())


def recall(
    page: RecommendResponse,
    embedding: NDArray[np.float32],
    catalog: Catalog,
    visitor: Visitor,
) -> float:
    """Returns the share of the nearest products that the page shows. Raises WrongAnswer."""
    if page.degraded_reasons:
        raise WrongAnswer(f"Recommend is degraded: {list(page.degraded_reasons)}")
    shown = [each.product for each in page.recommendations]
    seen = {event.product_id for event in visitor.events if event.product_id}
    nearest = catalog.nearest(embedding, but=seen, n=PAGE_SIZE)
    if len(shown) != len(nearest) or not all(product.title for product in shown):
        raise WrongAnswer(
            f"Recommend shows {len(shown)} products to {visitor.visitor_id}, "
            f"{sum(bool(product.title) for product in shown)} with a title; "
            f"{len(nearest)} were expected"
        )
    return len({product.id for product in shown} & set(nearest)) / len(nearest)


def recover(ask: Callable[[], Answer], *, timeout_s: float = RECOVERY_S) -> float:
    """Waits until some answers in a row are whole again; returns how long the first took to come.

    Raises WrongAnswer when they do not come in time.
    """
    started = first = time.monotonic()
    n_right = 0
    while n_right < RIGHT_IN_A_ROW:
        try:
            right = not ask().degraded_reasons
        except ShopIntentError:
            right = False
        n_right = n_right + 1 if right else 0
        first = time.monotonic() if n_right == 1 else first
        if not right and time.monotonic() - started > timeout_s:
            raise WrongAnswer(f"no whole answers within {timeout_s:g} s after the load had ended")
        time.sleep(0.0 if right else 0.05)
    return first - started


def answer_bytes(
    ask: Callable[[ShopIntentClient, Visitor], Answer],
    client: ShopIntentClient,
    visitors: Sequence[Visitor],
) -> int:
    """Returns the length of a body that answers, on average."""
    answers = [ask(client, visitor).SerializeToString() for visitor in visitors]
    return round(np.mean([len(grpc_frame(answer)) for answer in answers]))


@contextmanager
def watching(ask: Callable[[], Answer] | None) -> Iterator[list[str]]:
    """Asks a few times a second while the block runs; yields why answers were no full ones."""
    wrong: list[str] = []
    if ask is None:
        yield wrong
        return
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(ask, wrong, ended), daemon=True)
    thread.start()
    try:
        yield wrong
    finally:
        ended.set()
        thread.join()


def _watch(ask: Callable[[], Answer], wrong: list[str], ended: threading.Event) -> None:
    while not ended.wait(WATCH_S):
        try:
            answer = ask()
        except ShopIntentError as error:
            wrong.append(str(error))
        else:
            if answer.degraded_reasons:
                wrong.append(f"degraded: {list(answer.degraded_reasons)}")
