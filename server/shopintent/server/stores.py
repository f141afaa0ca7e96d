"""Opens what keeps the behavior of visitors: sessions, the event log, and the keys of its names."""

from __future__ import annotations

from typing import Any

from shopintent.artifacts.event_log import LOG_FILE
from shopintent.server.config import (
    Config,
    ConfigError,
    event_log_folder,
    pseudonym_keys_file,
    read_redis_password,
    state_folder,
)
from shopintent.server.event_log import EventLog
from shopintent.server.event_log.files import OnProgress, no_progress
from shopintent.server.keyring_file import FollowedKeyring, KeyringError
from shopintent.server.pseudonyms import Keyring, Pseudonyms
from shopintent.server.sessions.memory import InMemorySessions
from shopintent.server.sessions.redis import RedisSessions
from shopintent.server.sessions.sqlite import SqliteSessions

Sessions = InMemorySessions | SqliteSessions | RedisSessions
"""A SessionStore and an EventFeed, and but for the first a RecordSource."""


def logs_events(config: Config) -> bool:
    """Returns whether what visitors do is written to an event log."""
    return config.event_log_days > 0 and config.sessions != "memory"


def open_event_log(config: Config, on_progress: OnProgress = no_progress) -> EventLog | None:
    """Returns the event log; one from a time when events were logged can still be deleted from."""
    folder = event_log_folder(config)
    return EventLog(folder, on_progress) if logs_events(config) or folder.exists() else None


def open_pseudonyms(config: Config) -> Pseudonyms:
    """Returns what shoppers are called in the event log; nothing where there is none.

    Raises ConfigError when the file of keys cannot be used, or is not there but a log is: nobody
    in it would be found again.
    """
    if open_event_log(config) is None:
        return Keyring(())
    keys, log = pseudonym_keys_file(config), event_log_folder(config)
    if (log / LOG_FILE).exists() and not keys.exists():
        raise ConfigError(
            f"SHOPINTENT_PSEUDONYM_KEYS: {keys} is not there, but shoppers in {log} are named with "
            "its keys: restore it, or name the file of the server that made the log; where it is "
            "lost, move the log away"
        )
    try:
        return FollowedKeyring(keys)
    except (KeyringError, OSError) as error:
        raise ConfigError(f"SHOPINTENT_PSEUDONYM_KEYS: {error}") from error


def open_sessions(config: Config, pseudonyms: Pseudonyms) -> Sessions:
    """Opens the sessions; call it with the event loop running. Raises StateUnavailable.

    Where events are logged they also record what is to be written to the log.
    """
    limits: dict[str, Any] = {
        "max_visitors": config.max_visitors,
        "max_events": config.max_session_events,
        "idle_s": config.session_idle_s,
    }
    if config.sessions == "memory":
        return InMemorySessions(**limits)
    options = {
        **limits,
        "pseudonyms": pseudonyms if logs_events(config) else None,
        "survives_power_loss": config.session_durability == "machine",
    }
    if config.sessions == "redis":
        return _open_redis(config, **options)
    return SqliteSessions.open(state_folder(config) / "sessions.sqlite", **options)


def _open_redis(config: Config, **options: Any) -> RedisSessions:
    try:
        return RedisSessions.open(
            config.redis_url,
            is_cluster=config.redis_cluster,
            password=read_redis_password(config),
            replicas=config.redis_replicas,
            max_unlogged=config.redis_max_unlogged,
            **options,
        )
    except ValueError as error:
        raise ConfigError(f"SHOPINTENT_REDIS_URL is no URL of a Redis: {error}") from error
