"""PredictIntent: what a visitor means to do next, from the intent model alone."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from shopintent.artifacts import signature
from shopintent.server.deadlines import Deadline
from shopintent.server.hydrate import Degraded, HydratedBehavior, Hydrator
from shopintent.server.inference import BehaviorModel
from shopintent.server.metrics import Metrics
from shopintent.server.releases import Component, Release, ReleaseMonitor
from shopintent.server.sessions import History

HYDRATE_SHARE = 0.3
"""Of the time left, what looking up unseen products and queries may take."""


@dataclass(frozen=True)
class PredictedIntent:
    """What the model says, in the order of its columns."""

    next_actions: tuple[tuple[str, float], ...]
    """Actions and their probabilities, in the order of Manifest.actions."""
    purchases: tuple[tuple[int, float], ...]
    """Horizons in seconds, ascending, and the probability of a purchase within each."""
    visit_purchase: float | None
    """The probability of a purchase later in this visit; this and the next two are None where the
    release does not predict them."""
    expected_time_to_purchase_s: float | None
    """Given that there is a purchase."""
    expected_quantity: float | None
    """Units of the next order, given that there is one."""
    model_version: str
    degraded: frozenset[Degraded]


@dataclass(frozen=True, eq=False)
class IntentPredictor:
    """Predicts intent with one release."""

    release: Release
    model: BehaviorModel
    hydrator: Hydrator
    monitor: ReleaseMonitor
    metrics: Metrics = field(default_factory=Metrics)

    async def predict(self, history: History, *, deadline: Deadline) -> PredictedIntent:
        """Returns the intent behind a history.

        Raises ModelUnavailable, ReleaseMismatch or Overloaded.
        """
        self.monitor.ensure_serving()
        self.monitor.ensure_up(Component.INTENT_MODEL)
        laps = self.metrics.laps()
        hydrated = await self.hydrator.hydrate(history, timeout_s=deadline.share_s(HYDRATE_SHARE))
        laps.ended("tokens")
        prediction = await self.model.predict(
            hydrated.behavior,
            request_time=request_time(hydrated),
            timeout_s=deadline.share_s(),
        )
        laps.ended("model")
        manifest = self.release.manifest
        given = {name: prediction.optional_answers[name] for name in manifest.answers}
        return PredictedIntent(
            next_actions=tuple(
                zip(manifest.actions, prediction.next_actions.tolist(), strict=True)
            ),
            purchases=tuple(zip(manifest.horizons_s, prediction.purchases.tolist(), strict=True)),
            visit_purchase=given.get(signature.VISIT_PURCHASE_PROBABILITY),
            expected_time_to_purchase_s=given.get(signature.EXPECTED_TIME_TO_PURCHASE_S),
            expected_quantity=given.get(signature.EXPECTED_QUANTITY),
            model_version=prediction.model_version,
            degraded=hydrated.degraded,
        )


def request_time(hydrated: HydratedBehavior) -> int:
    """Returns now in unix seconds; never before the newest event, whose clock may be ahead."""
    return max(int(time.time()), hydrated.newest_event_time)
