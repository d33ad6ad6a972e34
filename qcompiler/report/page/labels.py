"""Labels beside marks, placed so that nothing covers anything else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qcompiler.report.page.markup import Markup
from qcompiler.report.page.plot import CHARACTER, LINE, text


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels that something occupies."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def inside(self, other: Box) -> bool:
        """Whether it lies in ``other``."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def place_labels(
    wishes: Iterable[tuple[float, float, str]],
    marks: Iterable[tuple[float, float]],
    area: Box,
    lines: Iterable[Sequence[tuple[float, float]]] = (),
    radius: float = 6,
) -> list[Markup]:
    """Labels beside points, none over another, a mark or a line; one that finds no room is left out.

    Args:
        wishes: Points and their labels, the most important first.
        marks: Every point that is drawn.
        area: Where labels may be.
        lines: Lines that are drawn, each by its points.
        radius: What a mark occupies around its point.
    """
    taken = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in marks]
    taken += [box for corners in lines for one, two in pairwise(corners) for box in _along(one, two)]
    placed = []
    for x, y, label in wishes:
        width, gap = len(label) * CHARACTER, radius + 2
        left, middle, right = x - gap - width, x - width / 2, x + gap
        above, beside, below = y - gap - LINE, y - LINE / 2, y + gap
        corners = [
            *((right, beside, "start"), (left, beside, "end"), (middle, above, "middle"), (middle, below, "middle")),
            *((right, above, "start"), (right, below, "start"), (left, above, "end"), (left, below, "end")),
        ]
        for start, top, anchor in corners:
            box = Box(start, top, start + width, top + LINE)
            if box.inside(area) and not any(box.meets(other) for other in taken):
                taken.append(box)
                # Anchored at the side of the mark: a narrower font leaves no gap there.
                at = {"start": box.left, "middle": x, "end": box.right}[anchor]
                placed.append(text(at, box.bottom - 3, label, anchor, "mark-label"))
                break
    return placed


def _along(one: tuple[float, float], two: tuple[float, float]) -> list[Box]:
    """Small boxes that cover a straight line."""
    steps = max(1, round(math.dist(one, two) / 4))
    points = [tuple(a + (b - a) * step / steps for a, b in zip(one, two, strict=True)) for step in range(steps + 1)]
    return [Box(x - 2, y - 2, x + 2, y + 2) for x, y in points]
