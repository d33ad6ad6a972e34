"""Values as shades of one colour: classes of the style sheet, which has them for light and dark pages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from qcompiler.report.page.markup import Markup, tag
from qcompiler.report.page.plot import CHARACTER, rect, svg, text
from qcompiler.report.page.scales import Edge, round_edges

SHADES = 8


class Heat:
    """Shades for values of any magnitude: the edges between them are round numbers on a logarithmic axis."""

    def __init__(self, values: Iterable[float]) -> None:
        self.edges: list[Edge] = round_edges(values, SHADES)

    def shade(self, value: float) -> str:
        """Class of a value; what lies outside the edges has the shade of the nearer end."""
        bins = len(self.edges) - 1
        return self._class(min(max(bisect_right([edge.value for edge in self.edges], value) - 1, 0), bins - 1))

    def legend(self, meaning: str) -> Markup:
        """The shades with the numbers between them."""
        cell = max(34.0, *(len(edge.label) * CHARACTER + 6 for edge in self.edges))
        bins = len(self.edges) - 1
        parts = [rect(cell / 2 + number * cell, 0, cell, 12, self._class(number)) for number in range(bins)]
        parts += [text(cell / 2 + n * cell, 26, edge.label, "middle") for n, edge in enumerate(self.edges)]
        picture = svg((bins + 1) * cell, 30, *parts, label=meaning)
        return tag("div", tag("span", meaning), picture, class_="shades")

    def _class(self, number: int) -> str:
        bins = len(self.edges) - 1
        return f"h{round(number * (SHADES - 1) / max(bins - 1, 1))}"


def count_shade(count: int) -> str:
    """Class of a group count: one shade darker for every doubling."""
    return f"h{min(max(count, 1).bit_length() - 1, SHADES - 1)}"
