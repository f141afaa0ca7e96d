"""What a release must prove before it takes traffic, on the very parts that would answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import Manifest, ReleaseError, signature
from shopintent.artifacts.golden import Answers, Golden, mismatches, read_golden
from shopintent.artifacts.metrics import worse_than
from shopintent.server.errors import ModelUnavailable, ReleaseNotReady, ShopIntentError
from shopintent.server.inference import Prediction
from shopintent.server.releases import Component
from shopintent.server.serving import ServingRelease

logger = logging.getLogger(__name__)

GOLDEN_TIMEOUT_S = 10.0
"""For each golden request, asked beside the live ones."""
SEARCH_TIMEOUT_S = 5.0
OPTIMIZE_TIMEOUT_S, OPTIMIZE_POLL_S = 600.0, 0.2
RECALL_K = 50
LEAST_RECALL = 0.98
"""Of recall@50 against an exact search."""
LOAD_TIMEOUT_S = 120.0
"""For each model: Triton reads it, makes a session and warms it up."""
TRIES, RETRY_S = 3, 0.5
"""Of a proof that Triton did not answer."""


async def prove_ready(release: ServingRelease) -> None:
    """Returns when an opened release may take traffic; raises ReleaseNotReady, saying why not.

    Triton serves its models, all parts fit each other, golden requests are answered as they were
    when it was published, and the index finds what is near. That its files are those that were
    published was verified when it was opened.
    """
    release_id = release.release_id
    try:
        await _prove(release)
    except ReleaseNotReady:
        raise
    except (ReleaseError, ShopIntentError) as error:
        raise ReleaseNotReady(release_id, str(error)) from error
    except TimeoutError as error:
        why = f"its product index was not optimized within {OPTIMIZE_TIMEOUT_S:g} s"
        raise ReleaseNotReady(release_id, why) from error
    logger.info("release %s is proved", release_id)


async def _prove(release: ServingRelease) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            await load_models(release)
            await release.monitor.check()
            release.monitor.ensure_serving()
            for component in Component:
                release.monitor.ensure_up(component)
            await check_search(release, await answer_golden(release))
            return
        except ModelUnavailable:
            # A server that was done with the release may have unloaded its models meanwhile.
            if not tries_left:
                raise
            await asyncio.sleep(RETRY_S)


async def answer_golden(release: ServingRelease) -> NDArray[np.float32]:
    """Raises ReleaseNotReady unless Triton answers golden requests as the release did.

    They go the way of every request, and so warm it up. Returns their behavior embeddings [N, D].
    """
    golden = await asyncio.to_thread(read_golden, release.release.folder.golden)
    if golden.behavior_fingerprint != release.release.tokenizer.fingerprint:
        raise ReleaseNotReady(release.release_id, "its golden requests are of another tokenizer")
    wrong = [
        *_wrong_intents(golden, await _predict(release, golden)),
        *await _wrong_contents(golden, release),
    ]
    if wrong:
        raise ReleaseNotReady(release.release_id, f"golden requests: {'; '.join(wrong)}")
    return golden.intent[signature.BEHAVIOR_EMBEDDING]


async def _predict(release: ServingRelease, golden: Golden) -> Sequence[Prediction]:
    asked = zip(golden.behaviors, golden.request_times.tolist(), strict=True)
    return await asyncio.gather(
        *(
            release.backends.model.predict(
                behavior, request_time=request_time, timeout_s=GOLDEN_TIMEOUT_S
            )
            for behavior, request_time in asked
        )
    )


def _wrong_intents(golden: Golden, predictions: Sequence[Prediction]) -> list[str]:
    optional = predictions[0].optional_answers if predictions else {}
    answers: Answers = {
        signature.NEXT_ACTION_PROBABILITIES: np.stack([p.next_actions for p in predictions]),
        signature.PURCHASE_PROBABILITIES: np.stack([p.purchases for p in predictions]),
        signature.BEHAVIOR_EMBEDDING: np.stack([p.behavior_embedding for p in predictions]),
        **{
            name: np.array([[p.optional_answers[name]] for p in predictions], dtype=np.float32)
            for name in optional
        },
    }
    # What the release does not answer is not asked of Triton either.
    expected = {name: wanted for name, wanted in golden.intent.items() if name in answers}
    return mismatches(expected, answers, golden.tolerances)


async def _wrong_contents(golden: Golden, release: ServingRelease) -> list[str]:
    encoder = release.backends.encoder
    texts = await encoder.encode_texts(golden.texts, timeout_s=GOLDEN_TIMEOUT_S)
    products = await encoder.encode_products(
        golden.product_tokens, golden.product_texts, timeout_s=GOLDEN_TIMEOUT_S
    )
    return [
        *mismatches(golden.text_answers, {signature.TEXT_EMBEDDING: texts}, golden.tolerances),
        *mismatches(
            golden.product_answers, {signature.PRODUCT_EMBEDDING: products}, golden.tolerances
        ),
    ]


async def check_search(release: ServingRelease, behaviors: NDArray[np.float32]) -> None:
    """Raises ReleaseNotReady unless the collection is optimized and finds what is near behaviors.

    Behaviors [N, D] and not products are asked about: they lie elsewhere, and a graph that finds a
    product's neighbors may miss theirs. While optimizers work, queries are slow.
    """
    index = release.backends.index
    async with asyncio.timeout(OPTIMIZE_TIMEOUT_S):
        # The optimizers tell nobody when they are done.
        while not await index.is_optimized(timeout_s=SEARCH_TIMEOUT_S):  # noqa: ASYNC110
            await asyncio.sleep(OPTIMIZE_POLL_S)
    recall = await index.recall(behaviors, k=RECALL_K, timeout_s=SEARCH_TIMEOUT_S)
    if recall < LEAST_RECALL:
        raise ReleaseNotReady(
            release.release_id,
            f"the product index finds {recall:.1%} of the nearest products, it must be at least "
            f"{LEAST_RECALL:.0%}; delete the collection and load it again",
        )


async def load_models(release: ServingRelease) -> None:
    """Has Triton serve every model of a release. Raises ModelUnavailable."""
    for model_name in release.release.models:
        await release.backends.repository.load(model_name, timeout_s=LOAD_TIMEOUT_S)


def metrics_objection(candidate: Manifest, serving: Manifest) -> str | None:
    """Returns in what a release measured worse than the serving one beyond the margins, if in any.

    A release that was not evaluated cannot be compared, which is an objection too.
    """
    if serving.metrics and not candidate.metrics:
        return "it was published without being evaluated, and the serving release was not"
    return "; ".join(worse_than(candidate.metrics, serving.metrics)) or None
