from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shopintent.behavior.vocabulary import FIRST, PADDING, UNKNOWN, Vocabulary

words = st.lists(st.text(min_size=1), unique=True, max_size=20)


@given(words=words)
def test_every_word_has_an_id_of_its_own_in_order(words: list[str]) -> None:
    vocabulary = Vocabulary(tuple(words))
    assert [vocabulary.lookup(word) for word in words] == list(range(FIRST, FIRST + len(words)))
    assert vocabulary.size == FIRST + len(words)


@given(words=words, word=st.text())
def test_every_id_is_below_the_size(words: list[str], word: str) -> None:
    vocabulary = Vocabulary(tuple(words))
    assert 0 <= vocabulary.lookup(word) < vocabulary.size


def test_no_word_is_padding_and_another_word_is_unknown() -> None:
    vocabulary = Vocabulary(("a",))
    assert (vocabulary.lookup(""), vocabulary.lookup("A")) == (PADDING, UNKNOWN)


def test_the_first_word_it_holds_is_looked_up() -> None:
    vocabulary = Vocabulary(("a", "b"))
    assert vocabulary.lookup_first(["x", "b", "a"]) == vocabulary.lookup("b")
    assert vocabulary.lookup_first(["", "x", ""]) == UNKNOWN
    assert vocabulary.lookup_first([""]) == PADDING
    assert vocabulary.lookup_first([]) == PADDING
