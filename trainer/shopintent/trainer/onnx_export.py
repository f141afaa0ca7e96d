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
    dynamic_axes: Sequence[tuple[int, ...]],
) -> None:
    """Writes the module, weights included; some axes of each input may have any size.

    An axis has the same size in all inputs that name it.
    """
    sizes = {axis: torch.export.Dim(f"axis_{axis}") for axes in dynamic_axes for axis in axes}
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
            dynamic_shapes=tuple({axis: sizes[axis] for axis in axes} for axes in dynamic_axes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
