"""What is made once for all tests that ask for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.trained import Trained

# Networks this small only get slower when threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny shop, trained and published as release "tiny"; nothing may change it."""
    from support.trained import make_trained  # The trainer's libraries take seconds to import.

    return make_trained(tmp_path_factory.mktemp("trained"))
