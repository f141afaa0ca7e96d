"""Which products are worth keeping: the best of all, and the best of each category.

So that a category that few care for has its own popular products too, in bounded memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import ReleaseFolder
from shopintent.artifacts.products import read_content, read_rows
from shopintent.behavior import Product
from shopintent.behavior.tokenizer import PRODUCT_FIELDS

CATEGORY = PRODUCT_FIELDS.index("category") - 1
"""Its column in the content of products, which begins behind the id."""

SHELVED = 10
"""Products held of a release for each that is held of all categories together."""


def best_rows(categories: NDArray[np.int64], *, overall: int, total: int) -> NDArray[np.int64]:
    """Returns which rows to keep, ascending, of rows [N] that are ordered best first.

    The first `overall` are kept, and then of every category the first, the second and so on, until
    there are `total`. Rows are told apart by the number of their category.
    """
    by_category = np.argsort(categories, kind="stable")
    ordered = categories[by_category]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(ordered)), 0))
    place = np.empty(len(ordered), dtype=np.int64)
    place[by_category] = np.arange(len(ordered)) - first
    place[:overall] = -1
    # The sort is stable, so of one place in their categories the better row comes first.
    return np.sort(np.argsort(place, kind="stable")[:total])


def read_shelf(folder: ReleaseFolder, *, overall: int, total: int) -> list[Product]:
    """Returns the most popular products of a release, and those of each category, in its order.

    Raises ReleaseError when its files cannot be read.
    """
    content = read_content(folder)
    categories = np.array(content[:, CATEGORY], dtype=np.int64)
    return read_rows(folder, best_rows(categories, overall=overall, total=total).tolist())
