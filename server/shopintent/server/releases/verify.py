"""The proof that the files of a release, the models in Triton and the index fit together."""

from __future__ import annotations

from shopintent.artifacts import signature
from shopintent.artifacts.signature import FINGERPRINT_PARAMETER, MAX_BATCH, Signature, Tensor
from shopintent.server.errors import IndexUnavailable, ModelUnavailable, ReleaseMismatch
from shopintent.server.index import ProductIndex
from shopintent.server.inference import ModelDescription, ModelRepository
from shopintent.server.releases.monitor import Check, Component
from shopintent.server.releases.release import Release


def release_checks(
    release: Release, repository: ModelRepository, index: ProductIndex, *, timeout_s: float
) -> dict[Component, Check]:
    """Returns what must hold before the release may answer, and be seen to hold ever after.

    A check raises ReleaseMismatch when parts do not fit, and ModelUnavailable or IndexUnavailable
    when it can not be told. A Triton that was started anew is given its models again.
    """

    async def describe(model_name: str) -> ModelDescription:
        await repository.load(model_name, timeout_s=timeout_s)
        return await repository.describe(model_name, timeout_s=timeout_s)

    async def check_intent_model() -> None:
        verify_files(release)
        description = await describe(release.intent_model)
        verify_intent_model(release, description)

    async def check_encoders() -> None:
        for model_name, expected in _encoder_signatures(release).items():
            description = await describe(model_name)
            verify_signature(release, model_name, description, expected)

    async def check_index() -> None:
        await verify_index(release, index, timeout_s=timeout_s)

    def model_unavailable(why: str) -> ModelUnavailable:
        return ModelUnavailable(release.intent_model, why)

    def encoder_unavailable(why: str) -> ModelUnavailable:
        return ModelUnavailable(release.text_encoder, why)

    def index_unavailable(why: str) -> IndexUnavailable:
        return IndexUnavailable(release.collection, why)

    return {
        Component.INTENT_MODEL: Check(check_intent_model, model_unavailable),
        Component.ENCODERS: Check(check_encoders, encoder_unavailable),
        Component.INDEX: Check(check_index, index_unavailable),
    }


def verify_files(release: Release) -> None:
    """Raises ReleaseMismatch unless the files of the release fit each other."""
    manifest, tokenizer = release.manifest, release.tokenizer
    if manifest.release_id != release.folder.path.name:
        why = f"it says {manifest.release_id!r} in the folder {release.folder.path.name!r}"
        raise ReleaseMismatch(release.release_id, "manifest", f"{why}; publish the release again")
    if manifest.behavior_fingerprint != tokenizer.fingerprint:
        raise ReleaseMismatch(
            release.release_id,
            "behavior_tokenizer",
            f"its fingerprint is {tokenizer.fingerprint[:12]}, the manifest names "
            f"{manifest.behavior_fingerprint[:12]}; publish the release again",
        )
    if manifest.text_embedding_size != tokenizer.codebook.embedding_size:
        raise ReleaseMismatch(
            release.release_id,
            "behavior_tokenizer",
            f"it codes texts of {tokenizer.codebook.embedding_size} dimensions, the manifest "
            f"names {manifest.text_embedding_size}; publish the release again",
        )
    unknown = sorted(set(manifest.answers) - set(signature.OPTIONAL_ANSWERS))
    if unknown:
        why = f"it names answers that this server does not know, {', '.join(unknown)}"
        raise ReleaseMismatch(release.release_id, "manifest", f"{why}; update the server")
    if not manifest.actions or not manifest.horizons_s:
        why = "it names no actions or no horizons; publish the release again"
        raise ReleaseMismatch(release.release_id, "manifest", why)


def verify_intent_model(release: Release, description: ModelDescription) -> None:
    """Raises ReleaseMismatch unless the model has our shapes and was trained on our tokens."""
    manifest = release.manifest
    expected = signature.intent_signature(
        n_actions=len(manifest.actions),
        n_horizons=len(manifest.horizons_s),
        embedding_size=manifest.embedding_size,
    )
    verify_signature(release, release.intent_model, description, expected)
    fingerprint = description.parameters.get(FINGERPRINT_PARAMETER, "")
    if fingerprint != release.tokenizer.fingerprint:
        raise ReleaseMismatch(
            release.release_id,
            release.intent_model,
            f"its {FINGERPRINT_PARAMETER} in Triton is {fingerprint[:12] or 'not set'}, the "
            f"release's tokenizer has {release.tokenizer.fingerprint[:12]}; load the model of this "
            "release into Triton",
        )


def verify_signature(
    release: Release, model_name: str, description: ModelDescription, expected: Signature
) -> None:
    """Raises ReleaseMismatch, naming the first tensor that differs or a batch that is too small."""
    if 0 < description.max_batch_size < MAX_BATCH:
        raise ReleaseMismatch(
            release.release_id,
            model_name,
            f"its max_batch_size in Triton is {description.max_batch_size}, it must be at least "
            f"{MAX_BATCH}; load the model of this release",
        )
    tensors = [
        *zip(["input"] * len(expected.inputs), expected.inputs, strict=True),
        *zip(["output"] * len(expected.outputs), expected.outputs, strict=True),
    ]
    served = {
        "input": {tensor.name: tensor for tensor in description.signature.inputs},
        "output": {tensor.name: tensor for tensor in description.signature.outputs},
    }
    for kind, tensor in tensors:
        found = served[kind].get(tensor.name)
        if found != tensor:
            raise ReleaseMismatch(
                release.release_id,
                model_name,
                f"{kind} {tensor.name} must be {_words(tensor)}, in Triton it is "
                f"{_words(found) if found else 'missing'}; load the model of this release",
            )


async def verify_index(release: Release, index: ProductIndex, *, timeout_s: float) -> None:
    """Raises ReleaseMismatch unless the collection has products of the release's dimensions.

    The number of products may differ from the manifest's: the catalog changes after publishing.
    """
    info = await index.describe(timeout_s=timeout_s)
    if info.n_products == 0:
        raise ReleaseMismatch(
            release.release_id,
            release.collection,
            "it has no products; run `shopintent-server load-index`",
        )
    if info.embedding_size != release.manifest.embedding_size:
        raise ReleaseMismatch(
            release.release_id,
            release.collection,
            f"its embeddings have {info.embedding_size} dimensions, the release's "
            f"{release.manifest.embedding_size}; delete the collection and run "
            "`shopintent-server load-index`",
        )


def _encoder_signatures(release: Release) -> dict[str, Signature]:
    text_size = release.manifest.text_embedding_size
    return {
        release.text_encoder: signature.text_encoder_signature(text_embedding_size=text_size),
        release.product_encoder: signature.product_encoder_signature(
            text_embedding_size=text_size, embedding_size=release.manifest.embedding_size
        ),
    }


def _words(tensor: Tensor) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}"
