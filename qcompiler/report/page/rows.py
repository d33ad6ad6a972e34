"""The layers of a report as rows: what each became, joined with what the search knew about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: Its name.
        kind: ``qkv``, ``fc1``, ...
        result: The layer's :class:`~qcompiler.report.values.LayerReport` as plain values; empty where it was not
            quantized.
        relevance: Share of the relevance, 0..1.
        sensitivity: KL divergence in nats by width (``w4``).
        sqnr_db: Signal to quantization noise of its output.
    """

    name: str
    kind: str
    result: Mapping[str, Any] = field(default_factory=dict)
    relevance: float | None = None
    sensitivity: Mapping[str, float | None] = field(default_factory=dict)
    sqnr_db: float | None = None

    @property
    def weight_bits(self) -> int | None:
        """Width of the weights."""
        return self.result.get("weight_bits")

    @property
    def activation_bits(self) -> int | None:
        """Width of the activations."""
        return self.result.get("activation_bits")

    @property
    def groups(self) -> list[int]:
        """Group counts, one per quantizer."""
        return list(self.result.get("groups") or ())

    @property
    def chosen(self) -> dict[str, int]:
        """The widths of the plan, by side: ``{"w": 4, "a": 4}``, or ``{"qk": 4, "v": 5}`` for attention."""
        values = self.result.get("value_bits")
        if values is not None and any(width.startswith("qk") for width in self.sensitivity):
            return {"qk": self.result["activation_bits"], "v": values}
        widths = {"w": self.weight_bits, "a": self.activation_bits}
        return {side: bits for side, bits in widths.items() if bits is not None}


def layer_rows(report: Mapping[str, Any], search: Mapping[str, Any] | None) -> list[LayerRow]:
    """All layers that the report or the search names, in graph order.

    Args:
        report: A :class:`~qcompiler.report.values.CompileReport` as plain values.
        search: A :class:`~qcompiler.report.search.SearchReport` as plain values, or None.
    """
    results = {layer["name"]: layer for layer in report["layers"]}
    analyses = {layer["name"]: layer for layer in (search or {}).get("layers", ())}
    depths = {name: float(layer["depth"]) for name, layer in analyses.items()}
    last = -1.0
    for name in results:
        # The search may know nothing about a layer that was quantized: it stays behind its predecessor.
        last = depths.setdefault(name, last + 0.5 if last == int(last) else last)
    names = [*results, *(name for name in analyses if name not in results)]
    rows = [_row(name, results.get(name, {}), analyses.get(name, {})) for name in names]
    return sorted(rows, key=lambda row: depths[row.name])


def _row(name: str, result: Mapping[str, Any], analysis: Mapping[str, Any]) -> LayerRow:
    return LayerRow(
        name=name,
        kind=str(result.get("kind") or analysis.get("kind") or ""),
        result=result,
        relevance=analysis.get("relevance", result.get("relevance")),
        sensitivity=analysis.get("sensitivity") or {},
        sqnr_db=analysis.get("sqnr_db"),
    )


def widths_of(rows: Iterable[LayerRow]) -> list[str]:
    """Every width that some layer has a sensitivity for: weights first, then activations, narrow ones first."""
    return sorted({width for row in rows for width in row.sensitivity}, key=_order)


def _order(width: str) -> tuple[int, int, str]:
    found = re.fullmatch(r"([wa])(\d+)", width)
    return ("wa".index(found[1]), int(found[2]), width) if found else (2, 0, width)
