"""Small shoppers and small networks for tests of the training; every label is worked out slowly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.candidates import CandidateSampler
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.heads import HeadsConfig, IntentHeads
from shopintent.trainer.model import IntentNetwork, ModelConfig
from shopintent.trainer.run import Run, RunInfo
from shopintent.trainer.sequences import NEVER, Sequences
from support.small_tokenizer import small_tokenizer

VIEW, CART, BUY, LEAVE = range(4)
"""Actions; the first three are events too."""
GAP_S = 1800
N_PRODUCTS = 10
TEXT_SIZE = 6
FIELD_SIZES = {
    "event_type": FIRST + 3,
    "product": FIRST + N_PRODUCTS,
    "code_1": 5,
    "code_2": 5,
    "code_3": 5,
    "category": 6,
    "brand": 4,
    "price_bucket": 5,
}
MODEL = ModelConfig(
    field_sizes=FIELD_SIZES,
    n_actions=4,
    text_embedding_size=TEXT_SIZE,
    session_gap_s=GAP_S,
    max_events=16,
    d_model=8,
    n_layers=1,
    n_heads=2,
    dropout=0.1,
    id_dropout=0.1,
)
HEADS = HeadsConfig(
    event_types=("view-product", "add-to-cart", "purchase"),
    n_actions=4,
    n_horizons=2,
    d_model=MODEL.d_model,
    session_gap_s=GAP_S,
    purchase_window_s=86_400,
)
TINY = TrainConfig(
    max_epochs=1, d_model=8, n_layers=1, max_events=16, code_size=8, max_minutes=1.0, dropout=0.0
)


@dataclass(frozen=True)
class Did:
    """One event of a shopper."""

    time: int
    action: int
    product: int = 0
    """A token id; 0 for none."""
    units: int = 1


def content() -> NDArray[np.int32]:
    """Returns [N_PRODUCTS, 7]: tokens of every known product."""
    ids = np.arange(FIRST, FIRST + N_PRODUCTS)
    sizes = list(FIELD_SIZES.values())[2:]
    columns = [ids, *(ids * (3 + n) % size for n, size in enumerate(sizes))]
    return np.stack(columns, axis=1).astype(np.int32)


def sequences_of(shoppers: Sequence[Sequence[Did]]) -> Sequences:
    """Returns the shoppers' events with all labels, worked out event by event."""
    table = np.vstack([np.zeros((FIRST, 7), np.int32), content()])
    rows: dict[str, list[int]] = {
        name: [] for name in ("session", "next_action", "next_purchase", "returns")
    }
    session = -1
    for events in shoppers:
        for n, event in enumerate(events):
            following = events[n + 1] if n + 1 < len(events) else None
            starts = n == 0 or event.time - events[n - 1].time > GAP_S
            session += starts
            same_visit = following is not None and following.time - event.time <= GAP_S
            bought = [each.time for each in events[n + 1 :] if each.action == BUY]
            rows["session"].append(session)
            rows["next_action"].append(
                following.action if following is not None and same_visit else LEAVE
            )
            rows["next_purchase"].append(bought[0] if bought else NEVER)
            rows["returns"].append(following is not None and not same_visit)
    flat = [event for events in shoppers for event in events]
    products = np.array([event.product for event in flat], np.int64)
    actions = np.array([event.action for event in flat], np.int64)
    units = np.array([event.units * (event.action != VIEW) for event in flat], np.int64)
    return Sequences(
        shopper_ids=tuple(f"s{n}" for n in range(len(shoppers))),
        offsets=np.cumsum([0, *map(len, shoppers)]).astype(np.int64),
        tokens=np.hstack([actions[:, None] + FIRST, table[products], units[:, None]]).astype(
            np.int32
        ),
        event_times=np.array([event.time for event in flat], np.int64),
        session_ids=np.array(rows["session"], np.int64),
        catalog_rows=products - FIRST,
        actions=actions,
        purchases=actions == BUY,
        next_actions=np.array(rows["next_action"], np.int64),
        next_purchase_times=np.array(rows["next_purchase"], np.int64),
        returns=np.array(rows["returns"], bool),
    )


def random_shoppers(
    n: int, *, seed: int, longest: int = 20, start: int = 1_000_000
) -> list[list[Did]]:
    """Returns n shoppers with 1 to `longest` events: equal times, visits and pauses among them."""
    rng = np.random.default_rng(seed)
    shoppers = []
    for _ in range(n):
        time, events = start + int(rng.integers(0, 50_000)), []
        for _ in range(int(rng.integers(1, longest + 1))):
            time += int(rng.choice([0, 1, 60, GAP_S, GAP_S + 1, 20_000]))
            action = int(rng.choice(3, p=[0.7, 0.2, 0.1]))
            product = int(rng.integers(FIRST, FIRST + N_PRODUCTS)) if rng.random() < 0.8 else 0
            events.append(Did(time, action, product))
        shoppers.append(events)
    return shoppers


def make_network(*, seed: int = 0, random: bool = True, **changes: object) -> IntentNetwork:
    """Returns a tiny network in evaluation mode.

    When `random`, even the weights that start at zero are random, so that everything matters.
    """
    torch.manual_seed(seed)
    network = IntentNetwork(replace(MODEL, **changes))  # type: ignore[arg-type]
    if random:
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.randn(weight.shape) * 0.2)
            network.log_temperature.fill_(-1.0)
            for field in network.products.fields:
                field.weight[0] = 0.0  # type: ignore[operator]
    return network.eval()


def make_heads(*, seed: int = 0, **changes: object) -> IntentHeads:
    """Returns heads in which everything matters: every answer is a random function."""
    generator = torch.Generator().manual_seed(seed)
    heads = IntentHeads(replace(HEADS, **changes))  # type: ignore[arg-type]
    heads_of = (heads.action, heads.purchase, heads.time, heads.quantity)
    for weight in (each.weight for each in heads_of):
        weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    for head in (heads.time, heads.quantity):
        head.log_range.copy_(torch.tensor([-20.0, 20.0]))
        head.given.fill_(True)
    return heads.eval()


def make_sampler(*, full_softmax_up_to: int = 100, n_negatives: int = 4) -> CandidateSampler:
    """Returns a sampler of the ten products, all equally popular."""
    rng = np.random.default_rng(0)
    return CandidateSampler(
        tokens=torch.tensor(content()),
        text_embeddings=torch.tensor(rng.normal(size=(N_PRODUCTS, TEXT_SIZE)).astype(np.float32)),
        shares=torch.full((N_PRODUCTS,), 1 / N_PRODUCTS),
        n_negatives=n_negatives,
        full_softmax_up_to=full_softmax_up_to,
    )


def make_run(folder: Path, **changes: Any) -> Run:
    """Returns an unsaved run of a random tiny network with the tokenizer of three products."""
    tokenizer = small_tokenizer(max_events=MODEL.max_events)
    network = make_network(field_sizes=tokenizer.sizes, text_embedding_size=2)
    heads = make_heads(event_types=tokenizer.event_types.words)
    info = RunInfo(
        dataset="prepared",
        config=TINY,
        model=network.config,
        heads=heads.config,
        actions=("view-product", "add-to-cart", "purchase", "leave"),
        horizons_s=(1_800, 86_400),
        cut_time=1_700_000_000,
        history=(
            {"epoch": 0, "train_action": 2.0, "validation_action": 1.5,
             "train_product": 3.0, "validation_product": 2.5},
            {"epoch": 1, "train_action": 1.0, "validation_action": 1.6,
             "train_product": 2.0, "validation_product": 2.6},
        ),
        best_epoch=0,
    )  # fmt: skip
    return Run(folder, replace(info, **changes), network, heads, tokenizer)
