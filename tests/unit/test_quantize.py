"""Weights of eight bits: smaller, almost as good, and refused where they are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest

from shopintent.artifacts import layout
from shopintent.artifacts.manifest import ReleaseError
from shopintent.trainer import quantize as quantizing
from shopintent.trainer.data.progress import silent
from shopintent.trainer.export import MODEL_FILE, MODEL_VERSION
from shopintent.trainer.quantize import exceeded, quantize
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs, load_catalog, load_inputs
from support.trained import RELEASE, Trained


@pytest.fixture(scope="module")
def inputs(trained: Trained) -> Inputs:
    run = trained.run
    catalog = load_catalog(trained.dataset, known_before(run.info.cut_time))
    encoder = TextEncoder.open(run.folder)
    return load_inputs(trained.dataset, run.tokenizer, encoder, catalog, run.info.actions, silent)


@pytest.fixture
def graph(trained: Trained, tmp_path: Path) -> Path:
    name = layout.intent_model(RELEASE)
    there = trained.releases.model_repository / name / str(MODEL_VERSION) / MODEL_FILE
    return Path(shutil.copy(there, tmp_path))


def test_eight_bits_replace_the_graph_and_say_what_they_lose(
    trained: Trained, inputs: Inputs, graph: Path
) -> None:
    rows = quantize(trained.run, trained.dataset, inputs, graph, silent)
    assert {row.metric for row in rows} >= {
        "int8_hit_rate_minus_float32", "int8_largest_difference"
    }  # fmt: skip
    assert not any(map(exceeded, rows))
    kinds = [node.op_type for node in onnx.load(graph).graph.node]
    assert "MatMulInteger" in kinds
    assert not graph.with_name("int8.onnx").exists()


def test_more_than_the_margin_is_refused_and_the_graph_stays(
    trained: Trained, inputs: Inputs, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = graph.read_bytes()
    monkeypatch.setattr(quantizing, "PROBABILITY_MARGIN", 0.0)
    with pytest.raises(ReleaseError, match="largest_difference"):
        quantize(trained.run, trained.dataset, inputs, graph, silent)
    assert graph.read_bytes() == before
    assert list(graph.parent.glob("*.onnx")) == [graph]
