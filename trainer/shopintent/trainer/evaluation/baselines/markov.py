"""Next actions by the last two: a Markov chain that falls back to shorter memories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopintent.trainer.sequences import Sequences

ORDER = 2
TRUST = 20.0
"""So many actions of a shorter memory weigh as much as what a longer one has seen."""


@dataclass(frozen=True, eq=False)
class MarkovChain:
    """The actions that came after each state, the last `ORDER` actions of the visit."""

    probabilities: NDArray[np.float64]
    """[(A + 1) ** ORDER, A]; where the visit is shorter, actions are A."""
    n_actions: int

    @classmethod
    def fit(cls, sequences: Sequences, *, known_before: int, n_actions: int) -> MarkovChain:
        """Counts what came after events before a time, in unix seconds."""
        rows = np.flatnonzero(sequences.event_times < known_before)
        came = sequences.next_actions[rows]
        probabilities = np.full((1, n_actions), 1.0 / n_actions)
        for order in range(ORDER + 1):
            states = states_after(sequences, rows + 1, n_actions, order)
            counts = np.zeros(((n_actions + 1) ** order, n_actions))
            np.add.at(counts, (states, came), 1.0)
            # The newest action is the lowest digit of a state, the oldest is what is forgotten.
            shorter = probabilities[np.arange(len(counts)) % len(probabilities)]
            mixed = counts + TRUST * shorter
            probabilities = mixed / mixed.sum(1, keepdims=True)
        return cls(probabilities, n_actions)

    def predict(self, sequences: Sequences, ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns [N, A] for requests right after the event before each row of `ends`."""
        states = states_after(sequences, ends, self.n_actions, ORDER)
        found: NDArray[np.float64] = self.probabilities[states]
        return found


def states_after(
    sequences: Sequences, ends: NDArray[np.int64], n_actions: int, order: int
) -> NDArray[np.int64]:
    """Returns [N]: the last actions before the rows `ends` as digits of one number."""
    last = ends - 1
    states = np.zeros(len(ends), np.int64)
    for back in range(order):
        row = np.maximum(last - back, 0)
        same = (sequences.session_ids[row] == sequences.session_ids[last]) & (last - back >= 0)
        action = np.where(same, sequences.actions[row], n_actions)
        states += action * (n_actions + 1) ** back
    return states
