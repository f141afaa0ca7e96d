"""What a product is: its text at first, its own vector with time, and its text again when new."""

from __future__ import annotations

import pytest
import torch

from shopintent.behavior.vocabulary import FIRST, UNKNOWN
from shopintent.trainer.product_tower import ProductTower
from support.learning import FIELD_SIZES, N_PRODUCTS, TEXT_SIZE, content

WIDTH = 4


@pytest.fixture
def texts() -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(N_PRODUCTS, TEXT_SIZE, generator=torch.Generator().manual_seed(1)), dim=1
    )


@pytest.fixture
def tower(texts: torch.Tensor) -> ProductTower:
    torch.manual_seed(0)
    made = ProductTower(FIELD_SIZES, TEXT_SIZE, WIDTH, id_dropout=0.5)
    centroids = torch.randn(3, FIELD_SIZES["code_1"] - 1, TEXT_SIZE)
    made.unfold(texts, centroids)
    return made


def known() -> torch.Tensor:
    return torch.tensor(content())


def test_products_start_where_their_texts_are(tower: ProductTower, texts: torch.Tensor) -> None:
    with torch.no_grad():
        for field in (tower.own, *tower.fields):
            field.weight.zero_()
        described = tower.eval().describe(known())
    centered = texts - texts.mean(0)
    directions = torch.linalg.svd(centered).Vh[:WIDTH]
    assert described.norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(
        torch.nn.functional.cosine_similarity(described, described[:1]),
        torch.nn.functional.cosine_similarity(
            centered @ directions.T, (centered @ directions.T)[:1]
        ),
        atol=1e-5,
    )


def test_folding_texts_in_changes_no_answer(tower: ProductTower, texts: torch.Tensor) -> None:
    tower.eval()
    with torch.no_grad():
        before = tower.describe(known()), tower(known(), texts)
        tower.fold()
        tower.fold()
        after = tower.describe(known()), tower(known(), texts)
    for mine, other in zip(before, after, strict=True):
        assert torch.allclose(mine, other, atol=1e-6)
    assert not any("known_texts" in name for name in tower.state_dict())


def test_an_event_and_the_index_agree_on_a_known_product(
    tower: ProductTower, texts: torch.Tensor
) -> None:
    tower.eval().fold()
    with torch.no_grad():
        assert torch.allclose(tower.describe(known()), tower.describe(known(), texts))


def test_a_new_product_is_its_text_and_another_text_another_product(
    tower: ProductTower, texts: torch.Tensor
) -> None:
    tower.eval().fold()
    new = known()[:2].clone()
    new[:, 0] = UNKNOWN
    new[1] = new[0]
    with torch.no_grad():
        first, second = tower(new, texts[:2])
        by_codes = tower.describe(new)
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.allclose(by_codes[0], by_codes[1])


def test_strangers_are_their_text_like_any_unknown_product(tower: ProductTower) -> None:
    tower.eval().fold()
    unknown, stranger = known()[:1].clone(), known()[:1].clone()
    unknown[:, 0], stranger[:, 0] = UNKNOWN, -123_456
    with torch.no_grad():
        assert torch.equal(tower.describe(unknown), tower.describe(stranger))


def test_what_has_neither_id_nor_text_is_nothing(tower: ProductTower) -> None:
    none = torch.zeros(1, 7, dtype=torch.int64)
    with torch.no_grad():
        assert not tower.eval().describe(none).any()
        assert not tower.describe(none, torch.zeros(1, TEXT_SIZE)).any()


def test_in_training_ids_are_hidden_and_texts_must_tell(tower: ProductTower) -> None:
    tokens = known()[:1].repeat(400, 1)
    tower.train()
    torch.manual_seed(0)
    with torch.no_grad():
        described = tower.describe(tokens)
        tower.eval()
        shown, hidden = tower.describe(tokens[:1]), tokens[:1].clone()
        hidden[:, 0] = UNKNOWN
        unknown = tower.describe(hidden)
    as_shown = torch.isclose(described, shown, atol=1e-5).all(1)
    as_hidden = torch.isclose(described, unknown, atol=1e-5).all(1)
    assert bool((as_shown ^ as_hidden).all())
    assert as_hidden.float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_products_without_any_text_are_told_apart_by_id() -> None:
    torch.manual_seed(0)
    tower = ProductTower(FIELD_SIZES, TEXT_SIZE, WIDTH, id_dropout=0.0)
    tower.unfold(torch.zeros(N_PRODUCTS, TEXT_SIZE), torch.zeros(3, 4, TEXT_SIZE))
    with torch.no_grad():
        described = tower.eval().describe(known())
    assert len(torch.unique(described, dim=0)) == N_PRODUCTS
    assert FIELD_SIZES["product"] == FIRST + N_PRODUCTS
