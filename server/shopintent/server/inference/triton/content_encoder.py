"""The text encoder and the product tower in Triton."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shopintent.artifacts import signature as names
from shopintent.artifacts.signature import MAX_BATCH
from shopintent.server.errors import ModelUnavailable
from shopintent.server.inference.triton.calls import ModelCalls, infer

MAX_TEXTS = 16
"""Texts of one call to the text encoder: a search query waits behind no more than these."""


class TritonContentEncoder:
    """The text encoder and the product tower of a release, as a ContentEncoder.

    Texts are cut into word pieces here, at most `max_text_tokens` of them, and away from the
    event loop.
    """

    def __init__(
        self,
        calls: ModelCalls,
        *,
        text_encoder: str,
        product_encoder: str,
        text_tokenizer: Tokenizer,
        max_text_tokens: int,
        text_embedding_size: int,
        embedding_size: int,
    ) -> None:
        self._calls = calls
        self._text_encoder = text_encoder
        self._product_encoder = product_encoder
        self._word_pieces = text_tokenizer
        self._word_pieces.enable_truncation(max_text_tokens)
        self._word_pieces.enable_padding()
        self._text_embedding_size = text_embedding_size
        self._embedding_size = embedding_size

    async def encode_texts(self, texts: Sequence[str], *, timeout_s: float) -> NDArray[np.float32]:
        """Returns [N, E] embeddings; an empty text is all zeros and costs no call."""
        embeddings = np.zeros((len(texts), self._text_embedding_size), dtype=np.float32)
        rows = [row for row, text in enumerate(texts) if text]
        async with _Timeout(self._text_encoder, timeout_s):
            for start in range(0, len(rows), MAX_TEXTS):
                batch = rows[start : start + MAX_TEXTS]
                embeddings[batch] = await self._encode([texts[row] for row in batch], timeout_s)
        return embeddings

    async def encode_products(
        self,
        product_tokens: NDArray[np.int32],
        text_embeddings: NDArray[np.float32],
        *,
        timeout_s: float,
    ) -> NDArray[np.float32]:
        """Returns [N, D] product embeddings of [N, 7] tokens and [N, E] text embeddings."""
        sizes = {names.PRODUCT_EMBEDDING: self._embedding_size}
        embeddings = np.zeros((len(product_tokens), self._embedding_size), dtype=np.float32)
        async with _Timeout(self._product_encoder, timeout_s):
            for start in range(0, len(product_tokens), MAX_BATCH):
                rows = slice(start, start + MAX_BATCH)
                inputs: dict[str, NDArray[Any]] = {
                    names.PRODUCT_TOKENS: product_tokens[rows],
                    names.TEXT_EMBEDDING: text_embeddings[rows],
                }
                outputs = await infer(
                    self._calls, self._product_encoder, inputs, sizes, timeout_s=timeout_s
                )
                embeddings[rows] = outputs[names.PRODUCT_EMBEDDING]
        return embeddings

    async def _encode(self, texts: list[str], timeout_s: float) -> NDArray[np.float32]:
        encodings = await asyncio.to_thread(self._word_pieces.encode_batch, texts)
        inputs: dict[str, NDArray[Any]] = {
            names.INPUT_IDS: np.array([each.ids for each in encodings], dtype=np.int64),
            names.ATTENTION_MASK: np.array(
                [each.attention_mask for each in encodings], dtype=np.int64
            ),
        }
        sizes = {names.TEXT_EMBEDDING: self._text_embedding_size}
        outputs = await infer(self._calls, self._text_encoder, inputs, sizes, timeout_s=timeout_s)
        return outputs[names.TEXT_EMBEDDING]


class _Timeout:
    """Ends work of several calls after `timeout_s` seconds, as one ModelUnavailable."""

    def __init__(self, model_name: str, timeout_s: float) -> None:
        self._model_name = model_name
        self._timeout = asyncio.timeout(timeout_s)
        self._why = f"not within {timeout_s:.3f} s"

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        try:
            await self._timeout.__aexit__(*exc_info)
        except TimeoutError as error:
            raise ModelUnavailable(self._model_name, self._why) from error
