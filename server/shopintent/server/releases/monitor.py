"""Whether the release may answer: checked before the first answer and every few seconds after.

- Never fully verified: nothing of the release answers, and the monitor keeps trying.
- A part does not fit (ReleaseMismatch): nothing of the release answers until it fits again.
- A part verified before does not respond: it is left out, so that answers are degraded at once
  instead of waiting for it, until it has been verified again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from shopintent.server.errors import ReleaseMismatch, ShopIntentError

logger = logging.getLogger(__name__)


class Component(StrEnum):
    """A part that is checked on its own."""

    INTENT_MODEL = "intent-model"
    ENCODERS = "encoders"
    INDEX = "index"


@dataclass(frozen=True)
class Check:
    """How one part is checked."""

    run: Callable[[], Awaitable[None]]
    """Raises ShopIntentError when the part must not be used."""
    unavailable: Callable[[str], ShopIntentError]
    """Makes the error of a part that could not be checked."""


class ReleaseMonitor:
    """Keeps what the last check of every part found."""

    def __init__(self, checks: Mapping[Component, Check]) -> None:
        self._checks = checks
        self._never_verified = set(checks)
        self._failures = {
            component: check.unavailable("it has not been checked yet")
            for component, check in checks.items()
        }

    @property
    def serving(self) -> bool:
        """Whether the release may answer, if need be without parts that do not respond."""
        return not self._never_verified and self._mismatch() is None

    @property
    def down(self) -> frozenset[Component]:
        """The parts not to be used now."""
        return frozenset(self._failures)

    def ensure_serving(self) -> None:
        """Raises what keeps the release from answering, if anything does."""
        mismatch = self._mismatch()
        if mismatch is not None:
            raise _again(mismatch)
        for component in self._checks:
            if component in self._never_verified:
                raise _again(self._failures[component])

    def ensure_up(self, component: Component) -> None:
        """Raises what keeps the part from being used, if anything does."""
        failure = self._failures.get(component)
        if failure is not None:
            raise _again(failure)

    async def check(self) -> None:
        """Checks every part once."""
        await asyncio.gather(*(self._check(component) for component in self._checks))

    def _mismatch(self) -> ShopIntentError | None:
        failures = self._failures.values()
        return next((each for each in failures if isinstance(each, ReleaseMismatch)), None)

    async def _check(self, component: Component) -> None:
        before = self._failures.get(component)
        check = self._checks[component]
        try:
            await check.run()
        except ShopIntentError as error:
            self._failures[component] = error
            if before is None or str(before) != str(error):
                logger.warning("%s can not be used: %s", component, error)
        except Exception as error:
            logger.exception("%s could not be checked", component)
            self._failures[component] = check.unavailable(f"its check failed: {error}")
        else:
            self._failures.pop(component, None)
            self._never_verified.discard(component)
            if before is not None:
                logger.info("%s is verified and in use", component)


def _again(error: ShopIntentError) -> ShopIntentError:
    """Returns the error without the traceback of the check that found it, which would grow."""
    return error.with_traceback(None)
