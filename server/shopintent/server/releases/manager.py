"""Shifts traffic between releases: every change is checked first and audited after.

A change is one replacement of routing.json; servers pick it up by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from shopintent.artifacts import Manifest, ReleaseError, ReleasesRoot
from shopintent.artifacts.metrics import MARGINS, MetricRow
from shopintent.artifacts.routing import (
    Change,
    Routing,
    RoutingChange,
    Share,
    changing_routing,
    promoted,
    read_routing,
)
from shopintent.server.errors import ReleaseInUse, ReleaseNotFound, ReleaseNotReady


@dataclass(frozen=True)
class Reason:
    """Who asks for a change, and why."""

    who: str
    why: str
    forced: bool = False
    """Whether to go on when the release's metrics speak against it; it is audited."""


@dataclass(frozen=True)
class ReleaseStatus:
    """A release and the part it plays."""

    manifest: Manifest
    roles: tuple[str, ...]
    """serving, canary, shadow, previous; empty for one that takes no part."""

    @property
    def deciding_metrics(self) -> tuple[MetricRow, ...]:
        """Those that decide on it: with a gate, or compared before it takes traffic."""
        rows = self.manifest.metrics
        return tuple(row for row in rows if row.gate is not None or row.metric in MARGINS)


@dataclass(frozen=True, eq=False)
class ReleaseManager:
    """The releases of one root."""

    root: ReleasesRoot
    prove: Callable[[str], Awaitable[None]]
    """Raises ReleaseNotReady, saying why, unless the release may take traffic here."""
    objection: Callable[[Manifest, Manifest], str | None]
    """Returns why the metrics of the first are too much worse than those of the second."""
    remove: Callable[[str], Awaitable[None]]
    """Frees what a release holds outside its folders: models in Triton, collections."""
    changing: Callable[[Path], AbstractContextManager[RoutingChange]] = changing_routing
    """Holds the routing while it is changed."""
    bring: Callable[[str], None] | None = None
    """Brings a release into the root that is not there, where it may be elsewhere. Raises
    ReleaseError."""

    def list(self) -> list[ReleaseStatus]:
        """Returns every complete release, in order of id."""
        return [self.status(release_id) for release_id in self.root.release_ids()]

    def status(self, release_id: str) -> ReleaseStatus:
        """Returns one release. Raises ReleaseNotFound and ReleaseError."""
        manifest = self._manifest(release_id)
        return ReleaseStatus(manifest, roles(read_routing(self.root.path), release_id))

    async def verify(self, release_id: str) -> None:
        """Raises ReleaseNotReady, saying why, unless the release may take traffic."""
        await self._brought(release_id)
        await self.prove(release_id)

    async def shadow(self, release_id: str, percent: float, reason: Reason) -> Routing:
        """Has a release asked what a share of the shoppers ask, answering nobody."""
        await self.verify(release_id)
        share = Share(release_id, percent)
        return await self._change(
            "shadow", release_id, reason, lambda now: replace(_routed(now), shadow=share)
        )

    async def canary(self, release_id: str, percent: float, reason: Reason) -> Routing:
        """Has a release answer a share of the shoppers."""
        await self._check(release_id, reason)
        share = Share(release_id, percent)
        return await self._change(
            "canary", release_id, reason, lambda now: replace(_routed(now), canary=share)
        )

    async def promote(self, release_id: str, reason: Reason) -> Routing:
        """Has a release answer everybody; the one before is kept ready to roll back to."""
        await self._check(release_id, reason)
        return await self._change(
            "promote", release_id, reason, lambda now: promoted(now, release_id)
        )

    def rollback(self, reason: Reason, release_id: str = "") -> Routing:
        """Takes a release out of the routing: ends it as canary or shadow, or has the previous one
        answer in its place. Nothing changes when it plays none of these parts any more.

        Without an id it is the canary, with the shadow beside it, or else the serving release. It
        asks nothing else, so that it works when everything else does not.
        """
        with self.changing(self.root.path) as held:
            now = _routed(held.routing)
            if now.canary is not None and not release_id:
                about, after = now.canary.release_id, replace(now, canary=None, shadow=None)
            else:
                about = release_id or now.serving
                after = _without(now, about)
            if after == now:
                self._manifest(about)
                return now
            change = Change("rollback", about, reason.who, reason.why, reason.forced)
            return held.write(after, change)

    def end_canary(self, generation: int, reason: Reason) -> bool:
        """Ends the canary of one generation of the routing; returns False if that is over.

        Several servers may see the same canary fail: one of them ends it.
        """
        with self.changing(self.root.path) as held:
            now = held.routing
            if now is None or now.canary is None or now.generation != generation:
                return False
            change = Change("rollback", now.canary.release_id, reason.who, reason.why)
            held.write(replace(now, canary=None), change)
            return True

    async def delete(self, release_id: str, reason: Reason) -> None:
        """Deletes a release and frees what it holds; goes on where a crash ended it before.

        Raises ReleaseInUse when it is routed to.
        """
        if not self.root.release(release_id).path.exists():
            raise ReleaseNotFound(release_id, self.root.release_ids())
        with self.changing(self.root.path) as held:
            parts = roles(held.routing, release_id)
            if parts:
                raise ReleaseInUse(release_id, parts)
            if held.routing is not None:
                held.write(held.routing, Change("delete", release_id, reason.who, reason.why))
            # From here on nobody can route to it: its manifest is gone.
            self.root.forget(release_id)
        await self.remove(release_id)
        self.root.delete(release_id)

    async def _check(self, release_id: str, reason: Reason) -> None:
        """Raises ReleaseNotReady unless the release may answer shoppers."""
        manifest = await self._brought(release_id)
        routing = read_routing(self.root.path)
        if routing is not None and routing.serving != release_id and not reason.forced:
            why = self.objection(manifest, self._manifest(routing.serving))
            if why is not None:
                raise ReleaseNotReady(release_id, f"{why}; force it if that is meant")
        await self.prove(release_id)

    async def _change(
        self, action: str, release_id: str, reason: Reason, to: Callable[[Routing | None], Routing]
    ) -> Routing:
        change = Change(action, release_id, reason.who, reason.why, reason.forced)

        def write() -> Routing:
            with self.changing(self.root.path) as held:
                self._manifest(release_id)
                return held.write(to(held.routing), change)

        # It waits for whoever changes it now, and for the disk.
        return await asyncio.to_thread(write)

    async def _brought(self, release_id: str) -> Manifest:
        """Returns the manifest of a release, which is brought here first where it is elsewhere."""
        if self.bring is not None and release_id not in self.root.release_ids():
            try:
                await asyncio.to_thread(self.bring, release_id)
            except ReleaseError as error:
                raise ReleaseNotReady(release_id, str(error)) from error
        return self._manifest(release_id)

    def _manifest(self, release_id: str) -> Manifest:
        if release_id not in self.root.release_ids():
            raise ReleaseNotFound(release_id, self.root.release_ids())
        return Manifest.load(self.root.release(release_id).manifest)


def roles(routing: Routing | None, release_id: str) -> tuple[str, ...]:
    """Returns the parts that a release plays in a routing."""
    if routing is None:
        return ()
    parts = {
        "serving": routing.serving,
        "canary": routing.canary and routing.canary.release_id,
        "shadow": routing.shadow and routing.shadow.release_id,
        "previous": routing.previous,
    }
    return tuple(part for part, taken_by in parts.items() if taken_by == release_id)


def _without(now: Routing, release_id: str) -> Routing:
    """Returns the routing in which a release is neither serving nor canary nor shadow."""
    if now.serving == release_id:
        if now.previous is None:
            raise ReleaseNotReady(release_id, "there is no release to roll back to")
        # What was rolled back is nothing to roll back to.
        return Routing(now.previous, generation=now.generation)

    def other(share: Share | None) -> Share | None:
        return None if share is not None and share.release_id == release_id else share

    return replace(now, canary=other(now.canary), shadow=other(now.shadow))


def _routed(routing: Routing | None) -> Routing:
    if routing is None:
        raise ReleaseNotReady("", "no release serves yet: promote one first")
    return routing
