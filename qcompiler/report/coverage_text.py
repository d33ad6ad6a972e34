"""How much of a model is quantized, as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group

from qcompiler.report.coverage import Coverage, FloatProduct
from qcompiler.report.tables import count, table

# Below this share the user is warned: most of the model's time and energy stay what they were.
ENOUGH = 0.5
_NAMED = 3


def quantized_share(coverage: Coverage) -> str:
    """``97.3 % of 1.26 G multiply-accumulates of one image``."""
    return f"{percent(coverage)} of {count(coverage.macs)} multiply-accumulates of one image"


def left_in_float(coverage: Coverage) -> str:
    """The products that stay in float in one line: per reason how many, their share, and the first names."""
    parts = []
    for reason, items in coverage.by_reason().items():
        macs = sum(item.macs or 0 for item in items)
        share = f", {100 * macs / coverage.macs:.1f} %" if coverage.macs else ""
        parts.append(f"{len(items)} x {reason} ({_names(items)}{share})")
    return "; ".join(parts)


def float_table(coverage: Coverage) -> Group:
    """One row per product that stays in float."""
    rows = (
        (item.name, item.op, item.reason, None if item.macs is None else count(item.macs)) for item in coverage.left
    )
    return table("Products left in float", ("node", "operator", "reason"), ("multiply-accumulates",), rows)


def rows(coverage: Coverage | None) -> list[tuple[str, str]]:
    """Labelled lines for a summary; none where nothing is known."""
    if coverage is None:
        return []
    left = [("in float", left_in_float(coverage))] if coverage.left else []
    return [("quantized", quantized_share(coverage)), *left]


def warning(coverage: Coverage) -> str | None:
    """What to tell the user when less than half is quantized."""
    if coverage.share >= ENOUGH:
        return None
    reason = next(iter(coverage.by_reason()), "")
    return (
        f"only {percent(coverage)} of the model's multiply-accumulates are quantized"
        + (f"; most of the rest: {reason}" if reason else "")
        + ("; --verbose lists what stays in float" if coverage.left else "")
    )


def percent(coverage: Coverage) -> str:
    """The share, rounded down: 100 % means everything."""
    return f"{int(1000 * coverage.share) / 10:.1f} %"


def _names(items: Sequence[FloatProduct]) -> str:
    names = ", ".join(item.name for item in items[:_NAMED])
    return names + (f" and {len(items) - _NAMED} more" if len(items) > _NAMED else "")
