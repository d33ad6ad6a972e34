"""What a plan does to single layers, on the calibration samples: noise of the outputs, channels of folded norms."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.driver.realise import Planned, Realiser
from qcompiler.ir.weight_files import release
from qcompiler.quant.channelwise import folded_input
from qcompiler.quant.groups import F32
from qcompiler.quant.inputs import LinearInput
from qcompiler.report.search import FoldedNorm

INSTANCES_TRIED = 4
LEAST = 1e-20  # of a relative squared error: 200 dB is no noise at all


def layer_sqnr(realiser: Realiser, planned: Planned) -> dict[str, float]:
    """Signal to quantization noise of every linear layer's output under a plan, in dB, by the layer's name.

    Inputs are those of the float network, so the noise is the layer's own; every token counts alike.
    """
    found = {}
    for layer in realiser.structure.linears:
        plan = planned.plan.linears[layer.name]
        fold = planned.plan.folds.get(realiser.norms.get(layer.name, "")) if not plan.normalize else None
        item = LinearInput(plan.input, plan.normalize, fold)
        seen, quantized = item.rows(realiser.input_samples(layer).sample[:INSTANCES_TRIED])
        wanted = seen @ item.weight(realiser.weights[layer.name])
        release(realiser.weights[layer.name])
        noise = quantized @ plan.weight.dequantized() - wanted
        power = float((wanted**2).sum(dtype=np.float64)) or 1.0
        found[layer.name] = -10 * math.log10(max(float((noise**2).sum(dtype=np.float64)) / power, LEAST))
    return found


def folded_norms(realiser: Realiser, planned: Planned) -> tuple[FoldedNorm, ...]:
    """Ranges of the channels of every folded normalisation before and after folding, in graph order."""
    found = []
    for layer in realiser.structure.linears:
        fold = planned.plan.folds.get(realiser.norms.get(layer.name, ""))
        if fold is not None:
            sample = realiser.input_samples(layer).sample
            found.append(FoldedNorm(fold.norm, _ranges(sample), _ranges(folded_input(sample, fold))))
    return tuple(found)


def _ranges(x: F32) -> tuple[float, ...]:
    rows = x.reshape(-1, x.shape[-1])
    return tuple(float(value) for value in rows.max(axis=0) - rows.min(axis=0))
