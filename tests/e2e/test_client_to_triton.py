"""The whole way: simulated log, training, real Triton, real index, real server, Python client."""

from __future__ import annotations

import subprocess
import sys
import uuid
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.demo.processes import clean_environment
from deploy.demo.stack import Stack
from shopintent.artifacts import Manifest, signature
from shopintent.behavior import Product as CatalogProduct
from shopintent.client import (
    AsyncShopIntentClient,
    InvalidRequestError,
    ProductNotFoundError,
    ShopIntentClient,
    events,
    money,
)
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import PRODUCT_VIEW_FULL, Product
from support.stack import World

EXAMPLES = Path(__file__).parents[2] / "clients" / "python" / "examples"
PATIENCE_S = 20.0


@pytest.fixture
def visitor() -> str:
    return f"visitor-{uuid.uuid4()}"


@pytest.fixture(scope="session")
def shop(world: World) -> list[CatalogProduct]:
    """The products in stock, in order of id."""
    return [product for product in world.dataset.products() if product.in_stock]


def product_ids(answer: pb.RecommendResponse) -> list[str]:
    return [each.product.id for each in answer.recommendations]


def probabilities(answer: pb.PredictIntentResponse) -> dict[str, float]:
    return {each.action: each.probability for each in answer.next_actions}


def test_a_cold_start_gets_probabilities_and_products(client: ShopIntentClient) -> None:
    intent = client.predict_intent(timeout_s=PATIENCE_S)
    recommended = client.recommend(page_size=5, timeout_s=PATIENCE_S)
    assert sum(probabilities(intent).values()) == pytest.approx(1.0, abs=1e-4)
    assert len(product_ids(recommended)) == 5
    assert not intent.degraded_reasons
    assert not recommended.degraded_reasons


def test_next_actions_sum_to_one_and_move_with_every_event(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    product = shop[0]
    visit = [
        events.search(product.title),
        events.view_category(product.categories[0]),
        events.view_product(product.product_id),
        events.add_to_cart(product.product_id),
    ]
    answers = [probabilities(client.predict_intent(visitor, timeout_s=PATIENCE_S))]
    for event in visit:
        client.track_events(visitor, [event], timeout_s=PATIENCE_S)
        answers.append(probabilities(client.predict_intent(visitor, timeout_s=PATIENCE_S)))
    for answer in answers:
        assert sum(answer.values()) == pytest.approx(1.0, abs=1e-4)
        assert list(answer.values()) == sorted(answer.values(), reverse=True)
    for before, after in pairwise(answers):
        assert max(abs(after[action] - before[action]) for action in after) > 1e-4


def test_horizons_ascend_and_a_longer_one_is_at_least_as_likely(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    cart = [events.add_to_cart(shop[0].product_id)]
    answer = client.predict_intent(visitor, cart, timeout_s=PATIENCE_S)
    horizons = [each.horizon.ToTimedelta() for each in answer.purchases]
    chances = [each.probability for each in answer.purchases]
    assert horizons == sorted(horizons)
    assert chances == sorted(chances)


async def test_both_clients_get_exactly_the_answers_that_the_release_gives(
    client: ShopIntentClient, stack: Stack, world: World, shop: list[CatalogProduct]
) -> None:
    release_id = world.releases.current()
    assert release_id is not None
    given = Manifest.load(world.releases.release(release_id).manifest).answers
    assert signature.VISIT_PURCHASE_PROBABILITY in given
    visit = [events.view_product(shop[0].product_id), events.purchase(shop[0].product_id, 3)]
    answers = [client.predict_intent(recent_events=visit, timeout_s=PATIENCE_S)]
    async with AsyncShopIntentClient(stack.address, insecure=True) as asynchronous:
        answers.append(await asynchronous.predict_intent("", visit, timeout_s=PATIENCE_S))
    fields = {
        signature.VISIT_PURCHASE_PROBABILITY: "visit_purchase_probability",
        signature.EXPECTED_TIME_TO_PURCHASE_S: "expected_time_to_purchase",
        signature.EXPECTED_QUANTITY: "expected_quantity",
    }
    for answer in answers:
        assert {name for name, field in fields.items() if answer.HasField(field)} == set(given)
        assert 0 <= answer.visit_purchase_probability <= 1
        if signature.EXPECTED_TIME_TO_PURCHASE_S in given:
            assert answer.expected_time_to_purchase.ToTimedelta() > timedelta(0)
        if signature.EXPECTED_QUANTITY in given:
            assert answer.expected_quantity >= 1


def test_tracked_and_recent_events_are_read_alike(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    visit = [events.view_product(product.product_id) for product in shop[:3]]
    recent = client.recommend(recent_events=visit, timeout_s=PATIENCE_S)
    client.track_events(visitor, visit, timeout_s=PATIENCE_S)
    tracked = client.recommend(visitor, timeout_s=PATIENCE_S)
    assert product_ids(tracked) == product_ids(recent)


def test_a_tracked_event_changes_the_very_next_recommendations(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    before = product_ids(client.recommend(visitor, timeout_s=PATIENCE_S))
    client.track_events(visitor, [events.view_product(before[0])], timeout_s=PATIENCE_S)
    after = product_ids(client.recommend(visitor, timeout_s=PATIENCE_S))
    assert after != before
    assert before[0] not in after


def test_a_repeated_event_counts_once(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    event = events.view_product(shop[0].product_id, event_id="once")
    first = client.track_events(visitor, [event], timeout_s=PATIENCE_S)
    again = client.track_events(visitor, [event], timeout_s=PATIENCE_S)
    assert (first.recorded_count, again.recorded_count) == (1, 0)


def test_recommendations_keep_to_the_filter(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    category = shop[0].categories[0].split(" > ")[0]
    excluded = shop[0].product_id
    low, high = 5.0, 500.0
    answer = client.recommend(
        visitor,
        page_size=100,
        product_filter=pb.ProductFilter(
            categories=[category],
            excluded_product_ids=[excluded],
            minimum_price=low,
            maximum_price=high,
        ),
        view=PRODUCT_VIEW_FULL,
        timeout_s=PATIENCE_S,
    )
    found = [each.product for each in answer.recommendations]
    assert found
    assert excluded not in [product.id for product in found]
    for product in found:
        assert any(f"{path} > ".startswith(f"{category} > ") for path in product.categories)
        assert Decimal(low) <= money.to_decimal(product.price) <= Decimal(high)


def test_a_new_product_is_recommendable_at_once_and_a_deleted_one_no_more(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    known = shop[0]
    new = Product(
        id=f"new-{uuid.uuid4()}",
        title=f"{known.title} second edition",
        description=known.description,
        brand=known.brand,
        categories=["Only for this test"],
        price=money.from_decimal("19.90", "EUR"),
    )
    wanted = pb.ProductFilter(categories=["Only for this test"])
    client.batch_update_products([new])
    stored = client.get_product(new.id, timeout_s=PATIENCE_S).product
    assert (stored.title, stored.price) == (new.title, new.price)
    visit = [events.view_product(known.product_id)]
    found = client.recommend(visitor, visit, product_filter=wanted, timeout_s=PATIENCE_S)
    assert product_ids(found) == [new.id]
    client.delete_product(new.id, timeout_s=PATIENCE_S)
    gone = client.recommend(visitor, visit, product_filter=wanted, timeout_s=PATIENCE_S)
    assert product_ids(gone) == []
    with pytest.raises(ProductNotFoundError):
        client.get_product(new.id, timeout_s=PATIENCE_S)


def test_a_new_product_is_placed_by_its_content(
    client: ShopIntentClient, visitor: str, shop: list[CatalogProduct]
) -> None:
    """A twin of the product just viewed comes before the median of its category."""
    known = client.get_product(shop[0].product_id, timeout_s=PATIENCE_S).product
    twin = Product()
    twin.CopyFrom(known)
    twin.id = f"twin-{uuid.uuid4()}"
    client.batch_update_products([twin])
    try:
        answer = client.recommend(
            visitor,
            [events.view_product(known.id)] * 3,
            page_size=100,
            product_filter=pb.ProductFilter(categories=[known.categories[0].split(" > ")[0]]),
            timeout_s=PATIENCE_S,
        )
        found = product_ids(answer)
        assert found.index(twin.id) < len(found) / 2
    finally:
        client.delete_product(twin.id, timeout_s=PATIENCE_S)


def test_a_bad_request_names_every_bad_field(client: ShopIntentClient) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        client.recommend(page_size=-1, placement="Not Kebab", timeout_s=PATIENCE_S)
    fields = {violation.field for violation in raised.value.violations}
    assert fields == {"page_size", "placement"}
    assert raised.value.reason == "ERROR_REASON_INVALID_REQUEST"
    assert raised.value.request_id


async def test_the_asyncio_client_gets_the_same_answers(
    stack: Stack, client: ShopIntentClient, shop: list[CatalogProduct]
) -> None:
    visit = [events.view_product(shop[0].product_id)]
    async with AsyncShopIntentClient(stack.address, insecure=True) as other:
        answer = await other.recommend(recent_events=visit, timeout_s=PATIENCE_S)
    expected = client.recommend(recent_events=visit, timeout_s=PATIENCE_S)
    assert product_ids(answer) == product_ids(expected)
    assert answer.model == expected.model


def test_an_answer_names_the_release_and_the_model(client: ShopIntentClient, world: World) -> None:
    release_id = world.releases.current()
    answer = client.predict_intent(timeout_s=PATIENCE_S)
    assert answer.model.release_id == release_id
    assert answer.model.model_name == f"intent_{release_id}"
    assert answer.model.model_version == "1"
    assert answer.attribution_token


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("predict_intent.py", "next action"),
        ("recommend.py", "1. "),
        ("track.py", "recorded 2 events"),
        ("live.py", "next to show: "),
    ],
)
def test_the_examples_run(
    stack: Stack, visitor: str, shop: list[CatalogProduct], example: str, expected: str
) -> None:
    product = [shop[0].product_id] if example == "track.py" else []
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), stack.address, visitor, *product],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
