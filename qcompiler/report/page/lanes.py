"""Columns of small charts beside the names of layers, one row per layer: any number of layers, names of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from qcompiler.report.page.markup import Markup, tag
from qcompiler.report.page.plot import line, rect, svg, text
from qcompiler.report.page.scales import Scale

HEAD = 64  # title, explanation and tick labels above the rows
FOOT = 20  # tick labels below them
_PAD = 14  # room for half a tick label at both sides


@dataclass(frozen=True)
class Lane:
    """One column of the figure.

    Attributes:
        title: What it shows.
        unit: Its unit, or what else is to be known.
        width: Of the part in which values are drawn, in pixels.
        draw: Elements of one row, given its number and the pixel of its upper end; ``left`` is where the part begins.
        scale: Axis over the width, or None where the columns have headers of their own.
        headers: Labels of columns, with the pixel of their middle behind ``left``.
    """

    title: str
    unit: str
    width: float
    draw: Callable[[int, float, float], Iterable[Markup]]
    scale: Scale | None = None
    headers: Sequence[tuple[float, str]] = ()


def lanes(names: Sequence[str], columns: Iterable[Lane], pitch: int = 18, numbered: bool = True) -> Markup:
    """The figure: names to the left, which stay there while the columns are scrolled, and the columns.

    Args:
        names: Names of the rows.
        columns: What is drawn beside them.
        pitch: Height of a row in pixels.
        numbered: Whether rows begin with their number.
    """
    rows = [
        tag(
            "div",
            tag("b", number) if numbered else None,
            # Where a name is cut, its beginning goes: the end tells layers apart.
            tag("span", tag("bdi", name), class_="name"),
            title=name,
            style=f"height:{pitch}px;line-height:{pitch}px",
        )
        for number, name in enumerate(names)
    ]
    style = f"padding:{HEAD}px 0 {FOOT}px"
    return tag(
        "div",
        tag("div", rows, class_="names", style=style),
        [_column(lane, len(names), pitch) for lane in columns],
        tag("div", class_="cursor", style=f"height:{pitch}px", hidden=True),
        class_="lanes",
        data_top=HEAD,
        data_pitch=pitch,
        data_rows=len(names),
        tabindex=0,
    )


def _column(lane: Lane, rows: int, pitch: int) -> Markup:
    bottom = HEAD + rows * pitch
    right = _PAD + lane.width
    parts = [text(_PAD, 14, lane.title, class_="head"), text(_PAD, 29, lane.unit)]
    parts += [rect(0, HEAD + number * pitch, right + _PAD, pitch, "band") for number in range(1, rows, 2)]
    if lane.scale is not None:
        for value, label in lane.scale.ticks:
            x = _PAD + lane.scale.at(value) * lane.width
            parts += [line(x, HEAD, x, bottom, "grid"), text(x, HEAD - 5, label, "middle")]
            parts.append(text(x, bottom + 14, label, "middle"))
    for x, label in lane.headers:
        parts += [text(_PAD + x, HEAD - 5, label, "middle"), text(_PAD + x, bottom + 14, label, "middle")]
    for number in range(rows):
        parts += lane.draw(number, _PAD, HEAD + number * pitch)
    return svg(right + _PAD, bottom + FOOT, *parts, label=f"{lane.title}, {lane.unit}")
