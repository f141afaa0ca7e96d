from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopintent.behavior import (
    EVENT_TYPES,
    Behavior,
    BehaviorTokenizer,
    Event,
    Product,
    TokenizerError,
    Vocabulary,
)
from shopintent.behavior.codebook import ContentCodebook
from shopintent.behavior.tokenizer import EVENT_FIELDS, FORMAT_VERSION
from shopintent.behavior.vocabulary import UNKNOWN, stranger
from shopintent.behavior.word_tokens import EventColumns
from support.small_tokenizer import PRODUCTS, TEXT_EMBEDDINGS, small_tokenizer

TOKENIZER = small_tokenizer(max_events=4)
NEW_CONTENT = np.array([2, 3, 1, 4, 1, 2], dtype=np.int32)

events = st.lists(
    st.builds(
        Event,
        event_type=st.sampled_from([*EVENT_TYPES, "teleport"]),
        event_time=st.integers(0, 6),
        product_id=st.sampled_from(["", "chair", "table", "стол", "new", "nobody knows"]),
        category=st.sampled_from(["", "Garden", "Garden > Chairs > Red", "Toys", " > "]),
        search_query=st.sampled_from(["", "folding chair", "never encoded"]),
        quantity=st.sampled_from([0, 1, 12, 1_000_000]),
    ),
    max_size=10,
)


def encode(given_events: list[Event], tokenizer: BehaviorTokenizer = TOKENIZER) -> Behavior:
    return tokenizer.encode(
        given_events,
        unseen_products={"new": NEW_CONTENT},
        query_codes={"folding chair": np.array([1, 2, 3], dtype=np.int32)},
    )


def as_lists(behavior: Behavior) -> tuple[list[list[int]], list[int]]:
    return behavior.tokens.tolist(), behavior.event_times.tolist()


@given(given_events=events)
def test_every_id_fits_the_table_it_is_looked_up_in(given_events: list[Event]) -> None:
    behavior = encode(given_events)
    assert behavior.tokens.shape == (len(given_events), len(EVENT_FIELDS))
    assert behavior.tokens.dtype == np.int32
    assert behavior.event_times.dtype == np.int64
    sizes = list(TOKENIZER.sizes.values())
    assert tuple(TOKENIZER.sizes) == EVENT_FIELDS[:-1]
    strangers = behavior.tokens[:, 1] < 0
    assert (np.delete(behavior.tokens, 1, axis=1) >= 0).all()
    assert (behavior.tokens[:, :-1] < sizes).all()
    ids = [each.product_id for each in sorted(given_events, key=lambda each: each.event_time)]
    unknown = [bool(each) and TOKENIZER.products.lookup(each) == UNKNOWN for each in ids]
    assert strangers.tolist() == unknown


def test_strangers_are_told_apart_and_known_again_in_any_process() -> None:
    first, second, again = (
        TOKENIZER.encode([Event("view-product", 0, each)]).tokens[0, 1]
        for each in ("new-a", "new-b", "new-a")
    )
    assert first == again != second
    assert first == -1 - 670_649_588


@given(given_events=events)
def test_units_are_read_as_they_are(given_events: list[Event]) -> None:
    in_order = sorted(given_events, key=lambda event: event.event_time)
    assert encode(given_events).tokens[:, -1].tolist() == [event.quantity for event in in_order]


@given(given_events=events)
def test_events_are_read_by_time_and_as_given_where_times_are_equal(
    given_events: list[Event],
) -> None:
    in_order = sorted(given_events, key=lambda event: event.event_time)
    assert as_lists(encode(given_events)) == as_lists(encode(in_order))


@given(given_events=events)
def test_the_window_is_the_newest_events_with_padding_behind(given_events: list[Event]) -> None:
    behavior = encode(given_events)
    window = TOKENIZER.window(behavior)
    kept = min(len(given_events), TOKENIZER.max_events)
    assert window.tokens.shape == (TOKENIZER.max_events, len(EVENT_FIELDS))
    newest = (behavior.tokens[-kept:] if kept else behavior.tokens[:0]).tolist()
    assert window.tokens.tolist() == [
        *newest,
        *[[0] * len(EVENT_FIELDS)] * (TOKENIZER.max_events - kept),
    ]
    assert not window.event_times[kept:].any()
    # An event is never taken for padding: its type has an id above 0.
    assert (window.tokens[:kept, 0] > 0).all()


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_window_may_be_shorter_and_keeps_the_newest(length: int) -> None:
    events = [Event("view-product", 1_700_000_000 + n, product_id=f"p{n}") for n in range(3)]
    behavior = encode(events)
    window = TOKENIZER.window(behavior, length)
    kept = min(length, 3)
    assert window.tokens.shape == (length, len(EVENT_FIELDS))
    assert window.event_times.tolist() == [
        *behavior.event_times[-kept:].tolist(),
        *[0] * (length - kept),
    ]


def test_a_window_is_never_longer_than_the_model_allows() -> None:
    assert len(TOKENIZER.window(encode([]), 1_000)) == TOKENIZER.max_events


def test_no_events_are_no_tokens() -> None:
    assert len(TOKENIZER.encode([])) == 0


def test_a_trained_product_and_the_same_product_new_differ_only_in_the_id() -> None:
    content = TOKENIZER.encode_content(PRODUCTS, TEXT_EMBEDDINGS)
    for product, row in zip(PRODUCTS, content, strict=True):
        known = TOKENIZER.encode([Event("view-product", 0, product.product_id)]).tokens[0]
        new = TOKENIZER.encode(
            [Event("view-product", 0, "new")], unseen_products={"new": row}
        ).tokens[0]
        assert new.tolist() == [known[0], stranger("new"), *known[2:]]
        assert TOKENIZER.encode_product(product.product_id, row).tolist() == known[1:-1].tolist()


def test_content_of_no_products_is_empty() -> None:
    no_embeddings = np.zeros((0, 2), dtype=np.float32)
    assert TOKENIZER.encode_content([], no_embeddings).shape == (0, 6)


def test_each_product_needs_an_embedding() -> None:
    with pytest.raises(ValueError, match="zip"):
        TOKENIZER.encode_content([Product("a"), Product("b")], TEXT_EMBEDDINGS[:1])


prices = st.none() | st.floats(0, 1e12)


@given(price=prices, other=prices)
def test_a_higher_price_is_never_in_a_lower_bucket(
    price: float | None, other: float | None
) -> None:
    buckets = TOKENIZER.price_bucket(price), TOKENIZER.price_bucket(other)
    assert all(0 <= bucket < TOKENIZER.sizes["price_bucket"] for bucket in buckets)
    if price is None:
        assert buckets[0] == 0
    elif other is not None and price <= other:
        assert 1 <= buckets[0] <= buckets[1]


# Saving


def test_a_saved_tokenizer_is_the_same_tokenizer(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "a" / "b")
    loaded = BehaviorTokenizer.load(tmp_path / "a" / "b")
    assert loaded.fingerprint == TOKENIZER.fingerprint
    given_events = [Event("view-product", 3, "стол"), Event("purchase", 1, "new")]
    assert as_lists(encode(given_events, loaded)) == as_lists(encode(given_events))
    assert loaded.sizes == TOKENIZER.sizes


def changed_parts() -> dict[str, BehaviorTokenizer]:
    table = TOKENIZER.product_table.copy()
    table[2, 0] += 1
    centroids = TOKENIZER.codebook.centroids.copy()
    centroids[2, 2, 1] += np.float32(1e-6)
    return {
        "max_events": replace(TOKENIZER, max_events=5),
        "event_types": replace(TOKENIZER, event_types=Vocabulary(("view-product",))),
        "products": replace(
            TOKENIZER, products=Vocabulary(tuple(reversed(TOKENIZER.products.words)))
        ),
        "categories": replace(TOKENIZER, categories=Vocabulary(())),
        "brands": replace(TOKENIZER, brands=TOKENIZER.categories),
        "codebook": replace(TOKENIZER, codebook=ContentCodebook(centroids)),
        "price_edges": replace(TOKENIZER, price_edges=np.array([10.0, 50.0])),
        "product_table": replace(TOKENIZER, product_table=table),
    }


@pytest.mark.parametrize("part", sorted(changed_parts()))
def test_the_fingerprint_changes_with_every_part(part: str) -> None:
    assert changed_parts()[part].fingerprint != TOKENIZER.fingerprint


def test_every_part_is_in_the_test_above() -> None:
    assert set(changed_parts()) == set(TOKENIZER.__dataclass_fields__)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    TOKENIZER.save(tmp_path)
    return tmp_path


def change(saved: Path, **values: object) -> None:
    path = saved / "tokenizer.json"
    scalars = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**scalars, **values}), encoding="utf-8")


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=str(tmp_path / "nowhere")):
        BehaviorTokenizer.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["tokenizer.json", "arrays.npz"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"null", b"\xff\xfe", b"PK\x03\x04"])
def test_a_tokenizer_with_a_lost_or_broken_file_is_refused(
    saved: Path, name: str, content: bytes | None
) -> None:
    if content is None:
        (saved / name).unlink()
    else:
        (saved / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=str(saved)):
        BehaviorTokenizer.load(saved)


def test_a_tokenizer_of_another_format_version_is_refused(saved: Path) -> None:
    change(saved, format_version=1)
    with pytest.raises(TokenizerError, match=f"version 1, this program reads {FORMAT_VERSION}"):
        BehaviorTokenizer.load(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"max_events": 5},
        {"max_events": None},
        {"max_events": "many"},
        {"products": ["chair", "стол", "table"]},
        {"products": None},
        {"brands": []},
        {"fingerprint": "0" * 64},
        {"fingerprint": None},
    ],
    ids=str,
)
def test_a_tokenizer_changed_by_hand_is_refused(saved: Path, values: dict[str, object]) -> None:
    change(saved, **values)
    with pytest.raises(TokenizerError, match=str(saved)):
        BehaviorTokenizer.load(saved)


def test_arrays_that_hold_objects_are_never_unpickled(saved: Path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(saved / "arrays.npz", centroids=objects, price_edges=objects, product_table=objects)
    with pytest.raises(TokenizerError, match="pickle"):
        BehaviorTokenizer.load(saved)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_noticed_or_harmless(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged", numbered=True)
    TOKENIZER.save(folder)
    path = folder / data.draw(st.sampled_from(["tokenizer.json", "arrays.npz"]))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = BehaviorTokenizer.load(folder)
    except TokenizerError:
        return
    assert loaded.fingerprint == TOKENIZER.fingerprint


def positions(words: list[str]) -> tuple[list[str], np.ndarray]:
    """Returns the different words, and where each stands among them."""
    different = sorted(set(words))
    return different, np.array([different.index(word) for word in words], np.int64)


@given(given_events=events)
def test_events_in_columns_are_the_events_one_by_one(given_events: list[Event]) -> None:
    in_order = sorted(given_events, key=lambda event: event.event_time)
    types, type_rows = positions([event.event_type for event in in_order])
    products, product_rows = positions([event.product_id for event in in_order])
    categories, category_rows = positions([event.category for event in in_order])
    queries, query_rows = positions([event.search_query for event in in_order])
    words = TOKENIZER.encode_words(
        types,
        products,
        categories,
        queries,
        unseen_products={"new": NEW_CONTENT},
        query_codes={"folding chair": np.array([1, 2, 3], dtype=np.int32)},
    )
    quantities = np.array([event.quantity for event in in_order], np.int32)
    columns = EventColumns(type_rows, product_rows, category_rows, query_rows, quantities)
    assert words.tokens(columns).tolist() == encode(in_order).tokens.tolist()
    # One event alone is what it is among others.
    alone = [encode([event]).tokens[0].tolist() for event in in_order]
    assert words.tokens(columns).tolist() == alone
