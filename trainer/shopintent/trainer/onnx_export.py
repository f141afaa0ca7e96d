"""One way to turn a torch module into an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def export_onnx(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_axes: tuple[int, ...] = (0,),
) -> None:
    """Writes the module, weights included; the named axes of every input may have any size."""
    axes = {axis: torch.export.Dim(f"axis_{axis}") for axis in dynamic_axes}
    with warnings.catch_warnings():
        # The exporter warns of its own internals; what it writes is compared with torch afterwards.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module.eval(),
            # A tensor given twice would become one input, read in both places.
            tuple(example.clone() for example in examples),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(axes for _ in examples),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
