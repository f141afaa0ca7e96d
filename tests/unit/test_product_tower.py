"""Products start from their texts, whatever those tell."""

from __future__ import annotations

import pytest
import torch

from shopintent.trainer.product_tower import ProductTower
from support.learning import FIELD_SIZES, N_PRODUCTS, TEXT_SIZE

WIDTH = 4


def unfolded(texts: torch.Tensor) -> ProductTower:
    torch.manual_seed(0)
    tower = ProductTower(FIELD_SIZES, TEXT_SIZE, WIDTH, id_dropout=0.0)
    tower.unfold(texts, torch.zeros(3, FIELD_SIZES["code_1"] - 1, TEXT_SIZE))
    return tower


@pytest.mark.parametrize("n_texts", [0, 1, 2, N_PRODUCTS])
def test_products_whose_texts_are_alike_or_missing_keep_a_plain_start(n_texts: int) -> None:
    texts = torch.zeros(N_PRODUCTS, TEXT_SIZE)
    texts[:n_texts] = torch.nn.functional.normalize(torch.ones(TEXT_SIZE), dim=0)
    weight = unfolded(texts).text.weight
    assert weight.isfinite().all()
    assert weight.abs().max() < 10


def test_projected_texts_have_the_length_one_on_average() -> None:
    texts = torch.nn.functional.normalize(torch.randn(N_PRODUCTS, TEXT_SIZE), dim=1)
    tower = unfolded(texts)
    assert tower.project(texts).norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-4)
