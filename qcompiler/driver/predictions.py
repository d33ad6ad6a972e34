"""Bias correction of the layers that write class scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.float_session import FloatSession
from qcompiler.driver.runtime import quantized_session
from qcompiler.driver.trial import built
from qcompiler.evaluation.runs import RunAll, outputs_of
from qcompiler.ir.structure import Structure
from qcompiler.ir.weight_files import WeightFiles
from qcompiler.progress import Progress
from qcompiler.quant.plan import QuantPlan
from qcompiler.quant.prediction_bias import F64, bias_correction

IMAGES = 512  # most that are looked at: more cannot tell the mean better than it matters


def predicting_layers(model: onnx.ModelProto, structure: Structure) -> dict[str, str]:
    """Linear layers whose result is an output of class scores, one row per image: output -> name of the layer."""
    flat = {item.name for item in model.graph.output if len(item.type.tensor_type.shape.dim) == 2}
    return {layer.output: layer.name for layer in structure.linears if layer.output in flat}


def correct_predictions(
    plan: QuantPlan,
    layers: Mapping[str, str],
    model: onnx.ModelProto,
    float_model: FloatSession,
    reader: CalibrationReader,
    images: int | None,
    threads: int,
    progress: Progress,
) -> QuantPlan:
    """Add to a plan what its predictions are off by on average, where that helps.

    Args:
        plan: The plan.
        layers: What :func:`predicting_layers` found.
        model: Canonical float model.
        float_model: Runs the float model.
        reader: The images.
        images: How many of them to look at; None for all there are.
        threads: Threads of ONNX Runtime, 0 for all cores.
        progress: Told about every image.

    Raises:
        NonFiniteError: A model gives NaN or infinity.
    """
    names = list(layers)
    reference: dict[str, list[F64]] = {name: [] for name in names}
    found: dict[str, list[F64]] = {name: [] for name in names}
    with WeightFiles() as files:
        session = quantized_session(built(model, plan, files), threads)
        left = min(images or IMAGES, IMAGES)
        reader.rewind()
        for feed in iter(reader.get_next, None):
            count = min(len(next(iter(feed.values()))), left)
            for label, run, kept in (("float", float_model, reference), ("quantized", session, found)):
                for name, values in outputs_of(_run_of(run, names), feed, count, label).items():
                    kept[name].append(values)
            progress.advance(count)
            left -= count
            if not left:
                break
    corrections = dict(plan.corrections)
    for name, layer in layers.items():
        correction = bias_correction(np.concatenate(reference[name]), np.concatenate(found[name]))
        if correction is not None:
            corrections[layer] = correction
    return replace(plan, corrections=corrections)


def _run_of(session: Any, names: list[str]) -> RunAll:
    return lambda feed: dict(zip(names, session.run(names, dict(feed)), strict=True))
