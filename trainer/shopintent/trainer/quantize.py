"""The intent model with weights of eight bits, and what that costs on requests it never saw.

Only products of matrices inside the network are quantized, activations as they come. What the
heads read stays exact: counts and seconds have no common scale, and trees compare them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from sklearn.metrics import average_precision_score
from torch import Tensor

from shopintent.artifacts.manifest import INT8, ReleaseError
from shopintent.artifacts.metrics import Gate, MetricRow
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.evaluation.comparison import OURS
from shopintent.trainer.evaluation.evaluate import SPLIT, VISIT, prefixes, some
from shopintent.trainer.evaluation.rows import horizon_name
from shopintent.trainer.predict import Predictions, ask, embed_products
from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.run import Run
from shopintent.trainer.sequences import Sequences
from shopintent.trainer.training_data import Inputs

MAX_COMPARED = 5_000
K = 10
MIN_POSITIVES = 20
"""With fewer purchases, no PR-AUC is compared."""
PR_AUC_MARGIN, HIT_RATE_MARGIN, PROBABILITY_MARGIN = 0.005, 0.01, 0.05
"""How much may be lost, and how far any one probability may move."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Compared:
    """What both graphs say of the same held-out requests."""

    asked: Prefixes
    exact: Predictions
    coarse: Predictions


def quantize(
    run: Run, dataset: Dataset, inputs: Inputs, graph: Path, on_progress: Progress
) -> tuple[MetricRow, ...]:
    """Replaces the exported intent graph by one of eight bits; returns what it loses.

    Raises ReleaseError, and leaves the graph, where it loses more than the margins.
    """
    coarse = graph.with_name("int8.onnx")
    write_int8(graph, coarse)
    asked = some(
        prefixes(run, dataset, inputs.sequences, held_out=True), MAX_COMPARED, run.info.config.seed
    )
    if not len(asked):
        raise ReleaseError("no visit starts in the held-out time, so int8 cannot be judged")
    exact, quantized = (
        predict_by(each, run, asked, inputs.sequences, on_progress) for each in (graph, coarse)
    )
    compared = Compared(asked, exact, quantized)
    products = embed_products(run.network, run.tokenizer, inputs, on_progress)
    rows = (
        *purchase_loss(compared, run),
        *ranking_loss(compared, inputs.sequences, products),
        largest_difference(compared),
    )
    if failures := [failure for row in rows if (failure := exceeded(row)) is not None]:
        coarse.unlink()
        raise ReleaseError(
            f"with --precision {INT8} the model answers too differently: {'; '.join(failures)}. "
            "Publish it without"
        )
    coarse.replace(graph)
    return rows


def exceeded(row: MetricRow) -> str | None:
    """Returns why a row is beyond its margin; both graphs saw the same requests, so no interval."""
    gate = row.gate or Gate()
    low = gate.at_least is not None and row.value < gate.at_least
    high = gate.at_most is not None and row.value > gate.at_most
    return f"{row.name} is {row.value:.4g}, it must be {gate}" if low or high else None


def write_int8(graph: Path, target: Path) -> None:
    """Quantizes the weights of the network's products of matrices, column by column."""
    model = onnx.load(graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and "heads" not in node.input[1]
    ]
    logging.getLogger().disabled, quiet = True, logging.getLogger().disabled
    try:
        quantize_dynamic(
            graph,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=nodes,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    finally:
        logging.getLogger().disabled = quiet


def predict_by(
    graph: Path, run: Run, asked: Prefixes, sequences: Sequences, on_progress: Progress
) -> Predictions:
    """Returns what an exported intent model says of the requests."""
    return Predictions(
        *ask(
            run.tokenizer,
            asked.behaviors(sequences),
            asked.request_times,
            answer_of(graph),
            on_progress,
        )
    )


def answer_of(graph: Path) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    """Returns the exported model as a function of tensors."""
    session = onnxruntime.InferenceSession(str(graph))
    names = [each.name for each in session.get_inputs()]

    def answer(*given: Tensor) -> tuple[Tensor, ...]:
        inputs: dict[str, Any] = {
            name: each.numpy() for name, each in zip(names, given, strict=True)
        }
        return tuple(torch.from_numpy(each) for each in session.run(None, inputs))

    return answer


def purchase_loss(compared: Compared, run: Run) -> list[MetricRow]:
    """Returns by how much PR-AUC differs, for this visit and for every horizon."""
    asked, chosen = compared.asked, compared.asked.undecided
    exact, coarse = (purchase_probabilities(each) for each in (compared.exact, compared.coarse))
    rows = []
    for column, name in enumerate((VISIT, *map(horizon_name, run.info.horizons_s))):
        known = chosen & asked.purchase_known[:, column]
        bought = asked.purchase_labels[known, column]
        if not MIN_POSITIVES <= bought.sum() < len(bought):
            continue
        before, after = (
            float(average_precision_score(bought, each[known, column])) for each in (exact, coarse)
        )
        gate = Gate(at_least=-PR_AUC_MARGIN)
        rows.append(_row("pr_auc", after - before, len(bought), gate, horizon=name))
    return rows


def purchase_probabilities(predictions: Predictions) -> Floats:
    """Returns [N, 1 + H]."""
    return np.hstack([predictions.visit_purchase, predictions.purchases])


def ranking_loss(compared: Compared, sequences: Sequences, products: Floats) -> list[MetricRow]:
    """Returns by how much the hit rate of the next product differs."""
    asked = compared.asked
    following = np.minimum(asked.ends, len(sequences.event_times) - 1)
    same = asked.ends < sequences.offsets[asked.shoppers + 1]
    rows = np.flatnonzero(same & (sequences.catalog_rows[following] >= 0))
    if not len(rows):
        return []
    wanted = sequences.catalog_rows[following[rows]]

    def hit_rate(predictions: Predictions) -> float:
        hits = 0
        for start in range(0, len(rows), 256):
            chosen = slice(start, start + 256)
            scores = predictions.behavior_embeddings[rows[chosen]] @ products.T
            target = np.take_along_axis(scores, wanted[chosen, None], 1)
            hits += int(((scores > target).sum(1) < K).sum())
        return hits / len(rows)

    lost = hit_rate(compared.coarse) - hit_rate(compared.exact)
    return [_row("hit_rate", lost, len(rows), Gate(at_least=-HIT_RATE_MARGIN), k=K)]


def largest_difference(compared: Compared) -> MetricRow:
    """Returns how far any probability of an action or a purchase moves."""
    pairs = (
        (compared.exact.next_actions, compared.coarse.next_actions),
        (purchase_probabilities(compared.exact), purchase_probabilities(compared.coarse)),
    )
    farthest = max(float(np.abs(before - after).max()) for before, after in pairs)
    return MetricRow(
        model=OURS,
        metric=f"{INT8}_largest_difference",
        value=farthest,
        split=SPLIT,
        samples=len(compared.asked),
        gate=Gate(at_most=PROBABILITY_MARGIN),
    )


def _row(
    metric: str,
    lost: float,
    samples: int,
    gate: Gate,
    *,
    horizon: str | None = None,
    k: int | None = None,
) -> MetricRow:
    return MetricRow(
        model=OURS,
        metric=f"{INT8}_{metric}_minus_float32",
        value=lost,
        split=SPLIT,
        samples=samples,
        gate=gate,
        horizon=horizon,
        k=k,
    )
