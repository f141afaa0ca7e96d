"""What a release proves before it takes traffic, on fakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopintent.artifacts import signature
from shopintent.artifacts.golden import Golden, write_golden
from shopintent.behavior.tokenizer import EMPTY_BEHAVIOR
from shopintent.server import readiness
from shopintent.server.errors import ModelUnavailable, ReleaseNotReady
from shopintent.server.inference import ModelDescription
from shopintent.server.readiness import prove_ready
from support.server import (
    TEXT_SIZE,
    Outside,
    config_of,
    make_outside,
    open_release,
    text_embeddings,
)

REQUEST_TIME = 1_760_000_000


@pytest.fixture
async def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    """Fakes, and golden requests that they answered."""
    monkeypatch.setattr(readiness, "RETRY_S", 0.0)
    outside = make_outside(tmp_path)
    prediction = await outside.model.predict(
        EMPTY_BEHAVIOR, request_time=REQUEST_TIME, timeout_s=1.0
    )
    product_tokens = np.ones((1, 7), np.int32)
    product_texts = np.zeros((1, TEXT_SIZE), np.float32)
    golden = Golden(
        behavior_fingerprint=outside.release.tokenizer.fingerprint,
        behaviors=(EMPTY_BEHAVIOR,),
        request_times=np.array([REQUEST_TIME], np.int64),
        intent={
            signature.PURCHASE_PROBABILITIES: prediction.purchases[None],
            signature.BEHAVIOR_EMBEDDING: prediction.behavior_embedding[None],
        },
        texts=("a red chair",),
        text_embeddings=text_embeddings(["a red chair"]),
        product_tokens=product_tokens,
        product_texts=product_texts,
        product_embeddings=await outside.encoder.encode_products(
            product_tokens, product_texts, timeout_s=1.0
        ),
        tolerances={
            signature.PURCHASE_PROBABILITIES: 1e-3,
            signature.BEHAVIOR_EMBEDDING: 1e-3,
            signature.TEXT_EMBEDDING: 1e-3,
            signature.PRODUCT_EMBEDDING: 1e-3,
        },
    )
    write_golden(outside.release.folder.golden, golden)
    return outside


async def test_a_release_that_answers_golden_requests_as_published_is_ready(
    outside: Outside,
) -> None:
    await prove_ready(open_release(config_of(), outside))
    outside.index.measured_recall = 0.5
    with pytest.raises(ReleaseNotReady, match=r"finds 50\.0%"):
        await prove_ready(open_release(config_of(), outside))


async def test_models_that_another_server_unloads_meanwhile_are_loaded_again(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, encoder = outside.repository, outside.release.product_encoder
    describe = repository.describe
    tries: list[str] = []
    loaded: list[str] = []

    async def unloaded_meanwhile(model_name: str, *, timeout_s: float) -> ModelDescription:
        if model_name == encoder:
            tries.append(model_name)
            if len(tries) < readiness.TRIES:
                raise ModelUnavailable(model_name, "NOT_FOUND: it has no available versions")
        return await describe(model_name, timeout_s=timeout_s)

    async def load(model_name: str, *, timeout_s: float) -> None:
        loaded.append(model_name)

    monkeypatch.setattr(repository, "describe", unloaded_meanwhile)
    monkeypatch.setattr(repository, "load", load)
    await prove_ready(open_release(config_of(), outside))
    assert len(tries) == readiness.TRIES
    # By the proof and by the check of the part, each time.
    assert loaded.count(encoder) == 2 * readiness.TRIES


async def test_a_release_whose_models_stay_away_is_not_ready(outside: Outside) -> None:
    outside.repository.models.pop(outside.release.product_encoder)
    with pytest.raises(ReleaseNotReady, match="product_encoder_r1 did not answer: it is not"):
        await prove_ready(open_release(config_of(), outside))
