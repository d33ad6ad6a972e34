"""An inspected model file as text."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.table import Table

from qcompiler.report.inspection import Inspection
from qcompiler.report.tables import count, facts, file_size, group_counts, table
from qcompiler.report.text import agreement, bit_operations, calibration, method, sizes

_FORMS = {
    "lowered": "fused integer operators of qcompile",
    "readable": "explicit group quantizers around float products (a look at what was quantized, not a fast model)",
    "float": "no quantized layers",
}


def inspection_table(inspection: Inspection) -> Group:
    """One row per quantized layer."""
    rows = (
        (
            layer.name,
            layer.op,
            layer.kind,
            layer.scheme,
            layer.weight_bits,
            layer.activation_bits,
            group_counts(layer.groups),
            None if layer.inner is None else f"{layer.inner} x {layer.outputs}",
            None if layer.stored is None else f"{file_size(layer.weight_bytes)} {layer.stored}",
            None if layer.products is None else count(layer.products),
        )
        for layer in inspection.layers
    )
    numbers = ("W", "A", "groups", "inner x outputs", "weights", "products")
    return table("Layers", ("layer", "operator", "kind", "scheme"), numbers, rows)


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
    if inspection.layers:
        rows.append(("weights", f"{file_size(sum(layer.weight_bytes for layer in inspection.layers))} in integers"))
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
        ("agreement", agreement(report.agreement)),
        ("BOPs", bit_operations(report)),
        ("size", sizes(report)),
    ]
    rows += [("warning", text) for text in report.warnings]
    return facts(rows)


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "/".join(map(str, value))
    return "-" if value is None else str(value)
