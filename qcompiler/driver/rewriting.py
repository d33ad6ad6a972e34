"""From a plan to the rewritten graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_graphsurgeon as gs

from qcompiler.ir.functions import FLOAT16, FLOAT32
from qcompiler.ir.passes import Pass, PassReport, run_passes
from qcompiler.ir.verifier import verify
from qcompiler.passes import LOWER, NARROW, QUANTIZE
from qcompiler.passes.correct_bias import CorrectBias
from qcompiler.passes.fold_channel_scales import FoldChannelScales
from qcompiler.passes.quantize_attention import QuantizeAttention
from qcompiler.passes.quantize_linears import QuantizeLinears
from qcompiler.quant.plan import QuantPlan


def rewrite(
    graph: gs.Graph,
    plan: QuantPlan,
    *,
    lower: bool = True,
    verify_each: bool = False,
    activations: str = FLOAT32,
) -> tuple[PassReport, ...]:
    """Run the QUANTIZE passes and, unless ``lower`` is false, the LOWER passes; the graph is edited in place.

    Args:
        graph: The canonical graph.
        plan: How its layers are quantized.
        lower: Whether the graph is lowered.
        verify_each: Check the graph after every pass instead of every stage.
        activations: ``float32``, or ``float16`` for the NARROW passes behind the lowering.

    Raises:
        VerificationError: A pass broke its contract.
    """
    arguments: Mapping[type[Pass], tuple[Any, ...]] = {
        FoldChannelScales: (plan.folds,),
        CorrectBias: (plan.corrections,),
        QuantizeLinears: (plan.linears,),
        QuantizeAttention: (plan.attentions,),
    }
    reports = run_passes(graph, [make(*arguments.get(make, ())) for make in QUANTIZE], verify_each=verify_each)
    verify(graph, "quantized")
    if lower:
        reports += run_passes(graph, [make() for make in LOWER], verify_each=verify_each)
        verify(graph, "lowered")
    if lower and activations == FLOAT16:
        reports += run_passes(graph, [make() for make in NARROW], verify_each=verify_each)
        verify(graph, "narrowed")
    return tuple(reports)
