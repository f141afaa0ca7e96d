"""The release that serves: what belongs together, and the proof that it does."""

from shopintent.server.releases.monitor import Component, ReleaseMonitor
from shopintent.server.releases.release import Release, load_release
from shopintent.server.releases.verify import release_checks

__all__ = ["Component", "Release", "ReleaseMonitor", "load_release", "release_checks"]
