"""From a torch module, or a program that torch exported, to an ONNX model in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from qcompiler.errors import OptionError
from qcompiler.models.extras import require
from qcompiler.models.torch_onnx import write_module


def float_model(source: Any, example_inputs: Any = None, exporter: str = "legacy") -> onnx.ModelProto:
    """The ONNX model of `source`, weights included.

    Args:
        source: a `torch.nn.Module`, exported in evaluation mode with a free batch; or a `torch.onnx.ONNXProgram`.
        example_inputs: a batch of images that the module accepts, alone or as the only item of a tuple; a program has
            its own.
        exporter: "legacy" or "dynamo", for modules.

    Raises:
        OptionError: neither of the two, not exactly one example input, torch is missing, or torch refuses the module.
    """
    torch = require("torch", "exporting")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        if isinstance(source, torch.nn.Module):
            sample = _sample(torch, example_inputs)
            with _evaluating(source):
                write_module(source, sample, path, exporter)
        elif isinstance(source, torch.onnx.ONNXProgram):
            source.save(str(path))
        else:
            raise OptionError(f"{type(source).__name__!r} cannot be exported: give a torch.nn.Module or an ONNXProgram")
        return onnx.load(path)


def _sample(torch: Any, inputs: Any) -> Any:
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1:
        inputs = inputs[0]
    if not isinstance(inputs, torch.Tensor):
        raise OptionError("the example input of a module is one tensor: a batch of images as the module reads them")
    return inputs


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Dropout off while the module is exported; then every part is as it was, frozen ones included."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
