"""Export of torch models, alone or before a compilation; torch and timm are imported only when it happens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.calibration.preprocess import INTERPOLATIONS, Preprocessing
from qcompiler.calibration.tensor_batches import TensorBatches
from qcompiler.driver.compile import CompileResult, compile_model
from qcompiler.options import CompileOptions
from qcompiler.progress import Progress

if TYPE_CHECKING:
    from qcompiler.models.exporters import Exported


def export_model(model: str, output: Path, weights: Path | None, exporter: str, batch: int | str) -> Exported:
    """Write ``timm:NAME`` as ONNX; the arguments are those of ``qcompiler.models.exporters.export``.

    Raises:
        QcompilerError: Unknown model, weights that do not fit, a missing package, or an output that cannot be written.
    """
    from qcompiler.models import exporters

    return exporters.export(model, output, weights, exporter, batch)


def trained_preprocessing(exported: Exported) -> Preprocessing:
    """The preprocessing that the weights of an exported model were trained with, as far as timm knows it."""
    known = exported.interpolation in INTERPOLATIONS
    return Preprocessing(
        mean=exported.mean,
        std=exported.std,
        interpolation=exported.interpolation if known else "bicubic",
        crop_fraction=exported.crop_fraction,
    )


def export_and_compile(
    module: Any,
    example_inputs: Any = None,
    calibration: Any = None,
    options: CompileOptions | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    output: str | Path | None = None,
    exporter: str = "legacy",
    progress: Progress | None = None,
) -> CompileResult:
    """Export a torch model and compile it; the float model is kept in memory only.

    Args:
        module: A ``torch.nn.Module`` of one image input, exported in evaluation mode with a free batch, or a
            ``torch.onnx.ONNXProgram``.
        example_inputs: A batch of images that the module accepts, float32 [batch, channels, height, width], alone or in
            a tuple; not needed for a program.
        calibration: What ``compile_model`` takes, and also values as the model reads them: a tensor [images, ...], a
            list of batches, or a ``DataLoader``, whose labels are ignored.
        options: What to do; the defaults are those of the command line.
        preprocessing: How image files become values.
        output: Where to write the compiled model; it is loaded again from there and run.
        exporter: ``legacy`` (tracing) or ``dynamo`` (``torch.export``), for modules.
        progress: Told about the stages.

    Returns:
        The model and the report, as ``compile_model`` gives them.

    Raises:
        QcompilerError: One of its subclasses for everything a user can fix; nothing is written then.
    """
    from qcompiler.models.in_memory import float_model

    model = float_model(module, example_inputs, exporter)
    if not (calibration is None or isinstance(calibration, (str, Path)) or hasattr(calibration, "get_next")):
        calibration = TensorBatches(calibration, model.graph.input[0].name)
    return compile_model(model, options, calibration, preprocessing=preprocessing, output=output, progress=progress)
