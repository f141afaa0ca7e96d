from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from shopintent.behavior.codebook import LEVELS, ContentCodebook

K, E = 5, 4
# Small whole numbers, so that float32 is exact and no two sums differ by rounding.
whole = st.integers(-8, 8).map(float)
centroids = arrays(np.float32, (LEVELS, K, E), elements=whole)
embeddings = arrays(np.float32, st.tuples(st.integers(0, 6), st.just(E)), elements=whole)


def encode_by_definition(codebook: ContentCodebook, embedding: NDArray[np.float32]) -> list[int]:
    """Returns the codes of one embedding, level by level, by looking at every centroid."""
    if not embedding.any():
        return [0] * LEVELS
    codes, residual = [], embedding
    for level in codebook.centroids:
        distances = [float(((residual - centroid) ** 2).sum()) for centroid in level]
        nearest = distances.index(min(distances))
        codes.append(nearest + 1)
        residual = residual - level[nearest]
    return codes


@given(centroids=centroids, embeddings=embeddings)
def test_each_level_codes_what_the_levels_before_left_over(
    centroids: NDArray[np.float32], embeddings: NDArray[np.float32]
) -> None:
    codebook = ContentCodebook(centroids)
    codes = codebook.encode(embeddings)
    assert codes.shape == (len(embeddings), LEVELS)
    assert codes.tolist() == [encode_by_definition(codebook, each) for each in embeddings]


@given(centroids=centroids, embeddings=embeddings)
def test_codes_do_not_depend_on_the_company_they_are_computed_in(
    centroids: NDArray[np.float32], embeddings: NDArray[np.float32]
) -> None:
    codebook = ContentCodebook(centroids)
    alone = [codebook.encode(each[None])[0].tolist() for each in embeddings]
    assert codebook.encode(embeddings).tolist() == alone


def test_no_text_has_codes_of_its_own() -> None:
    codebook = ContentCodebook(np.zeros((LEVELS, K, E), dtype=np.float32))
    embeddings = np.array([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float32)
    assert codebook.encode(embeddings).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_sizes_are_those_of_the_centroids() -> None:
    codebook = ContentCodebook(np.zeros((LEVELS, K, E), dtype=np.float32))
    assert (codebook.size, codebook.embedding_size) == (K + 1, E)


def test_what_it_is_given_is_left_as_it_is() -> None:
    codebook = ContentCodebook(np.ones((LEVELS, K, E), dtype=np.float32))
    embeddings = np.full((2, E), 3.0, dtype=np.float32)
    codebook.encode(embeddings)
    assert embeddings.tolist() == [[3.0] * E] * 2


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_embeddings_of_other_precisions_have_the_same_codes(dtype: type) -> None:
    rng = np.random.default_rng(0)
    codebook = ContentCodebook(rng.integers(-4, 5, (LEVELS, K, E)).astype(np.float32))
    embeddings = rng.integers(-4, 5, (20, E)).astype(np.float32)
    np.testing.assert_array_equal(
        codebook.encode(embeddings.astype(dtype)), codebook.encode(embeddings)
    )
