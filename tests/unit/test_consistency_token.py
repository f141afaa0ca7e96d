"""Consistency tokens carry a position, and no other text is taken for one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopintent.server.services.consistency_token import consistency_token, position_of

POSITIONS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=100)


@given(POSITIONS)
def test_every_position_comes_back(position: str) -> None:
    token = consistency_token(position)
    assert position_of(token) == position
    assert len(token) <= 200
    assert token.isascii()


@given(st.text(max_size=200))
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  Whatever it says, callers are told more.
        position_of(text)


@given(POSITIONS, st.integers(0, 199), st.sampled_from("AZaz09-_"))
def test_a_token_that_was_changed_is_refused(position: str, place: int, put: str) -> None:
    token = consistency_token(position)
    place %= len(token)
    changed = token[:place] + put + token[place + 1 :]
    padding = "=" * (-len(token) % 4)
    if base64.urlsafe_b64decode(changed + padding) != base64.urlsafe_b64decode(token + padding):
        with pytest.raises(ValueError):  # noqa: PT011
            position_of(changed)
