"""Search in cells: as good as comparing with everything, whatever was put and removed before."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from shopintent.server.index import cells
from shopintent.server.index.cells import Cells, Nearest

SIZE = 8


def around(n: int, *, n_groups: int, seed: int = 0) -> NDArray[np.float32]:
    """Returns embeddings [n, SIZE] of length 1 that lie in groups, as those of products do."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((n_groups, SIZE))
    vectors = centers[rng.integers(n_groups, size=n)] + 0.3 * rng.standard_normal((n, SIZE))
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32)


class Model:
    """What cells stand for: all embeddings by key, compared one by one."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[NDArray[np.float32], bool]] = {}

    def search(self, query: Nearest[int]) -> list[int]:
        passing = [
            (-float(embedding @ query.embedding), key)
            for key, (embedding, in_stock) in self.held.items()
            if key not in query.excluded and (in_stock or query.out_of_stock_included)
        ]
        return [key for _, key in sorted(passing)[: query.limit]]


def test_it_agrees_with_comparing_one_by_one_through_any_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cells, "LARGEST_CELL", 20)
    rng = np.random.default_rng(0)
    held, model = Cells[int](SIZE), Model()
    for step in range(60):
        keys = rng.integers(150, size=rng.integers(12)).tolist()
        if step % 4 == 3:
            held.remove(keys)
            for key in keys:
                model.held.pop(key, None)
        else:
            embeddings = around(len(keys), n_groups=5, seed=step)
            in_stock = (rng.random(len(keys)) < 0.7).tolist()
            held.put(keys, embeddings, in_stock)
            model.held.update(zip(keys, zip(embeddings, in_stock, strict=True), strict=True))
        query = Nearest(
            around(1, n_groups=5, seed=1000 + step)[0],
            limit=int(rng.integers(40)),
            excluded=rng.integers(150, size=10).tolist(),
            out_of_stock_included=bool(step % 2),
        )
        assert [key for key, _ in held.search(query)] == model.search(query)
        assert len(held) == len(model.held)
    assert len(held._cells) > 3  # Otherwise no cell was divided.


def test_a_score_is_the_dot_product() -> None:
    embeddings = around(50, n_groups=3)
    held = Cells[int](SIZE)
    held.put(range(50), embeddings, [True] * 50)
    query = around(1, n_groups=3, seed=5)[0]
    for key, score in held.search(Nearest(query, 50)):
        assert score == pytest.approx(float(embeddings[key] @ query), abs=1e-6)


def test_of_many_products_few_are_looked_at_and_nearly_all_of_the_nearest_found() -> None:
    n = 20_000
    embeddings = around(n, n_groups=100)
    held = Cells[int](SIZE)
    held.put(range(n), embeddings, [True] * n)
    hits = looked_at = 0
    for query in around(100, n_groups=100, seed=7):
        found = {key for key, _ in held.search(Nearest(query, 20))}
        hits += len(found & set(np.argsort(-(embeddings @ query))[:20].tolist()))
        looked_at += sum(len(cell.keys) for cell in held._near(Nearest(query, 20)))
    assert hits / (100 * 20) > 0.98
    assert looked_at / 100 < 0.2 * n


def test_as_many_are_found_as_are_wanted_where_there_are_so_many() -> None:
    n = 10_000
    held = Cells[int](SIZE)
    held.put(range(n), around(n, n_groups=100), [True] * n)
    assert len(held.search(Nearest(around(1, n_groups=100)[0], 400))) == 400


def test_products_that_are_all_the_same_do_no_harm() -> None:
    n = 3 * cells.LARGEST_CELL
    held = Cells[int](SIZE)
    held.put(range(n), np.repeat(around(1, n_groups=1), n, axis=0), [True] * n)
    held.put([n], around(1, n_groups=1), [True])
    assert len(held.search(Nearest(around(1, n_groups=1)[0], 7))) == 7
