"""From a family's torch module to an ONNX file with every output named."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from . import families

EXPORTERS = ("legacy", "dynamo")


def export(name: str, path: Path, exporter: str) -> None:
    """Write a family's model with input `x` [batch, 3, size, size] and outputs `y0`, `y1`, ..."""
    size = families.FAMILIES[name].size
    sample = torch.zeros(2, 3, size, size)
    with _quiet(), torch.no_grad():
        model = families.build(name)
        found = model(sample)
        names = [f"y{index}" for index in range(len(found) if isinstance(found, tuple) else 1)]
        if exporter == "dynamo":
            torch.onnx.export(
                model,
                (sample,),
                str(path),
                dynamo=True,
                external_data=False,
                verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
                input_names=["x"],
                output_names=names,
            )
        else:
            torch.onnx.export(
                model,
                (sample,),
                str(path),
                dynamo=False,
                opset_version=17,
                dynamic_axes={item: {0: "batch"} for item in ("x", *names)},
                input_names=["x"],
                output_names=names,
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No notices of the exporters, and no fused layers of torch, which the older one cannot write."""
    fast, level = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(level)
