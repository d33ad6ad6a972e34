"""The report of a compilation as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from qcompiler.ir.passes import PassReport
from qcompiler.report import coverage_text
from qcompiler.report.latency import LatencyReport
from qcompiler.report.layer_cells import EFFECTIVE, MEASURED, loss_cell, scheme_cell, share_cell, width_cell
from qcompiler.report.tables import count, duration, facts, file_size, group_counts, table
from qcompiler.report.values import CompileReport, LayerReport


def summary(report: CompileReport, model: Path, output: Path) -> Table:
    """What every compilation ends with: agreement, loss, bit operations, file size, where the result lies.

    Widths are told apart where layers differ, the loss where the plan was tried out.

    Args:
        report: The report.
        model: The float model's file.
        output: The written file.
    """
    rows = [
        ("model", f"{model}: {method(report)}"),
        *([("widths", widths(report.layers))] if report.widths.startswith("mixed") else []),
        ("calibration", calibration(report.calibration)),
        *coverage_text.rows(report.coverage),
        ("agreement", agreement(report.agreement)),
        *([("loss", loss(report.loss))] if report.loss is not None else []),
        ("BOPs", bit_operations(report)),
        ("size", sizes(report)),
        *([("latency", latency(report.latency))] if report.latency is not None else []),
        ("written", f"{output} ({duration(sum(report.seconds.values()))})" if report.seconds else str(output)),
    ]
    return facts(rows)


def layer_table(layers: Iterable[LayerReport]) -> Group:
    """One row per quantized layer; bit operations are those of one image."""
    layers = tuple(layers)
    rows = (
        (
            layer.name,
            f"{layer.kind} (fixed)" if layer.fixed else layer.kind,
            scheme_cell(layer.scheme, layer.block, layer.rotate, layer.weight_block),
            width_cell(layer.weight_bits, layer.effective_weight_bits),
            width_cell(layer.activation_bits, layer.effective_activation_bits, layer.value_bits),
            group_counts(layer.groups) or None,
            f"{layer.tokens} x {layer.inner} x {layer.outputs}",
            count(layer.products),
            count(layer.bookkeeping),
            share_cell(layer.relevance),
            loss_cell(layer.sensitivity),
        )
        for layer in layers
    )
    numbers = ("W", "A", "groups", "rows x inner x outputs", "products", "bookkeeping", *MEASURED)
    title = f"Layers ({EFFECTIVE})" if any(layer.block or layer.weight_block for layer in layers) else "Layers"
    return table(title, ("layer", "kind", "scheme"), numbers, rows, optional=MEASURED)


def pass_table(passes: Iterable[PassReport]) -> Group:
    """What each pass did, in the order in which they ran."""
    rows = ((item.name, item.applied, len(item.refusals), item.nodes_before, item.nodes_after) for item in passes)
    return table("Passes", ("pass",), ("applied", "refused", "nodes before", "after"), rows)


def stage_table(seconds: Mapping[str, float]) -> Group:
    """Time per stage."""
    return table("Time", ("stage",), ("seconds",), ((stage, f"{value:.2f}") for stage, value in seconds.items()))


def refusal_table(passes: Iterable[PassReport], name: str) -> Group:
    """The places that the pass ``name`` looked at and left alone; the last column is the value at fault."""
    rows = (
        (refusal.node, refusal.reason, refusal.value)
        for item in passes
        if item.name == name
        for refusal in item.refusals
    )
    return table(f"Refusals of {name}", ("node", "reason", "value"), (), rows)


def method(report: CompileReport) -> str:
    """Method, widths and grouping in a few words."""
    if not report.layers:
        return "canonical float graph"
    words = [report.method, report.widths]
    if any(layer.fixed for layer in report.layers):
        words.append(f"first and last layer at {report.options.get('first_last_bits', '?')} bits")
    words.append(f"{len(report.layers)} quantized layers")
    return ", ".join(words)


def widths(layers: Iterable[LayerReport]) -> str:
    """How many of the layers whose widths are free have which, the most frequent first.

    ``12 x w4a4, 4 x w3a4; attention 3 x 4/5``: of attention, queries and keys before values and probabilities.
    """
    free = [layer for layer in layers if not layer.fixed]
    linear = Counter(f"w{layer.weight_bits}a{layer.activation_bits}" for layer in free if layer.weight_bits is not None)
    blocks = Counter(
        width_cell(layer.activation_bits, None, layer.value_bits) for layer in free if layer.weight_bits is None
    )
    parts = [", ".join(f"{number} x {name}" for name, number in found.most_common()) for found in (linear, blocks)]
    return parts[0] + (f"; attention {parts[1]}" if parts[1] else "")


def loss(value: float) -> str:
    """Divergence of the plan that was chosen, as the search measured it."""
    return f"KL {value:.4f} nats of the chosen plan on the images that plans were tried out on"


def calibration(source: Mapping[str, object]) -> str:
    """Where the statistics come from, with the preprocessing in full."""
    text = str(source.get("description") or source.get("kind") or "none")
    preprocessing = source.get("preprocessing")
    if isinstance(preprocessing, Mapping):
        text += "; " + ", ".join(f"{name} {_plain(value)}" for name, value in preprocessing.items())
    return text


def agreement(measured: Mapping[str, Any] | None) -> str:
    """How far the outputs of float and quantized model are apart on the calibration images, the worst where there are
    several, and how often they predict the same where outputs are scores of classes.
    """
    if measured is None:
        return "not measured: nothing is quantized at this stage"
    images = f"{measured['images']} calibration images"
    outputs = measured.get("outputs") or {}
    error = f"relative error {measured['relative_error']:.4f}"
    if len(outputs) > 1:
        error += f" in output '{measured['worst']}', the worst of {len(outputs)}"
    if measured["agreement"] is None:
        psnr = "" if measured.get("psnr") is None else f"; PSNR {measured['psnr']:.1f} dB"
        return f"{error} on {images}{psnr}"
    agreed = f"{measured['agreement']:.1f} % +- {measured['agreement_se']:.1f}"
    return f"float and quantized agree on {agreed} of {images}; KL {measured['kl']:.4f}, {error}"


def bit_operations(report: CompileReport) -> str:
    """Products, bookkeeping and fixed layers of one image, and the budgets' fractions."""
    if not report.layers:
        return "none: nothing is quantized at this stage"
    bops = report.bops
    return (
        f"{count(bops.products)} products ({bops.fraction_of_w8a8:.4f} of W8A8) "
        f"+ {count(bops.bookkeeping)} bookkeeping ({bops.overhead:.4f} of the products) "
        f"+ {count(bops.fixed)} fixed layers "
        f"= {count(bops.total)} ({bops.fraction_of_float:.4f} of float32)"
    )


def sizes(report: CompileReport) -> str:
    """File size before and after."""
    return f"{file_size(report.bytes_before)} -> {file_size(report.bytes_after)} ({report.size_ratio:.3f} of float)"


def latency(found: LatencyReport) -> str:
    """Time of the model, predicted and measured, and what narrower widths are worth."""
    measured = "" if found.measured is None else f", measured {found.measured:.3f}"
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    return (
        f"predicted {found.predicted:.3f}{measured} of the float model's time "
        f"(one image, {threads}; at most {found.budget:g}); {found.widths}"
    )


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return str(value)
