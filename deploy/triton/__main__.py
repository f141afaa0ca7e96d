"""`python -m deploy.triton`: a real tritonserver from PyPI, without a container.

`setup` fetches it once; `serve` starts it, says where it listens, and leaves nothing behind.
Standard library only, so that any Python runs it.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from deploy.triton.build import TRITON_WHEEL
from deploy.triton.model_control import GRPC_KEY_HEADER, KEY_HEADER, KEY_VARIABLE
from deploy.triton.options import ServeOptions
from deploy.triton.runtime import DEFAULT_HOME, setup
from deploy.triton.serve import serve
from deploy.triton.terminal import LaunchError, say


def main() -> int:
    parsed = parse(sys.argv[1:])
    try:
        parsed.action(parsed)
    except LaunchError as error:
        say(f"error: {error}")
        return 1
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.triton",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a real tritonserver from PyPI on this machine, without a container.",
        epilog="Start here:\n"
        "  python -m deploy.triton setup\n"
        "  python -m deploy.triton serve --model-repository releases/model_repository \\\n"
        "      --load-model intent_r1 --grpc-port 8001\n\n"
        "`serve --help` shows the options. Production runs NVIDIA's container instead\n"
        "(deploy/compose.yaml); the model repository is the same.",
    )
    commands = parser.add_subparsers(required=True, metavar="{setup,serve}")
    add_setup(commands.add_parser("setup", help="fetch Triton once; the second call is instant"))
    add_serve(commands.add_parser("serve", help="run Triton until SIGTERM or Ctrl-C"))
    return parser.parse_args(arguments)


def add_setup(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"Fetch {TRITON_WHEEL} from PyPI, which carries tritonserver, and build an environment\n"
        "for its Python backend apart from the project's (that backend needs numpy < 2).\n"
        "About 310 MB on disk; safe to repeat and to interrupt."
    )
    parser.set_defaults(action=lambda parsed: setup(parsed.home))
    add_home(parser)


def add_serve(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run tritonserver in EXPLICIT mode: it serves the models named here and those that an\n"
        "operator loads later through the model repository API. It listens on loopback, or on\n"
        "the address that --host names; nothing it speaks is encrypted."
    )
    parser.epilog = (
        "Loading and unloading models, shared memory, trace and log settings need the model\n"
        f"control key, as gRPC metadata {GRPC_KEY_HEADER}\n"
        f"or as HTTP header {KEY_HEADER}; inference, health, metadata, config\n"
        "and statistics do not:\n"
        f'  curl -X POST -H "{KEY_HEADER}: $KEY" \\\n'
        "      http://127.0.0.1:PORT/v2/repository/models/intent_r2/load\n\n"
        "Triton takes the key as an argument, so users of this machine who may list its\n"
        "processes can read it: it guards against mistakes and remote callers, not against them."
    )
    parser.set_defaults(action=lambda parsed: serve(serve_options(parsed)))
    add_models(parser)
    add_addresses(parser)
    add_files(parser)
    add_lifetime(parser)
    add_home(parser)


def add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model-repository",
        type=absolute_path,
        required=True,
        metavar="DIR",
        help="folder with one folder per model: config.pbtxt and 1/model.onnx",
    )
    parser.add_argument(
        "--load-model",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="models to load at the start; any that fails stops the start",
    )
    parser.add_argument(
        "--model-control-key",
        metavar="KEY",
        help=f"key of the model repository API (default: ${KEY_VARIABLE}, or else a random one, "
        "told in the ready file)",
    )


def add_addresses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    for service in ("grpc", "http", "metrics"):
        parser.add_argument(
            f"--{service}-port",
            type=int,
            default=0,
            metavar="PORT",
            help=f"port of the {service} service (default 0: any free one)",
        )


def add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ready-file",
        type=absolute_path,
        metavar="PATH",
        help="written as JSON once all models are ready: grpc, http and metrics addresses, pid of "
        "this process, model_control_key (mode 0600; removed at the end)",
    )
    parser.add_argument(
        "--log-file",
        type=absolute_path,
        metavar="PATH",
        help="Triton's log (default: a temporary file, removed after an orderly stop)",
    )


def add_lifetime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ready-timeout-s",
        type=float,
        default=120.0,
        metavar="S",
        help="give up when Triton is not ready after this long (%(default)g)",
    )
    parser.add_argument(
        "--exit-with-parent",
        action="store_true",
        help="stop when the process that started this one ends (for tests)",
    )


def serve_options(parsed: argparse.Namespace) -> ServeOptions:
    """The parsed options of `serve`, with their types."""
    fields = dataclasses.fields(ServeOptions)
    return ServeOptions(**{field.name: getattr(parsed, field.name) for field in fields})


def add_home(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--home",
        type=absolute_path,
        default=DEFAULT_HOME,
        metavar="DIR",
        help="where Triton is or will be installed (default: .triton in the checkout)",
    )


def absolute_path(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main())
