"""What `serve` may be told."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """The options of `serve`, under the names that the command line gives them."""

    home: Path
    model_repository: Path
    load_model: list[str]
    host: str
    grpc_port: int
    http_port: int
    metrics_port: int
    ready_file: Path | None
    log_file: Path | None
    model_control_key: str | None
    ready_timeout_s: float
    exit_with_parent: bool
