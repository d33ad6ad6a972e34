"""An analysis as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table

from qcompiler.report.analysis import AnalysisResult
from qcompiler.report.search import LayerAnalysis
from qcompiler.report.tables import duration, facts, table
from qcompiler.report.text import calibration

# What stands in front of the bits of a width, in the order of the columns.
_SIDES = ("w", "a", "qk", "v")


def sensitivity_tables(result: AnalysisResult) -> list[Group]:
    """Relevance and KL divergence per width: one table of the linear layers, one of the attention blocks."""
    linear = [layer for layer in result.layers if layer.kind != "attention"]
    attention = [layer for layer in result.layers if layer.kind == "attention"]
    return [
        _table(f"{title}: relevance, and KL divergence in nats where one side of a layer alone has so many bits", part)
        for title, part in (("Linear layers", linear), ("Attention", attention))
        if part
    ]


def analysis_facts(result: AnalysisResult, model: Path) -> Table:
    """What every analysis ends with.

    Args:
        result: The analysis.
        model: The model's file.
    """
    arrives = ", ".join(f"{place} {value:.3g}" for place, value in result.conservation.items())
    return facts(
        [
            ("model", f"{model}: {len(result.layers)} layers"),
            ("calibration", calibration(result.calibration)),
            ("relevance", f"rule {result.lrp_rule}" + (f"; of the prediction's arrives: {arrives}" if arrives else "")),
            ("time", duration(sum(result.seconds.values()))),
        ]
    )


def _table(title: str, layers: Sequence[LayerAnalysis]) -> Group:
    widths = sorted({width for layer in layers for width in layer.sensitivity}, key=_place)
    rows = (
        (
            layer.name,
            layer.kind,
            None if layer.relevance is None else f"{layer.relevance:.4f}",
            *(_nats(layer.sensitivity.get(width)) for width in widths),
        )
        for layer in layers
    )
    return table(title, ("layer", "kind"), ("relevance", *widths), rows)


def _place(width: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\D+)(\d+)", width)
    assert found is not None
    return _SIDES.index(found[1]), int(found[2])


def _nats(loss: float | None) -> str | None:
    return None if loss is None else f"{loss:.2e}"
