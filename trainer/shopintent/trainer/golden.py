"""Golden requests of a release: asked of the exported graphs themselves, as Triton will be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shopintent.artifacts import signature
from shopintent.artifacts.golden import Golden
from shopintent.artifacts.signature import sequence_length
from shopintent.behavior import Behavior, BehaviorTokenizer, Product, product_text
from shopintent.behavior.tokenizer import EMPTY_BEHAVIOR
from shopintent.trainer.export import MODEL_FILE, MODEL_VERSION
from shopintent.trainer.run import Run
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs

N_GOLDEN = 32
"""Requests to the intent model, and products; half as many texts."""
TOLERANCE = 2e-3
"""Room for other processors and for GPUs, which multiply matrices of float32 in TF32."""
ASKED_AFTER_S = 5


def make_golden(
    run: Run,
    inputs: Inputs,
    products: Sequence[Product],
    word_pieces: Tokenizer,
    models: Sequence[Path],
) -> Golden:
    """Returns requests from the newest of the events with the answers of the exported models.

    `models` are the folders of intent model, text encoder and product encoder; `word_pieces` is
    what the text encoder reads.
    """
    intent, text_encoder, product_encoder = (_session(each) for each in models)
    behaviors = newest_behaviors(inputs.sequences, run.tokenizer.max_events)
    newest = int(inputs.sequences.event_times.max(initial=0))
    request_times = np.array(
        [(each.event_times[-1] if len(each) else newest) + ASKED_AFTER_S for each in behaviors],
        np.int64,
    )
    rows = np.unique(np.linspace(0, len(products) - 1, N_GOLDEN).astype(int))
    ids = [run.tokenizer.products.lookup(products[row].product_id) for row in rows]
    tokens = np.hstack([np.array(ids, np.int32)[:, None], inputs.content[rows]]).astype(np.int32)
    asked = {
        signature.PRODUCT_TOKENS: tokens,
        signature.TEXT_EMBEDDING: inputs.text_embeddings[rows],
    }
    (product_embeddings,) = product_encoder.run(None, asked)
    texts = sorted({product_text(products[row]) for row in rows} - {""})[: N_GOLDEN // 2]
    answers = [
        ask(intent, run.tokenizer, *each) for each in zip(behaviors, request_times, strict=True)
    ]
    names = [output.name for output in intent.get_outputs()]
    outputs = (*names, signature.TEXT_EMBEDDING, signature.PRODUCT_EMBEDDING)
    return Golden(
        behavior_fingerprint=run.tokenizer.fingerprint,
        behaviors=tuple(behaviors),
        request_times=request_times,
        intent={
            name: np.concatenate(column)
            for name, column in zip(names, zip(*answers, strict=True), strict=True)
        },
        texts=tuple(texts),
        text_embeddings=TextEncoder(text_encoder, word_pieces).encode(texts),
        product_tokens=tokens,
        product_texts=inputs.text_embeddings[rows],
        product_embeddings=product_embeddings,
        tolerances=dict.fromkeys(outputs, TOLERANCE),
    )


def newest_behaviors(sequences: Sequences, max_events: int) -> list[Behavior]:
    """Returns N_GOLDEN behaviors of every length up to the longest, the empty one first.

    They are the last events of those who came last; who they are is left out.
    """
    sizes = np.minimum(np.diff(sequences.offsets), max_events)
    longest = int(sizes.max(initial=0))
    lengths = np.geomspace(1, max(longest, 1), N_GOLDEN - 1 if longest else 0).round().astype(int)
    last_seen = sequences.event_times[sequences.offsets[1:] - 1]
    newest_first = np.argsort(-last_seen, kind="stable")
    free = np.ones(len(sizes), bool)
    behaviors = [EMPTY_BEHAVIOR]
    for length in lengths:
        able = newest_first[sizes[newest_first] >= length]
        unused = able[free[able]]
        shopper = int(unused[0] if len(unused) else able[0])
        free[shopper] = False
        end = int(sequences.offsets[shopper + 1])
        whole = sequences.behavior(shopper, end)
        behaviors.append(Behavior(whole.tokens[-length:], whole.event_times[-length:]))
    return behaviors


def ask(
    intent: onnxruntime.InferenceSession,
    tokenizer: BehaviorTokenizer,
    behavior: Behavior,
    request_time: np.int64,
) -> list[NDArray[np.float32]]:
    """Returns the outputs of the intent model for one behavior, each [1, ...]."""
    length = sequence_length(len(behavior), tokenizer.max_events)
    window = tokenizer.window(behavior, length)
    answers: list[NDArray[np.float32]] = intent.run(
        None,
        {
            signature.EVENTS: window.tokens[None],
            signature.EVENT_TIMES: window.event_times[None],
            signature.REQUEST_TIME: np.array([[request_time]], np.int64),
        },
    )
    return answers


def _session(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(model / str(MODEL_VERSION) / MODEL_FILE))
