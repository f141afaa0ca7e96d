"""The text encoder: any sentence-transformers model as ONNX, run here as the server's Triton runs
it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor, nn

from shopintent.artifacts import signature
from shopintent.trainer.data.progress import Progress, silent
from shopintent.trainer.onnx_export import export_onnx

MODEL_FILE = "text_encoder.onnx"
TOKENIZER_FILE = "text_tokenizer.json"
CACHE_FILE = "text_embeddings.npz"
BATCH = 64
CHECKED_TEXTS = ("chair", "table", "A longer text, so that the others are padded.")
TOLERANCE = 1e-4
"""How far the exported graph may be from the model."""


class TextEncoderError(ValueError):
    """A text encoder cannot be loaded; the message says what to give instead."""


class SentenceEmbedding(nn.Module):
    """A sentence-transformers model as a function of two tensors."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, L] word pieces and their mask to [B, E], L2-normalized."""
        outputs = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return F.normalize(outputs["sentence_embedding"], dim=-1)


def load_sentence_transformer(name: str) -> SentenceTransformer:
    """Loads a model by the name of an installed package that carries one, a folder, or a hub
    name.
    """
    package = name.replace("-", "_")
    location = name
    try:
        if package.isidentifier() and util.find_spec(package) is not None:
            location = str(import_module(package).MODEL_DIR)
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        return SentenceTransformer(location, device="cpu").eval()
    except (AttributeError, OSError, ValueError) as error:
        raise TextEncoderError(
            f"text encoder {name!r} cannot be loaded: {error}. Give an installed model package, "
            "a folder with a sentence-transformers model, or a name that the model hub knows"
        ) from error


def export_text_encoder(name: str, folder: Path, *, max_tokens: int) -> None:
    """Writes the encoder's graph and its tokenizer into a folder; texts are cut to `max_tokens`."""
    model = load_sentence_transformer(name)
    tokenizer: Tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.enable_truncation(min(max_tokens, model.max_seq_length or max_tokens))
    tokenizer.enable_padding()
    tokenizer.save(str(folder / TOKENIZER_FILE))
    ones = torch.ones(2, 8, dtype=torch.int64)
    export_onnx(
        SentenceEmbedding(model),
        (ones, ones),
        folder / MODEL_FILE,
        inputs=(signature.INPUT_IDS, signature.ATTENTION_MASK),
        outputs=(signature.TEXT_EMBEDDING,),
        dynamic_axes=((0, 1), (0, 1)),
    )
    check_export(model, TextEncoder.open(folder))


@torch.no_grad()
def check_export(model: SentenceTransformer, exported: TextEncoder) -> None:
    """Raises TextEncoderError unless the graph says what the model says, padding or not."""
    ids, mask = exported.word_pieces(list(CHECKED_TEXTS))
    expected = SentenceEmbedding(model)(torch.tensor(ids), torch.tensor(mask)).numpy()
    distance = float(np.abs(expected - exported.run(ids, mask)).max())
    if not distance <= TOLERANCE:
        raise TextEncoderError(
            f"the exported text encoder differs from its model by {distance:g}, more than "
            f"{TOLERANCE:g}: this model cannot be exported, give another"
        )


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """An exported encoder and the embeddings it made so far."""

    session: onnxruntime.InferenceSession
    tokenizer: Tokenizer
    made: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> TextEncoder:
        """Opens what `export_text_encoder` wrote, with what `remember` added.

        Raises TextEncoderError when it is not there.
        """
        for name in (MODEL_FILE, TOKENIZER_FILE):
            if not (folder / name).is_file():
                raise TextEncoderError(f"{folder / name} is missing: train again")
        session = onnxruntime.InferenceSession(str(folder / MODEL_FILE))
        encoder = cls(session, Tokenizer.from_file(str(folder / TOKENIZER_FILE)))
        if (folder / CACHE_FILE).exists():
            with np.load(folder / CACHE_FILE, allow_pickle=False) as saved:
                texts = json.loads(saved["texts"].tobytes())
                encoder.made.update(zip(texts, saved["embeddings"], strict=True))
        return encoder

    def remember(self, folder: Path) -> None:
        """Saves the embeddings made so far, so that later steps need not repeat them."""
        with (folder / CACHE_FILE).open("wb") as file:
            texts = np.frombuffer(json.dumps(list(self.made)).encode(), np.uint8)
            embeddings = np.array(list(self.made.values()), np.float32)
            np.savez(file, allow_pickle=False, texts=texts, embeddings=embeddings)

    @property
    def embedding_size(self) -> int:
        """E."""
        return int(self.session.get_outputs()[0].shape[-1])

    def encode(self, texts: Iterable[str], on_progress: Progress = silent) -> NDArray[np.float32]:
        """Returns [N, E]; equal texts are encoded once and an empty text is all zeros."""
        wanted = list(texts)
        missing = sorted({text for text in wanted if text} - self.made.keys(), key=len)
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            self.made.update(zip(batch, self.run(*self.word_pieces(batch)), strict=True))
            on_progress("embedding texts", start + len(batch), len(missing))
        embeddings = np.zeros((len(wanted), self.embedding_size), np.float32)
        for row, text in enumerate(wanted):
            if text:
                embeddings[row] = self.made[text]
        return embeddings

    def word_pieces(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns ids and mask, both [B, L]."""
        pieces = self.tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in pieces], np.int64)
        return ids, np.array([each.attention_mask for each in pieces], np.int64)

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the graph's [B, E] for word pieces and their mask [B, L]."""
        inputs = {signature.INPUT_IDS: ids, signature.ATTENTION_MASK: mask}
        (encoded,) = self.session.run(None, inputs)
        return np.asarray(encoded, np.float32)
