"""The addresses of Triton's three services."""

import contextlib
import dataclasses
import socket

from deploy.triton.options import ServeOptions
from deploy.triton.terminal import LaunchError


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where the three services listen."""

    host: str
    grpc: int
    http: int
    metrics: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.address(name)}" for name in ("grpc", "http", "metrics"))

    def address(self, service: str) -> str:
        return f"{self.host}:{getattr(self, service)}"


def choose_ports(options: ServeOptions) -> Ports:
    """The given ports, or free ones where 0 is given; raise if a given one is taken."""
    with contextlib.ExitStack() as stack:
        ports = []
        for name in ("grpc_port", "http_port", "metrics_port"):
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((options.host, getattr(options, name)))
            except OSError as error:
                option = "--" + name.replace("_", "-")
                raise LaunchError(
                    f"{option}: cannot listen on {options.host}:{getattr(options, name)} "
                    f"({error.strerror}); give another, or 0 for a free one"
                ) from error
            ports.append(listener.getsockname()[1])
    return Ports(options.host, *ports)
