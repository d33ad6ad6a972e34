"""From a torch module to an ONNX file, by either of torch's exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from qcompiler.errors import OptionError
from qcompiler.models.atomic import written_beside
from qcompiler.models.extras import require

EXPORTERS = ("legacy", "dynamo")
LEGACY_OPSET, DYNAMO_OPSET = 17, 20
MAX_BATCH = 1024  # torch.export wants an upper bound for a symbolic size


def write_onnx(
    model: Any,
    image_shape: tuple[int, int, int],
    output: Path,
    exporter: str = "legacy",
    batch: int | str = "symbolic",
) -> None:
    """Export `model` with the input `input` float32 [batch, *image_shape] and the output `logits`.

    Args:
        model: a torch module in evaluation mode.
        image_shape: channels, rows, columns.
        output: where the file goes; written under another name first, then renamed.
        exporter: "legacy" traces (opset 17), "dynamo" goes through torch.export (opset 20).
        batch: "symbolic", or a fixed batch size.

    Raises:
        OptionError: unknown exporter, a batch that makes no sense, a missing package, or a model that torch refuses.
        OutputPathError: `output` cannot be written.
    """
    symbolic = batch == "symbolic"
    if not symbolic and not (isinstance(batch, int) and batch > 0):
        raise OptionError(f"--batch {batch!r}: give a positive number or 'symbolic'")
    torch = require("torch", "exporting")
    # A sample of 2: torch.export takes a size of 1 for a constant.
    write_module(model, torch.zeros(2 if symbolic else batch, *image_shape), output, exporter, symbolic)


def write_module(model: Any, sample: Any, output: Path, exporter: str = "legacy", symbolic: bool = True) -> None:
    """Export any torch module of one input as `input` -> `logits`; further outputs keep torch's names.

    Args:
        model: a torch module in evaluation mode.
        sample: a tensor that it accepts, batch first.
        output: where the file goes; written under another name first, then renamed.
        exporter: "legacy" or "dynamo", as :func:`write_onnx` has them.
        symbolic: leave the batch free; a sample of one image is doubled for "dynamo", which would take it for fixed.

    Raises:
        OptionError: unknown exporter, a missing package, or a model that torch refuses.
        OutputPathError: `output` cannot be written.
    """
    if exporter not in EXPORTERS:
        raise OptionError(f"--exporter {exporter!r}: choose one of {', '.join(EXPORTERS)}")
    torch = require("torch", "exporting")
    if exporter == "dynamo":
        require("onnxscript", "torch's dynamo exporter")
        if symbolic and sample.shape[0] == 1:
            sample = torch.cat([sample, sample])
    names = {"input_names": ["input"], "output_names": ["logits"]}
    with written_beside(output) as path, _quiet(), torch.no_grad():
        try:
            if exporter == "dynamo":
                sizes = ({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},) if symbolic else None
                torch.onnx.export(
                    model,
                    (sample,),
                    str(path),
                    dynamo=True,
                    external_data=_bytes(model) > 2**31 - 2**24,
                    opset_version=DYNAMO_OPSET,
                    dynamic_shapes=sizes,
                    verbose=False,
                    **names,
                )
                _drop_stack_traces(path)
            else:
                axes = {"input": {0: "batch"}, "logits": {0: "batch"}} if symbolic else None
                torch.onnx.export(
                    model, (sample,), str(path), dynamo=False, opset_version=LEGACY_OPSET, dynamic_axes=axes, **names
                )
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OptionError(f"torch's {exporter} exporter failed: {first}; try the other one") from error


def _drop_stack_traces(path: Path) -> None:
    """Remove the Python stack of every node: it names the exporting machine's folders; the module scopes stay."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


def _bytes(model: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's deprecation and progress messages, which say nothing about the user's model."""
    level = logging.getLogger("torch").level
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch").setLevel(level)
