"""The server's configuration: one table of options, each an environment variable and a flag.

A flag wins over its variable, and a variable over the default. Everything is read once, at start.
"""

# ruff: noqa: RUF009  _option only builds a dataclass field, like dataclasses.field.

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from shopintent.server.ranking import HOME, RankWeights

PREFIX = "SHOPINTENT_"
INDEXES = ("edge", "qdrant")
SESSIONS = ("sqlite", "redis", "memory")
DURABILITIES = ("machine", "process")
ADDRESS = re.compile(r"([^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
TOKEN = re.compile(r"[!-~]{16,512}")
"""Printable ASCII, as metadata carries it."""
LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the variable and the remedy."""


def _number(kind: type[int] | type[float], minimum: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not minimum <= value < float("inf"):
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"must be {what} of at least {minimum:g}")
        return value

    return parse


def _choice(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "1")


def _address(text: str) -> str:
    if text and not ADDRESS.fullmatch(text):
        raise ValueError("must be a host and a port, such as 127.0.0.1:8000, without http://")
    return text


def _option(
    default: Any, parse: Callable[[str], Any], help_text: str, *, secret: bool = False
) -> Any:
    metadata = {"parse": parse, "help": help_text, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """Every option of shopintent-server; `help_of` says what each means."""

    releases: Path = _option(
        Path("releases"), Path, "The releases root: the folder that the trainer publishes to."
    )
    releases_url: str = _option(
        "",
        str,
        "Where releases are published, a URL that fsspec knows such as s3://bucket/shop. They are "
        "fetched into RELEASES, whose routing then follows the one there.",
    )
    release: str = _option(
        "", str, "The id of the one release to serve. Default: what routing.json in the root says."
    )
    triton_address: str = _option("127.0.0.1:8001", str, "Host and port of Triton's gRPC service.")
    triton_http_address: str = _option(
        "",
        _address,
        "Host and port of Triton's HTTP service. With it models are asked there, which takes less "
        "time than over gRPC; what is loaded is asked over gRPC all the same.",
    )
    triton_model_control_key: str = _option(
        "",
        str,
        "The key that Triton was started with; with it the server loads the models of releases "
        "that are to take traffic, and unloads those of releases that take none any more.",
        secret=True,
    )
    index: str = _option(
        "edge",
        _choice(INDEXES),
        "Where products are searched: edge (in this process, for one server) or qdrant (a server).",
    )
    index_path: Path | None = _option(
        None, Path, "The folder where the edge index keeps its state. Default: index in RELEASES."
    )
    qdrant_url: str = _option(
        "", str, "The URL of the Qdrant server, such as http://127.0.0.1:6333. For index qdrant."
    )
    qdrant_api_key: str = _option("", str, "The API key of the Qdrant server.", secret=True)
    qdrant_api_key_file: Path | None = _option(
        None, Path, "A file that holds the API key of the Qdrant server."
    )
    listen: str = _option(
        "127.0.0.1:50051",
        str,
        "Host and port to listen on; port 0 takes a free one. Any host but loopback needs TLS or "
        "INSECURE.",
    )
    tls_certificate: Path | None = _option(
        None, Path, "The server's certificate chain, a PEM file. Turns TLS on."
    )
    tls_private_key: Path | None = _option(
        None, Path, "The private key of the certificate, a PEM file."
    )
    tls_client_ca: Path | None = _option(
        None, Path, "Only clients with a certificate of this authority, a PEM file, are served."
    )
    insecure: bool = _option(
        False, _boolean, "Listen without TLS on an address others can reach: true or false."
    )
    release_token: str = _option(
        "", str, "The token that callers of ReleaseService must send.", secret=True
    )
    release_token_file: Path | None = _option(
        None,
        Path,
        "A file that holds the token that callers of ReleaseService must send. Without a token it "
        "serves nobody; without TLS the network can read it.",
    )
    visitor_token: str = _option(
        "", str, "The token that callers of VisitorService must send.", secret=True
    )
    visitor_token_file: Path | None = _option(
        None,
        Path,
        "A file that holds the token that callers of VisitorService must send, who may delete "
        "visitors. Without a token it serves nobody; without TLS the network can read it.",
    )
    reuse_port: bool = _option(
        False,
        _boolean,
        "Share the port with other server processes: true or false. They share sessions sqlite "
        "and redis; of the indexes only qdrant can be shared.",
    )
    workers: int = _option(
        1,
        _number(int, 1),
        "Server processes that answer on the one port, about one a core. More than 1 need sessions "
        "sqlite or redis.",
    )
    metrics_listen: str = _option(
        "",
        str,
        "Host and port to serve metrics on for Prometheus, over HTTP, such as 127.0.0.1:9464; port "
        "0 takes a free one. Any host but loopback needs INSECURE. Default: no metrics.",
    )
    grace_s: float = _option(
        10.0, _number(float, 0), "Seconds that running calls get to finish after SIGTERM."
    )
    max_concurrent_rpcs: int = _option(
        1000,
        _number(int, 1),
        "Most calls answered at once; fewer where they would end late. More are refused with "
        "RESOURCE_EXHAUSTED.",
    )
    max_streams: int = _option(
        5000,
        _number(int, 1),
        "Most calls of StreamIntents open at once, one a visit; each request in them counts as a "
        "call while it is answered. More are refused with RESOURCE_EXHAUSTED.",
    )
    max_connection_age_s: float = _option(
        1800.0, _number(float, 1), "Seconds after which a connection is renewed, to spread load."
    )
    answer_timeout_s: float = _option(
        1.0,
        _number(float, 0.01),
        "Most seconds an answer may take where the caller's deadline is longer or missing.",
    )
    catalog_timeout_s: float = _option(
        60.0, _number(float, 0.1), "The same for calls of the catalog, which may embed products."
    )
    check_interval_s: float = _option(
        5.0, _number(float, 0.01), "Seconds between checks that release, Triton and index fit."
    )
    routing_interval_s: float = _option(
        0.5,
        _number(float, 0.01),
        "Seconds between looks at routing.json of RELEASES: which release answers whom.",
    )
    canary_min_requests: int = _option(
        50,
        _number(int, 1),
        "Requests in 10 seconds of both releases, from which on a canary is judged.",
    )
    canary_max_errors: float = _option(
        0.02,
        _number(float, 0),
        "A canary is rolled back when its share of failed requests is so much above that of the "
        "serving release.",
    )
    canary_max_degraded: float = _option(
        0.05, _number(float, 0), "The same for its share of degraded answers."
    )
    canary_max_latency_ratio: float = _option(
        2.0,
        _number(float, 1),
        "The same when its 95th percentile of latency is so many times that of the serving "
        "release, and 20 ms more.",
    )
    canary_max_intent_drift: float = _option(
        0.15,
        _number(float, 0),
        "The same when the mean distributions of next actions are so far apart (total variation, "
        "0 to 1).",
    )
    check_timeout_s: float = _option(
        2.0, _number(float, 0.01), "Seconds that each step of such a check may take."
    )
    popular_refresh_s: float = _option(
        60.0, _number(float, 0.01), "Seconds between refreshes of the popular products."
    )
    popular_products: int = _option(
        1000,
        _number(int, 1),
        "Popular products of the whole shop that are held for when nothing personal can be shown; "
        "those of its categories are up to ten times as many, and as many are counted.",
    )
    state_path: Path | None = _option(
        None,
        Path,
        "The folder, on a disk of this machine, where the server keeps sessions, changes of the "
        "catalog and what is popular. Default: state in RELEASES.",
    )
    sessions: str = _option(
        "sqlite",
        _choice(SESSIONS),
        "Where sessions are kept: sqlite (a file in STATE_PATH, shared by the server processes of "
        "this machine), redis (REDIS_URL, shared by servers on any number of machines) or memory "
        "(of this process; gone when it ends).",
    )
    redis_url: str = _option(
        "",
        str,
        "The URL of Redis (6.2 or newer), such as redis://127.0.0.1:6379/0. TLS is rediss://.., "
        "and ?ssl_ca_certs=FILE names the authority. For sessions redis.",
        secret=True,
    )
    redis_password: str = _option("", str, "The password of Redis.", secret=True)
    redis_password_file: Path | None = _option(
        None, Path, "A file that holds the password of Redis."
    )
    redis_cluster: bool = _option(
        False, _boolean, "REDIS_URL is that of a server of a Redis Cluster: true or false."
    )
    redis_replicas: int = _option(
        0,
        _number(int, 0),
        "Replicas of Redis that hold a tracked event before it is acknowledged. Not for a cluster.",
    )
    redis_max_unlogged: int = _option(
        1_000_000,
        _number(int, 1),
        "Most records in Redis that wait for the event log, some 500 bytes each; with more, "
        "tracking is refused with RESOURCE_EXHAUSTED.",
    )
    session_durability: str = _option(
        "machine",
        _choice(DURABILITIES),
        "What a tracked event survives once acknowledged: machine (loss of power; costs a flush of "
        "the disk, and needs appendfsync always in Redis) or process (kill -9).",
    )
    event_log: Path | None = _option(
        None,
        Path,
        "The folder of the event log, which training reads: one for all servers that share "
        "sessions, on a file system they share. Default: event-log in STATE_PATH.",
    )
    event_log_days: int = _option(
        90,
        _number(int, 0),
        "Days that the event log is kept; older ones are removed whole. 0 keeps no log.",
    )
    pseudonym_keys: Path | None = _option(
        None,
        Path,
        "The file of the keys that shoppers are named with in the event log, the same for all "
        "servers that share one. Made when missing. Default: pseudonym-keys.json in STATE_PATH.",
    )
    max_visitors: int = _option(
        100_000,
        _number(int, 1),
        "Visitors whose events are held, by all servers that share sessions; the longest unheard "
        "of goes first.",
    )
    max_session_events: int = _option(200, _number(int, 1), "Newest events held of each visitor.")
    session_idle_s: float = _option(
        30 * 24 * 3600.0,
        _number(float, 1),
        "Seconds without an event until a visitor is forgotten.",
    )
    max_cached: int = _option(
        100_000, _number(int, 1), "Unseen products, and search queries, whose content is cached."
    )
    cache_max_age_s: float = _option(
        60.0,
        _number(float, 0),
        "Seconds until a cached product is read again, so that writes of other servers are seen.",
    )
    placements: Path | None = _option(
        None,
        Path,
        "A TOML file with rank weights, a table a placement: [home] similarity = 1.0 "
        "popularity = 0.0. Default: similarity alone.",
    )
    log_level: str = _option("info", _choice(LOG_LEVELS), f"One of {', '.join(LOG_LEVELS)}.")


def help_of(option: Field[Any]) -> str:
    """Returns what an option means, with its variable and default."""
    default = "" if option.default in (None, "") else f" Default: {option.default}."
    return f"{option.metadata['help']}{default} [{variable_of(option)}]"


def variable_of(option: Field[Any]) -> str:
    """Returns the name of the option's environment variable."""
    return PREFIX + option.name.upper()


def read_config(environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Config:
    """Returns the configuration. Raises ConfigError naming the variable and the remedy.

    `flags` holds the text given for each option by name; None where it was not given.
    """
    values = {}
    for option in fields(Config):
        text = flags.get(option.name)
        text = environ.get(variable_of(option)) if text is None else text
        if text is None or text == "":
            continue
        try:
            values[option.name] = option.metadata["parse"](text)
        except ValueError as error:
            shown = "its value" if option.metadata["secret"] else repr(text)
            raise ConfigError(f"{variable_of(option)}: {shown} {error}") from error
    config = Config(**values)
    _check(config)
    return config


def read_qdrant_api_key(config: Config) -> str | None:
    """Returns the API key from the variable or the file; None when there is none."""
    return _secret(config.qdrant_api_key, config.qdrant_api_key_file, "QDRANT_API_KEY")


def read_redis_password(config: Config) -> str | None:
    """Returns the password from the variable or the file; None when there is none."""
    return _secret(config.redis_password, config.redis_password_file, "REDIS_PASSWORD")


def read_release_token(config: Config) -> str | None:
    """Returns the token of ReleaseService from the variable or the file; None when there is none.

    Raises ConfigError for one that is easily guessed or cannot be sent.
    """
    return _token(config.release_token, config.release_token_file, "RELEASE_TOKEN")


def read_visitor_token(config: Config) -> str | None:
    """Returns the token of VisitorService in the same way."""
    return _token(config.visitor_token, config.visitor_token_file, "VISITOR_TOKEN")


def _token(text: str, file: Path | None, name: str) -> str | None:
    token = _secret(text, file, name)
    if token is not None and not TOKEN.fullmatch(token):
        raise ConfigError(
            f"{PREFIX}{name} is no token: use 16 to 512 letters, digits and signs without spaces, "
            "such as `openssl rand -hex 32` makes"
        )
    return token


def _secret(text: str, file: Path | None, name: str) -> str | None:
    if file is None:
        return text or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{PREFIX}{name}_FILE cannot be read: {error}") from error


def read_placements(path: Path | None) -> dict[str, RankWeights]:
    """Returns the rank weights of each placement; "home" is always there."""
    if path is None:
        return {HOME: RankWeights()}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        weights = {name: RankWeights(**table) for name, table in tables.items()}
        for each in weights.values():
            if not all(isinstance(w, float | int) for w in (each.similarity, each.popularity)):
                raise TypeError("a weight is not a number")
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"SHOPINTENT_PLACEMENTS: {path} cannot be used: {error}; write a table a placement, "
            "with the numbers similarity and popularity"
        ) from error
    return {HOME: RankWeights(), **weights}


def is_loopback(address: str) -> bool:
    """Returns whether only this machine can reach an address such as "127.0.0.1:50051"."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(config: Config) -> None:
    """Raises ConfigError when options do not go together."""
    if (config.tls_certificate is None) != (config.tls_private_key is None):
        raise ConfigError(
            "SHOPINTENT_TLS_CERTIFICATE and SHOPINTENT_TLS_PRIVATE_KEY go together: set both"
        )
    if config.tls_client_ca is not None and config.tls_certificate is None:
        raise ConfigError(
            "SHOPINTENT_TLS_CLIENT_CA needs TLS: set SHOPINTENT_TLS_CERTIFICATE and "
            "SHOPINTENT_TLS_PRIVATE_KEY too"
        )
    if config.workers > 1 and config.sessions == "memory":
        raise ConfigError(
            "SHOPINTENT_SESSIONS is memory, which workers can not share: set it to sqlite or "
            "redis, or SHOPINTENT_WORKERS to 1"
        )
    if config.workers > 1 and config.listen.startswith("unix:"):
        raise ConfigError(
            "SHOPINTENT_LISTEN is a file, which workers can not share: listen on a port, or set "
            "SHOPINTENT_WORKERS to 1"
        )
    if config.index == "qdrant" and not config.qdrant_url:
        raise ConfigError("SHOPINTENT_QDRANT_URL is required when SHOPINTENT_INDEX is qdrant")
    if config.sessions == "redis" and not config.redis_url:
        raise ConfigError("SHOPINTENT_REDIS_URL is required when SHOPINTENT_SESSIONS is redis")
    if config.redis_cluster and config.redis_replicas:
        raise ConfigError(
            "SHOPINTENT_REDIS_REPLICAS is not for a cluster: leave it out, and set "
            "min-replicas-to-write in the servers of the cluster"
        )
    for name in ("qdrant_api_key", "redis_password", "release_token", "visitor_token"):
        if getattr(config, name) and getattr(config, f"{name}_file"):
            variable = f"{PREFIX}{name.upper()}"
            raise ConfigError(f"set only one of {variable} and {variable}_FILE")


def check_listen(config: Config) -> None:
    """Raises ConfigError when others could reach the server without TLS, or a token is bad."""
    read_release_token(config)
    read_visitor_token(config)
    open_to_others = not is_loopback(config.listen) and config.tls_certificate is None
    if open_to_others and not config.insecure:
        raise ConfigError(
            f"SHOPINTENT_LISTEN is {config.listen}, which others can reach, and TLS is off: set "
            "SHOPINTENT_TLS_CERTIFICATE and SHOPINTENT_TLS_PRIVATE_KEY, listen on 127.0.0.1, or "
            "accept it with --insecure true"
        )
    if config.metrics_listen and not is_loopback(config.metrics_listen) and not config.insecure:
        raise ConfigError(
            f"SHOPINTENT_METRICS_LISTEN is {config.metrics_listen}, which others can reach: listen "
            "on 127.0.0.1, or accept it with --insecure true"
        )


def state_folder(config: Config) -> Path:
    """Returns the folder where the server keeps what it alone knows."""
    return config.state_path or config.releases / "state"


def event_log_folder(config: Config) -> Path:
    """Returns the folder of the event log."""
    return config.event_log or state_folder(config) / "event-log"


def pseudonym_keys_file(config: Config) -> Path:
    """Returns the file of the keys of pseudonyms."""
    return config.pseudonym_keys or state_folder(config) / "pseudonym-keys.json"


def popularity_file(config: Config) -> Path:
    """Returns the file of what is popular: one for all servers that share sessions, if they can."""
    shared = config.event_log if config.sessions == "redis" else None
    return (shared or state_folder(config)) / "popularity.json"
