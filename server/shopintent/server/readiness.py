"""What a release must prove before it takes traffic, on the very parts that would answer."""

from __future__ import annotations

import asyncio
import logging

from shopintent.artifacts import Manifest, ReleaseError, ReleasesRoot
from shopintent.artifacts.integrity import verify_release
from shopintent.artifacts.metrics import worse_than
from shopintent.server.errors import ReleaseNotReady, ShopIntentError
from shopintent.server.releases import Component
from shopintent.server.serving import ServingRelease

logger = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 120.0
"""For each model: Triton reads it, makes a session and warms it up."""


async def prove_ready(release: ServingRelease, root: ReleasesRoot) -> None:
    """Returns when an opened release may take traffic; raises ReleaseNotReady, saying why not.

    Its files are those that were published, Triton serves its models, all parts fit each other, and
    golden requests are answered as they were when it was trained.
    """
    release_id = release.release_id
    try:
        await asyncio.to_thread(verify_release, root, release_id)
        await load_models(release)
        await release.monitor.check()
        release.monitor.ensure_serving()
        for component in Component:
            release.monitor.ensure_up(component)
    except (ReleaseError, ShopIntentError) as error:
        raise ReleaseNotReady(release_id, str(error)) from error
    logger.info("release %s is proved", release_id)


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
