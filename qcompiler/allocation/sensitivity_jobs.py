"""Which candidates are measured: one job per quantized operand, a few of its candidates as variants."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from qcompiler.allocation.attention_candidates import AttentionCandidate
from qcompiler.allocation.candidates import InputCandidate, LinearCandidates, WeightCandidate
from qcompiler.ir.structure import AttentionBlock
from qcompiler.quant.blocks import fake_quantize_blocks, fake_quantize_values
from qcompiler.quant.groups import F32, fake_quantize
from qcompiler.quant.plan import BlockAttentionPlan
from qcompiler.quant.planner import quantize_probability
from qcompiler.relevance.jobs import SensitivityJob, Simulation, Variant
from qcompiler.relevance.suffix import Operand

# Operands of an attention block, and the product that reads each.
ATTENTION_ROLES = {"query": "scores", "key": "scores", "probability": "mixing", "value": "mixing"}


@dataclass(frozen=True)
class Transposed:
    """A simulation of a matrix that lies transposed in the graph."""

    inner: Simulation

    def __call__(self, x: F32) -> F32:
        """Shape and dtype of ``x``."""
        return np.ascontiguousarray(self.inner(np.ascontiguousarray(x.swapaxes(-1, -2))).swapaxes(-1, -2))


def nearest_widths(widths: Iterable[int], centre: int, count: int) -> tuple[int, ...]:
    """The ``count`` widths nearest to ``centre``, narrow ones first where two are equally near."""
    return tuple(sorted(sorted(set(widths), key=lambda bits: (abs(bits - centre), bits))[:count]))


def best_inputs(candidates: LinearCandidates, widths: Sequence[int], centre: int) -> list[int]:
    """Indices of the input candidates of least error: one for each width, at ``centre`` one for each family."""
    return _best(candidates.inputs, widths, centre)


def best_weights(candidates: LinearCandidates, widths: Sequence[int], centre: int) -> list[int]:
    """Likewise for weights."""
    return _best(candidates.weights, widths, centre)


def _best(items: Sequence[InputCandidate | WeightCandidate], widths: Sequence[int], centre: int) -> list[int]:
    best: dict[Hashable, int] = {}
    for i in sorted(range(len(items)), key=lambda i: items[i].error):
        if items[i].bits not in widths:
            continue
        best.setdefault(items[i].bits, i)
        if items[i].bits == centre:
            best.setdefault(items[i].family, i)
    return sorted(set(best.values()))


def input_job(candidates: LinearCandidates, operand: Operand, measured: Sequence[int]) -> SensitivityJob:
    """Quantize only the input of a linear layer, with the candidates of these indices."""
    layer = candidates.layer
    variants = tuple(Variant(simulate=candidates.inputs[i].item) for i in measured)
    return SensitivityJob(f"{layer.name}:input", operand, layer.weight, layer.output, variants)


def weight_job(candidates: LinearCandidates, operand: Operand, measured: Sequence[int]) -> SensitivityJob:
    """Quantize only the weight of a linear layer, with the candidates of these indices."""
    layer = candidates.layer
    variants = tuple(Variant(weight=candidates.rounded(candidates.weights[i])) for i in measured)
    return SensitivityJob(f"{layer.name}:weight", operand, layer.weight, layer.output, variants)


def attention_jobs(
    block: AttentionBlock,
    measured: Sequence[AttentionCandidate],
    operands: Mapping[str, Operand],
    outputs: Mapping[str, str],
) -> Iterator[SensitivityJob]:
    """Quantize one operand of an attention block at a time.

    Args:
        block: The block.
        measured: Candidates to measure.
        operands: Operand of each role.
        outputs: Result of the node with a name.
    """
    for role, node in ATTENTION_ROLES.items():
        variants = tuple(Variant(simulate=_simulation(item, role)) for item in measured)
        output = outputs[getattr(block, node)]
        yield SensitivityJob(f"{block.softmax}:{role}", operands[role], None, output, variants)


def _simulation(candidate: AttentionCandidate, role: str) -> Simulation:
    plan = candidate.plan
    if role == "probability":
        return partial(quantize_probability, table=plan.probability, levels=plan.levels)
    if isinstance(plan, BlockAttentionPlan):
        if role == "value":
            return partial(fake_quantize_values, quantizer=plan.value)
        rows: Simulation = partial(fake_quantize_blocks, quantizer=plan.query_key)
    else:
        rows = partial(fake_quantize, table=getattr(plan, role))
    return Transposed(rows) if role == "key" else rows
