"""Requests that Triton asks each model before it calls it ready, so that no caller pays for firsts.

The first run of a graph plans and allocates memory for each length and batch. They are written
beside the model, as config.pbtxt's `model_warmup` wants them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopintent.artifacts import signature
from shopintent.artifacts.golden import Golden
from shopintent.behavior import BehaviorTokenizer
from shopintent.trainer.text import TextEncoder

FOLDER = "warmup"
"""Of a model: where Triton looks for the files that its configuration names."""
BLOCK = "model_warmup {"
BATCH_SIZES = (1, 8)
TYPES = {"int32": "TYPE_INT32", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}


@dataclass(frozen=True, eq=False)
class Sample:
    """One request, without the batch dimension."""

    name: str
    inputs: Mapping[str, NDArray[Any]]


def write_warmups(
    models: Sequence[Path], golden: Golden, tokenizer: BehaviorTokenizer, encoder: TextEncoder
) -> None:
    """Writes them for the folders of intent model, text encoder and product encoder."""
    samples = (
        intent_samples(golden, tokenizer),
        text_samples(golden, encoder),
        product_samples(golden),
    )
    for folder, each in zip(models, samples, strict=True):
        write_warmup(folder, each)


def intent_samples(golden: Golden, tokenizer: BehaviorTokenizer) -> list[Sample]:
    """Returns a request of every length that the server sends."""
    longest = tokenizer.max_events
    lengths = {signature.sequence_length(n, longest) for n in range(longest + 1)}
    samples = []
    for length in sorted(lengths):
        fitting = [n for n, each in enumerate(golden.behaviors) if len(each) <= length]
        chosen = max(fitting, key=lambda n: len(golden.behaviors[n]))
        window = tokenizer.window(golden.behaviors[chosen], length)
        inputs: dict[str, NDArray[Any]] = {
            signature.EVENTS: window.tokens,
            signature.EVENT_TIMES: window.event_times,
            signature.REQUEST_TIME: golden.request_times[chosen : chosen + 1],
        }
        samples.append(Sample(f"{length}_events", inputs))
    return samples


def text_samples(golden: Golden, encoder: TextEncoder) -> list[Sample]:
    """Returns the shortest and the longest text, as word pieces."""
    if not golden.texts:
        return []
    samples = []
    for text in sorted({min(golden.texts, key=len), max(golden.texts, key=len)}):
        ids, mask = encoder.word_pieces([text])
        inputs = {signature.INPUT_IDS: ids[0], signature.ATTENTION_MASK: mask[0]}
        samples.append(Sample(f"{len(ids[0])}_word_pieces", inputs))
    return samples


def product_samples(golden: Golden) -> list[Sample]:
    """Returns one product."""
    inputs: dict[str, NDArray[Any]] = {
        signature.PRODUCT_TOKENS: golden.product_tokens[0],
        signature.TEXT_EMBEDDING: golden.product_texts[0],
    }
    return [Sample("product", inputs)]


def write_warmup(model: Path, samples: Sequence[Sample]) -> None:
    """Writes a model's samples into its folder and has its configuration name them alone."""
    (model / FOLDER).mkdir(exist_ok=True)
    blocks = []
    for sample in samples:
        for tensor, array in sample.inputs.items():
            path = model / FOLDER / f"{sample.name}_{tensor}"
            path.write_bytes(np.ascontiguousarray(array).tobytes())
        blocks += [_block(sample, batch_size) for batch_size in BATCH_SIZES]
    config = model / "config.pbtxt"
    rest, _, _ = config.read_text(encoding="utf-8").partition(BLOCK)
    config.write_text(rest + "".join(blocks), encoding="utf-8")


def _block(sample: Sample, batch_size: int) -> str:
    inputs = "".join(
        f'  inputs {{ key: "{tensor}" value {{ data_type: {TYPES[array.dtype.name]} '
        f"dims: [ {', '.join(map(str, array.shape))} ] "
        f'input_data_file: "{sample.name}_{tensor}" }} }}\n'
        for tensor, array in sample.inputs.items()
    )
    name = f"{sample.name}_{batch_size}"
    return f'{BLOCK}\n  name: "{name}"\n  batch_size: {batch_size}\n{inputs}}}\n'
