"""The Markov chain counts what came next, and forgets what it has hardly seen."""

from __future__ import annotations

import numpy as np
import pytest

from shopintent.trainer.evaluation.baselines.markov import TRUST, MarkovChain
from support.learning import BUY, CART, GAP_S, LEAVE, VIEW, Did, sequences_of

N_ACTIONS = 4
FOREVER = 10**9


def visits(*actions: list[int]) -> list[list[Did]]:
    return [[Did(10 * n, action) for n, action in enumerate(visit)] for visit in actions]


def test_it_learns_what_follows_the_last_two_actions() -> None:
    cart_buys = [[VIEW, CART, BUY]] * 400
    view_leaves = [[VIEW, VIEW]] * 400
    sequences = sequences_of(visits(*cart_buys, *view_leaves))
    chain = MarkovChain.fit(sequences, known_before=FOREVER, n_actions=N_ACTIONS)
    after = chain.predict(sequences, np.array([2, 3, 3 * 400 + 2]))
    assert after.sum(1) == pytest.approx(1.0)
    assert after.argmax(1).tolist() == [BUY, LEAVE, LEAVE]
    assert (after.max(1) > 0.9).all()


def test_what_was_never_seen_falls_back_to_a_shorter_memory() -> None:
    sequences = sequences_of(visits(*[[VIEW, CART, BUY]] * 300, [BUY, CART]))
    chain = MarkovChain.fit(sequences, known_before=FOREVER, n_actions=N_ACTIONS)
    after = chain.predict(sequences, np.array([902]))
    assert after[0].argmax() == BUY


def test_a_visit_does_not_remember_the_one_before() -> None:
    before, alone = [Did(0, CART), Did(GAP_S + 1, VIEW)], [Did(0, VIEW)]
    sequences = sequences_of([before, alone])
    chain = MarkovChain.fit(sequences, known_before=FOREVER, n_actions=N_ACTIONS)
    first, second = chain.predict(sequences, np.array([2, 3]))
    assert first.tolist() == second.tolist()


def test_events_from_the_cut_on_are_not_learned_from() -> None:
    early = [[Did(0, VIEW), Did(10, CART)]] * 50
    late = [[Did(1000, VIEW), Did(1010, BUY)]] * 500
    sequences = sequences_of([*early, *late])
    chain = MarkovChain.fit(sequences, known_before=1000, n_actions=N_ACTIONS)
    alone = MarkovChain.fit(sequences_of(early), known_before=FOREVER, n_actions=N_ACTIONS)
    assert chain.probabilities == pytest.approx(alone.probabilities)


def test_without_any_event_every_action_is_alike() -> None:
    sequences = sequences_of(visits([VIEW]))
    chain = MarkovChain.fit(sequences, known_before=0, n_actions=N_ACTIONS)
    assert TRUST > 0
    assert chain.probabilities == pytest.approx(1 / N_ACTIONS)
