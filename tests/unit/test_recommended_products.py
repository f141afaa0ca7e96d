"""A page put together from bytes is the page that messages would make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shopintent.server.ranking import RankedProduct, Source
from shopintent.server.services import convert
from shopintent.server.services.products import RecommendedProducts
from shopintent.server.wire import varint
from shopintent.v1 import recommendation_service_pb2 as pb
from shopintent.v1.product_pb2 import (
    PRODUCT_VIEW_FULL,
    PRODUCT_VIEW_ID,
    PRODUCT_VIEW_UNSPECIFIED,
)
from support import shop

SOURCES = {
    Source.PERSONALIZED: pb.RECOMMENDATION_SOURCE_PERSONALIZED,
    Source.POPULAR: pb.RECOMMENDATION_SOURCE_POPULAR,
    Source.TRENDING: pb.RECOMMENDATION_SOURCE_TRENDING,
}
LONG = replace(shop.products(1)[0], description="ü" * 40_000)
RANKED = [
    RankedProduct(each, 0.5 - row / 64, list(Source)[row % len(Source)])
    for row, each in enumerate([*shop.products(), LONG])
]


def page(
    recommended: RecommendedProducts,
    ranked: list[RankedProduct],
    view: int = PRODUCT_VIEW_FULL,
) -> pb.RecommendResponse:
    response = pb.RecommendResponse(attribution_token="t")
    recommended.add_to(response, ranked, view)
    return response


def expected(
    ranked: list[RankedProduct],
    view: int = PRODUCT_VIEW_FULL,
) -> pb.RecommendResponse:
    return pb.RecommendResponse(
        attribution_token="t",
        recommendations=[
            pb.Recommendation(
                product=convert.product_to_proto(each.product, view),
                score=each.score,
                source=SOURCES[each.source],
            )
            for each in ranked
        ],
    )


@pytest.mark.parametrize("view", [PRODUCT_VIEW_UNSPECIFIED, PRODUCT_VIEW_ID, PRODUCT_VIEW_FULL])
@pytest.mark.parametrize("n_products", [0, 1, len(RANKED)])
def test_a_page_is_the_same_whether_its_products_were_shown_before_or_not(
    view: int, n_products: int
) -> None:
    recommended, ranked = RecommendedProducts(), RANKED[:n_products]
    for _ in range(2):
        assert page(recommended, ranked, view) == expected(ranked, view)


def test_a_product_that_was_written_is_shown_as_it_is_now() -> None:
    recommended, before = RecommendedProducts(), RANKED[1]
    page(recommended, [before])
    after = RankedProduct(replace(before.product, title="Renamed"), 0.25)
    assert page(recommended, [after]) == expected([after])
    assert page(recommended, [before]) == expected([before])


def test_views_do_not_mix() -> None:
    recommended = RecommendedProducts()
    for view in (PRODUCT_VIEW_FULL, PRODUCT_VIEW_ID, PRODUCT_VIEW_FULL):
        assert page(recommended, RANKED, view) == expected(RANKED, view)


def test_more_products_than_are_kept_are_shown_all_the_same() -> None:
    recommended = RecommendedProducts(max_products=7)
    for _ in range(3):
        assert page(recommended, RANKED) == expected(RANKED)


@pytest.mark.parametrize(
    ("number", "written"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\1"), (300, b"\xac\2")]
)
def test_numbers_are_written_as_protobuf_does(number: int, written: bytes) -> None:
    assert varint(number) == written
