"""An inspected model file as text."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.table import Table

from qcompiler.report import coverage_text
from qcompiler.report.inspection import Inspection
from qcompiler.report.layer_cells import MEASURED, loss_cell, scheme_cell, share_cell, width_cell
from qcompiler.report.recount import Recount
from qcompiler.report.tables import count, facts, file_size, group_counts, table
from qcompiler.report.text import agreement, bit_operations, calibration, loss, method, sizes

_FORMS = {
    "lowered": "fused integer operators of qcompile",
    "readable": "explicit group quantizers or blocks around float products (to look at, not a fast model)",
    "float": "no quantized layers",
}


def inspection_table(inspection: Inspection) -> Group:
    """One row per quantized layer."""
    rows = (
        (
            layer.name,
            layer.op,
            layer.kind,
            scheme_cell(layer.scheme, layer.block, layer.rotate, layer.weight_block),
            layer.weight_bits,
            width_cell(layer.activation_bits, None, layer.value_bits),
            group_counts(layer.groups) or None,
            None if layer.inner is None else f"{layer.inner} x {layer.outputs}",
            None if layer.stored is None else f"{file_size(layer.weight_bytes)} {layer.stored}",
            None if layer.products is None else count(layer.products),
            share_cell(layer.relevance),
            loss_cell(layer.sensitivity),
        )
        for layer in inspection.layers
    )
    numbers = ("W", "A", "groups", "inner x outputs", "weights", "products", *MEASURED)
    return table("Layers", ("layer", "operator", "kind", "scheme"), numbers, rows, optional=MEASURED)


def inspection_facts(inspection: Inspection, path: Path, size: int) -> Table:
    """The file and where it comes from.

    Args:
        inspection: What was read.
        path: The file.
        size: Its bytes, external data included.
    """
    producer = inspection.producer or "unknown"
    rows = [
        ("file", f"{path}, {file_size(size)}"),
        ("format", f"opset {inspection.opset}, IR version {inspection.ir_version}, written by {producer}"),
        ("form", f"{inspection.form}: {_FORMS[inspection.form]}"),
        ("operators", ", ".join(f"{name} {number}" for name, number in sorted(inspection.operators.items()))),
    ]
    if inspection.activations is not None:
        rows.append(("activations", inspection.activations))
    if inspection.layers:
        rows.append(("recomputed", recomputed(inspection.recount)))
        whole = inspection.recount
        more = "" if whole is None else f", {file_size(whole.weight_bytes)} with their scales and blocks"
        codes = file_size(sum(layer.weight_bytes for layer in inspection.layers))
        rows.append(("weights", f"{codes} in integers{more}"))
    report = inspection.report
    if report is None:
        rows.append(("provenance", "none recorded in the metadata"))
        return facts(rows)
    options = ", ".join(f"{name} {_plain(value)}" for name, value in report.options.items())
    rows += [
        ("provenance", f"qcompile {report.version}: {method(report)}"),
        ("options", options),
        ("calibration", calibration(report.calibration)),
        ("data hash", str(report.calibration.get("sha256") or "unknown")),
        *coverage_text.rows(report.coverage),
        ("agreement", agreement(report.agreement)),
        *([("loss", loss(report.loss))] if report.loss is not None else []),
        ("BOPs", bit_operations(report)),
        ("size", sizes(report)),
    ]
    rows += [("warning", text) for text in report.warnings]
    return facts(rows)


def recomputed(counts: Recount | None) -> str:
    """What the budgets limit, counted again from the file alone."""
    if counts is None:
        return "not possible: the file does not fix the size of a quantized tensor"
    return (
        f"products {counts.fraction_of_w8a8:.4f} of W8A8, bookkeeping {counts.overhead:.4f} of the products, "
        f"{file_size(counts.bytes)}"
    )


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "/".join(map(str, value))
    return "-" if value is None else str(value)
