"""What a file claims to cost, against the count from its nodes and constants alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from qcompiler.errors import UnsupportedModelError
from qcompiler.report.inspected_layer import inspected_layer
from qcompiler.report.metadata import read_layer, read_report
from qcompiler.report.reading.finding import find_layers
from qcompiler.report.reading.layers import FoundLayer, FoundLinear, FoundProduct
from qcompiler.report.reading.wiring import Wiring
from qcompiler.report.recount import LayerCount, count_layers
from qcompiler.report.values import CompileReport, LayerReport
from qcompiler.verification.checks import Check, judged

_TOLERANCE = 1e-9  # of a budget: what float arithmetic may add to a plan that meets it exactly
_W8A8 = 8 * 8


def check_budget(model: onnx.ModelProto) -> Check:
    """Widths and bit operations of every layer, their sums, and the budgets that the model was compiled with."""
    report = read_report(model)
    if report is None:
        return Check("budget", "skipped", "the file carries no report to compare the count with")
    try:
        counts = count_layers(model)
    except UnsupportedModelError as error:
        return Check("budget", "skipped", str(error))
    layers = find_layers(Wiring(model.graph))
    claims = {layer.name: layer for layer in report.layers}
    problems: list[str] = []
    spent: list[LayerCount] = []
    for count, layer in zip(counts, layers, strict=True):
        claim = claims.pop(count.name, None)
        found = count if claim is None else _at_claimed_width(count, layer, claim)
        spent.append(found)
        if claim is not None:
            problems += _layer_problems(found, layer, claim)
        elif not isinstance(layer, FoundProduct):
            problems.append(f"layer '{count.name}' is not in the report")
    # In the readable form an attention block is two products of other names: only their sums can be compared.
    in_parts = any(isinstance(layer, FoundProduct) for layer in layers)
    problems += [
        f"layer '{name}' of the report is not in the graph"
        for name, claim in claims.items()
        if not (in_parts and claim.kind == "attention")
    ]
    problems += _sum_problems(spent, report)
    problems += _limit_problems(spent, report, model)
    free = [count for count in spent if not count.fixed]
    fraction = _fraction(free)
    return judged("budget", problems, f"products {fraction:.4f} of W8A8, recomputed from {len(counts)} layers")


def _at_claimed_width(count: LayerCount, layer: FoundLayer, claim: LayerReport) -> LayerCount:
    """The count at the width that a weight was given, where its codes happen to fit a narrower one."""
    if not isinstance(layer, FoundLinear) or not claim.weight_bits or claim.weight_bits <= layer.weight.bits:
        return count
    products = count.products // layer.weight.bits * claim.weight_bits
    return LayerCount(count.name, count.macs, products, count.bookkeeping, count.fixed)


def _layer_problems(count: LayerCount, layer: FoundLayer, claim: LayerReport) -> Iterator[str]:
    found = inspected_layer(layer)
    pairs = (
        ("activation bits", claim.activation_bits, found.activation_bits),
        ("value bits", claim.value_bits, found.value_bits),
        ("channels in a block", claim.block, found.block),
        ("products", claim.products, count.products),
        ("bookkeeping", claim.bookkeeping, count.bookkeeping),
    )
    for what, claimed, counted in pairs:
        if claimed != counted:
            yield f"layer '{claim.name}' claims {claimed} {what} and has {counted}"
    noted = read_layer(layer.node)
    if noted is not None and noted != claim:
        yield f"the metadata of node '{claim.name}' and the report differ"


def _sum_problems(counts: list[LayerCount], report: CompileReport) -> Iterator[str]:
    free = [count for count in counts if not count.fixed]
    pairs = (
        ("products", report.bops.products, sum(count.products for count in free)),
        ("products at W8A8", report.bops.products_w8a8, sum(count.macs for count in free) * _W8A8),
        ("bookkeeping", report.bops.bookkeeping, sum(count.bookkeeping for count in free)),
        ("fixed", report.bops.fixed, sum(count.products + count.bookkeeping for count in counts if count.fixed)),
    )
    for what, claimed, counted in pairs:
        if claimed != counted:
            yield f"the report claims {claimed} bit operations ({what}), and the file has {counted}"


def _limit_problems(counts: list[LayerCount], report: CompileReport, model: onnx.ModelProto) -> Iterator[str]:
    free = [count for count in counts if not count.fixed]
    products = sum(count.products for count in free)
    overhead = sum(count.bookkeeping for count in free) / products if products else 0.0
    size = model.ByteSize() / report.bytes_before if report.bytes_before else 0.0
    limits = (
        ("bop_budget", _fraction(free)),
        ("overhead_budget", overhead),
        ("size_budget", size),
    )
    for option, spent in limits:
        limit = _number(report.options, option)
        if limit is not None and spent > limit * (1 + _TOLERANCE):
            yield f"the model costs {spent:.4f} and was compiled under --{option.replace('_', '-')} {limit:g}"


def _fraction(free: list[LayerCount]) -> float:
    reference = sum(count.macs for count in free) * _W8A8
    return sum(count.products for count in free) / reference if reference else 0.0


def _number(options: Mapping[str, object], name: str) -> float | None:
    value = options.get(name)
    return float(value) if isinstance(value, (int, float)) else None
