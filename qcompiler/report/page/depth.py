"""The layers over depth: bits, groups, bit operations, relevance, sensitivity and noise side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from qcompiler.report.page.heat import Heat, count_shade
from qcompiler.report.page.lanes import Lane, lanes
from qcompiler.report.page.markup import Markup, tag
from qcompiler.report.page.plot import circle, legend, line, rect, text
from qcompiler.report.page.rows import LayerRow, widths_of
from qcompiler.report.page.scales import Scale, linear
from qcompiler.report.tables import count, group_counts

PITCH = 18
_CELL = 24
_BITS = Scale(0.0, 8.0, tuple((float(bits), str(bits)) for bits in (0, 2, 4, 6, 8)))


def depth_chart(rows: Sequence[LayerRow]) -> Markup | None:
    """One row per layer, or None where there are no layers; a column appears where some layer has its value."""
    if not rows:
        return None
    columns: list[Lane] = []
    samples = []
    notes = []
    if any(row.chosen for row in rows):
        columns.append(_bits(rows))
        samples += [("box first", "weights, products"), ("box second", "activations")]
    if any(row.groups for row in rows):
        columns.append(_groups(rows))
    if any(row.result.get("products") for row in rows):
        columns.append(_operations(rows))
        samples.append(("box third", "bookkeeping of the groups"))
    if any(row.relevance is not None for row in rows):
        columns.append(_relevance(rows))
    if widths_of(rows):
        lane, heat = _sensitivity(rows)
        columns.append(lane)
        notes.append(heat.legend("sensitivity, KL in nats"))
        samples.append(("box outlined", "width of the plan"))
    if any(row.sqnr_db is not None for row in rows):
        columns.append(_noise(rows))
    key = tag("div", legend(*samples), notes, class_="keys")
    return tag("figure", key, lanes([row.name for row in rows], columns, PITCH))


def _bits(rows: Sequence[LayerRow]) -> Lane:
    def draw(number: int, left: float, top: float) -> list[Markup]:
        row = rows[number]
        sides = (("weights", row.weight_bits, "first", 3), ("activations", row.activation_bits, "second", 9.5))
        return [
            rect(left, top + offset, width * _BITS.at(bits), 5.5, class_, f"{row.name}: {side} {bits} bits")
            for side, bits, class_, offset in sides
            if bits is not None
        ]

    width = 120
    return Lane("Bits", "per value", width, draw, _BITS)


def _groups(rows: Sequence[LayerRow]) -> Lane:
    columns = max(len(row.groups) for row in rows)
    # Four quantizers are those of attention; a linear layer has only the first, that of its input.
    headers = ("in, q", "k", "v", "p") if columns == 4 else tuple(map(str, range(1, columns + 1)))

    def draw(number: int, left: float, top: float) -> list[Markup]:
        row, parts = rows[number], []
        for index, groups in enumerate(row.groups):
            x, shade = left + index * cell, count_shade(groups)
            what = f"{row.name}: {group_counts(row.groups)} groups"
            parts.append(rect(x + 0.5, top + 1, cell - 1, PITCH - 2, shade, what))
            parts.append(text(x + cell / 2, top + 13, groups, "middle", f"on-{shade}"))
        return parts

    cell = 34
    middles = [(index * cell + cell / 2, header) for index, header in enumerate(headers)] if columns > 1 else []
    return Lane("Groups", "per quantizer", max(columns * cell, 80), draw, None, middles)


def _operations(rows: Sequence[LayerRow]) -> Lane:
    whole = sum(_costs(row)[0] + _costs(row)[1] for row in rows)
    scale = linear((100 * sum(_costs(row)) / whole for row in rows), 3)

    def draw(number: int, left: float, top: float) -> list[Markup]:
        products, bookkeeping = _costs(rows[number])
        end = width * scale.at(100 * products / whole)
        rest = width * scale.at(100 * (products + bookkeeping) / whole) - end
        name = rows[number].name
        return [
            rect(left, top + 4, end, 10, "first", f"{name}: {count(products)} bit operations of the products"),
            rect(left + end, top + 4, rest, 10, "third", f"{name}: {count(bookkeeping)} of bookkeeping"),
        ]

    width = 120
    return Lane("Bit operations", "% of all layers", width, draw, scale)


def _costs(row: LayerRow) -> tuple[int, int]:
    return row.result.get("products") or 0, row.result.get("bookkeeping") or 0


def _relevance(rows: Sequence[LayerRow]) -> Lane:
    scale = linear((100 * row.relevance for row in rows if row.relevance is not None), 3)

    def draw(number: int, left: float, top: float) -> list[Markup]:
        share = rows[number].relevance
        if share is None:
            return []
        what = f"{rows[number].name}: {100 * share:.3g} % of the relevance"
        return [rect(left, top + 4, width * scale.at(100 * share), 10, "first", what)]

    width = 120
    return Lane("Relevance", "% of all layers", width, draw, scale)


def _sensitivity(rows: Sequence[LayerRow]) -> tuple[Lane, Heat]:
    widths = widths_of(rows)
    heat = Heat(value for row in rows for value in row.sensitivity.values() if value is not None)
    lefts = [0.0]
    for before, width in pairwise(widths):
        # A gap where the weights end and the activations begin.
        lefts.append(lefts[-1] + _CELL + (8 if before[:1] != width[:1] else 0))

    def draw(number: int, left: float, top: float) -> list[Markup]:
        row, parts = rows[number], []
        chosen = {f"{side}{bits}" for side, bits in row.chosen.items()}
        for width, x in zip(widths, lefts, strict=True):
            value = row.sensitivity.get(width)
            if value is not None:
                what = f"{row.name} alone at {width}: KL {value:.3g} nats"
                parts.append(rect(left + x + 0.5, top + 1, _CELL - 1, PITCH - 2, heat.shade(value), what))
            if width in chosen:
                parts.append(rect(left + x + 1.5, top + 2, _CELL - 3, PITCH - 4, "outlined"))
        return parts

    middles = [(x + _CELL / 2, width) for x, width in zip(lefts, widths, strict=True)]
    unit = "KL of this layer alone at w / a bits, nats"
    return Lane("Sensitivity", unit, max(lefts[-1] + _CELL, 240), draw, None, middles), heat


def _noise(rows: Sequence[LayerRow]) -> Lane:
    scale = linear((row.sqnr_db for row in rows if row.sqnr_db is not None), 4)

    def draw(number: int, left: float, top: float) -> list[Markup]:
        value = rows[number].sqnr_db
        if value is None:
            return []
        start, end = left + width * scale.at(0), left + width * scale.at(value)
        return [
            line(start, top + 9, end, top + 9, "stem"),
            circle(end, top + 9, 4, "first", f"{rows[number].name}: {value:.1f} dB"),
        ]

    width = 140
    return Lane("SQNR of the output", "dB, more is better", width, draw, scale)
