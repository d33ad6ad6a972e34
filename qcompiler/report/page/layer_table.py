"""The layers as a table that can be sorted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from qcompiler.report.layer_cells import scheme_cell, width_cell
from qcompiler.report.page.markup import Markup
from qcompiler.report.page.plain import exact, plain
from qcompiler.report.page.rows import LayerRow
from qcompiler.report.page.tables import Cell, number, sortable
from qcompiler.report.tables import count, group_counts

# What has a column of its own; whatever else a layer's report holds gets one as it is.
_KNOWN = {
    "name", "kind", "weight_bits", "activation_bits", "scheme", "groups", "tokens", "inner", "outputs", "products",
    "bookkeeping", "fixed", "value_bits", "block", "rotate", "weight_block", "effective_weight_bits",
    "effective_activation_bits", "relevance", "sensitivity",
}  # fmt: skip


def layer_table(rows: Sequence[LayerRow]) -> Markup:
    """One row per layer; a column appears where some layer has its value.

    Args:
        rows: The layers in graph order.
    """
    sensitive = any(row.sensitivity for row in rows)
    relevant = any(row.relevance is not None for row in rows)
    predicted = any(row.result.get("sensitivity") is not None for row in rows)
    noisy = any(row.sqnr_db is not None for row in rows)
    further = list(dict.fromkeys(key for row in rows for key in row.result if key not in _KNOWN))
    heads = ["depth", "W bits", "A bits", "groups", "rows x inner x outputs", "products", "bookkeeping"]
    heads += ["relevance %"] if relevant else []
    heads += ["KL at W", "KL at A"] if sensitive else []
    heads += ["KL alone"] if predicted else []
    heads += ["SQNR dB"] if noisy else []
    heads += [key.replace("_", " ") for key in further]

    def cells(depth: int, row: LayerRow) -> Iterable[str | Cell]:
        result = row.result
        blocks = result.get("block", 0), result.get("rotate", 1), result.get("weight_block", 0)
        yield from (
            row.name,
            f"{row.kind} (fixed)" if result.get("fixed") else row.kind,
            scheme_cell(str(result.get("scheme", "-")), *blocks),
        )
        yield number(depth, str(depth))
        yield _width(row.weight_bits, result.get("effective_weight_bits"))
        yield _width(row.activation_bits, result.get("effective_activation_bits"), result.get("value_bits"))
        yield number(float(sum(row.groups)) if row.groups else None, group_counts(row.groups))
        shape = [result[key] for key in ("tokens", "inner", "outputs") if result]
        yield number(float(math.prod(shape)) if shape else None, " x ".join(map(str, shape)))
        for key in ("products", "bookkeeping"):
            value = result.get(key)
            yield number(value, None if value is None else count(value))
        if relevant:
            yield number(None if row.relevance is None else 100 * row.relevance)
        if sensitive:
            yield from (
                number(row.sensitivity.get(f"{side}{row.chosen[side]}") if side in row.chosen else None)
                for side in "wa"
            )
        if predicted:
            yield number(result.get("sensitivity"))
        if noisy:
            yield number(row.sqnr_db, None if row.sqnr_db is None else f"{row.sqnr_db:.1f}")
        yield from (_further(result.get(key)) for key in further)

    return sortable(("layer", "kind", "scheme"), heads, (tuple(cells(*item)) for item in enumerate(rows)))


def _width(bits: int | None, effective: float | None, value_bits: int | None = None) -> Cell:
    return number(bits if effective is None else effective, width_cell(bits, effective, value_bits))


def _further(value: object) -> Cell:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value, exact(value))
    return Cell(plain(value), None)
