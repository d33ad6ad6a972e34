"""One family's model compiled, run and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from qcompiler import CompileOptions, compile_model
from qcompiler.driver.runtime import quantized_session
from qcompiler.report.coverage import FloatProduct

IMAGES = 8
COMPARED = 40


@dataclass(frozen=True)
class Outcome:
    """What became of a model.

    Attributes:
        linears: Linear layers on integers.
        attentions: Attention blocks on integers.
        left: Products in float, with their reasons.
        share: Quantized share of the multiply-accumulates.
        error: Largest error of an output, relative to the norm of the float one.
        psnr: Least peak signal-to-noise ratio of the outputs that are no class scores, in dB; None without such.
        deviations: The same of the lowered model against the readable graph of its plan, image by image, the least
            first: both add float32 in another order, and a value on the edge between two codes may fall on either
            side, which moves an image by a step of the quantizer.
        names: Outputs.
        warnings: What the user is told.
    """

    linears: int
    attentions: int
    left: tuple[FloatProduct, ...]
    share: float
    error: float
    psnr: float | None
    deviations: tuple[float, ...]
    names: tuple[str, ...]
    warnings: tuple[str, ...]


def compiled(model: Path, folder: Path, **options: object) -> Outcome:
    """Compile a model on random images, and compare its float, readable and lowered forms on others.

    Args:
        model: A float model with an input `x` of square images.
        folder: An empty folder for what is written.
        options: Options of the compilation besides those that make it quick.
    """
    size = onnx.load(model).graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    draw = np.random.default_rng(1)
    np.savez(folder / "images.npz", x=draw.standard_normal((IMAGES, 3, size, size)).astype(np.float32))
    feed = {"x": draw.standard_normal((COMPARED, 3, size, size)).astype(np.float32)}
    quick = {"executor": "inline", "threads": 1, "images": IMAGES, "probe_images": 2, "trial_images": 4}
    images = str(folder / "images.npz")
    plan = folder / "plan.json"
    searched = compile_model(model, CompileOptions(**quick, **options, save_plan=plan), images)
    # Both forms from the plan's file: their weights are fitted in the same way.
    lowered = compile_model(model, CompileOptions(**quick, bits_file=plan), images)
    readable = compile_model(model, CompileOptions(**quick, bits_file=plan, stop_after="quantize"), images)
    report = lowered.report
    assert report.coverage is not None
    names = tuple(output.name for output in lowered.model.graph.output)
    expected = _plain(onnx.load(model)).run(names, feed)
    found = quantized_session(lowered.model, 1).run(names, feed)
    simulated = _plain(readable.model).run(names, feed)
    return Outcome(
        linears=sum(layer.kind != "attention" for layer in report.layers),
        attentions=sum(layer.kind == "attention" for layer in report.layers),
        left=report.coverage.left,
        share=report.coverage.share,
        error=_distance(found, expected),
        psnr=min((_psnr(*pair) for pair in zip(found, expected, strict=True) if pair[0].ndim > 2), default=None),
        deviations=tuple(sorted(_per_image(found, simulated))),
        names=names,
        warnings=searched.report.warnings,
    )


def _plain(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session without optimisations: what the graph says, node by node."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _distance(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    pairs = zip(found, expected, strict=True)
    return max(float(np.linalg.norm(left - right) / np.linalg.norm(right)) for left, right in pairs)


def _psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return float(20 * np.log10(np.ptp(expected) / np.sqrt(np.mean((found - expected) ** 2))))


def _per_image(found: list[np.ndarray], expected: list[np.ndarray]) -> list[float]:
    return [_distance([y[i] for y in found], [y[i] for y in expected]) for i in range(COMPARED)]
