"""What calibration is asked about each quantizer site, and the candidates fitted from the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler.calibration.statistics import Request, Statistics
from qcompiler.quant.groups import CHANNELS, F32, ROWS, GroupTable, fake_quantize
from qcompiler.quant.planner import (
    LinearSamples,
    attention_table,
    linear_axis,
    linear_table,
    probability_quantizer,
    quantize_probability,
)
from qcompiler.quant.row_norm import row_norm
from qcompiler.quant.sites import Role, Site, site_bookkeeping
from qcompiler.relevance.suffix import Operand


@dataclass(frozen=True)
class Candidate:
    """One fitted quantizer of a site.

    Attributes:
        table: Its groups.
        levels: uint8 operands of a probability quantizer, else None.
        bookkeeping: Bit operations per image.
        simulate: From the float operand, as it lies in the graph, to the quantized one.
    """

    table: GroupTable
    levels: NDArray[np.uint8] | None
    bookkeeping: int
    simulate: Callable[[F32], F32]


def operands(model: onnx.ModelProto, sites: Iterable[Site]) -> dict[str, Operand]:
    """The operand of every site, by the site's name."""
    nodes = {node.name: node for node in model.graph.node}
    return {site.name: Operand(site.node, site.index, nodes[site.node].input[site.index]) for site in sites}


def requests(sites: Sequence[Site], operand: dict[str, Operand]) -> tuple[Request, ...]:
    """One request per tensor; linear layers also need ranges and the second moment of their inputs."""
    wanted: dict[str, Request] = {}
    for site in sites:
        tensor = operand[site.name].tensor
        linear = site.role is Role.INPUT
        wanted[tensor] = Request(
            tensor, axes=(CHANNELS, ROWS) if linear else (), moment=linear, normalize=linear
        )
    return tuple(wanted.values())


def fit_candidates(
    site: Site,
    tensor: str,
    statistics: Statistics,
    weight: F32 | None,
    bits: int,
    counts: Sequence[int],
    *,
    integer: bool,
) -> list[Candidate]:
    """Quantizers of one site for each group count; counts that the data does not fill are left out.

    Args:
        site: The site.
        tensor: Name of its tensor.
        statistics: Answers to :func:`requests`.
        weight: Weights ``[C, D]`` of a linear layer, else None.
        bits: Width of the codes.
        counts: Wanted group counts.
        integer: Keep channel groups on integer multiples of one base scale.
    """
    sample = statistics.get(tensor, "sample")
    samples, axis = None, ROWS
    if weight is not None:
        samples = LinearSamples(sample, {axis: statistics.get(tensor, f"ranges{axis}") for axis in (CHANNELS, ROWS)})
        axis = linear_axis(samples, weight, bits, max(counts), integer=integer)
    found: dict[int, Candidate] = {}
    for count in counts:
        levels = None
        if samples is not None and weight is not None:
            table = linear_table(samples, axis, weight, bits, count, integer=integer)
        elif site.role is Role.PROBABILITY:
            table, levels = probability_quantizer(sample, bits, count)
        elif site.role is Role.VALUE:
            table = attention_table(sample, CHANNELS, bits, count)
        elif site.role is Role.QUERY:
            table = attention_table(sample, ROWS, bits, count)
        else:
            table = attention_table(np.ascontiguousarray(sample.swapaxes(-1, -2)), ROWS, bits, count)
        cost = site_bookkeeping(site, table, normalize=site.role is Role.INPUT)
        found.setdefault(table.count, Candidate(table, levels, cost, _simulation(site.role, table, levels)))
    return list(found.values())


def _simulation(role: Role, table: GroupTable, levels: NDArray[np.uint8] | None) -> Callable[[F32], F32]:
    if role is Role.INPUT:

        def linear(x: F32) -> F32:
            norm = row_norm(x)
            return fake_quantize(x * (np.float32(1) / norm), table) * norm

        return linear
    if role is Role.KEY:  # keys lie transposed in the graph

        def key(x: F32) -> F32:
            return np.ascontiguousarray(fake_quantize(x.swapaxes(-1, -2), table).swapaxes(-1, -2))

        return key
    if levels is not None:
        held = levels
        return lambda x: quantize_probability(x, table, held)
    return lambda x: fake_quantize(x, table)
