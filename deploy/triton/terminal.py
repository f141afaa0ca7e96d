"""What Triton's commands tell the person at the terminal."""

import sys


class LaunchError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
