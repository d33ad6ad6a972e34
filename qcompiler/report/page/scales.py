"""Axes: where a value lies between the two ends, and the round values that are marked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DECADES = 8  # what lies further below the largest value than this is drawn at the end of a logarithmic axis


@dataclass(frozen=True)
class Scale:
    """One axis.

    Attributes:
        low: Value at its start.
        high: Value at its end.
        ticks: Values that are marked, ascending, with their labels.
        logarithmic: Whether equal distances are equal ratios.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Position of ``value`` in 0..1; what lies outside is moved to the nearer end."""
        if self.logarithmic:
            if value <= self.low:
                return 0.0
            position = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            position = (value - self.low) / (self.high - self.low)
        return min(max(position, 0.0), 1.0)


def linear(values: Iterable[float], steps: int = 4, *, zero: bool = True, whole: bool = False) -> Scale:
    """An axis that ends in round ticks around ``values``.

    Args:
        values: What it must show.
        steps: Most steps between ticks, one or two more where the ends are not round.
        zero: Whether it must show 0 too.
        whole: Whether only whole numbers are marked.
    """
    known = [*values, *([0.0] if zero else [])]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low == high:
        # A single value gets an axis of its own magnitude.
        low, high = (0.0, high or 1.0) if high >= 0 else (low, 0.0)
    step = _round_step((high - low) / steps)
    if whole:
        step = float(max(1, math.ceil(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple((number * step, f"{number * step:.6g}") for number in range(first, last + 1))
    return Scale(ticks[0][0], ticks[-1][0], ticks)


def logarithmic(values: Iterable[float]) -> Scale:
    """An axis over the positive ones of ``values``: powers of ten, and their multiples where there are few."""
    edges = round_edges(values)
    powers = [edge for edge in edges if edge.mantissa == 1]
    marked = powers if len(powers) > 2 else edges
    return Scale(edges[0].value, edges[-1].value, tuple((edge.value, edge.label) for edge in marked), True)


def powers_of_two(values: Iterable[float]) -> Scale:
    """An axis over positive ``values`` that marks powers of two; linear where they are within a factor of three."""
    known = [value for value in values if value > 0]
    if not known or max(known) / min(known) < 3:
        return linear(known, zero=False)
    # A tenth of a doubling of room at both ends: a mark there is not cut in half by the frame.
    low, high = math.log2(min(known)) - 0.1, math.log2(max(known)) + 0.1
    ticks = tuple((2.0**power, f"{2.0**power:.6g}") for power in range(math.ceil(low), math.floor(high) + 1))
    return Scale(2.0**low, 2.0**high, ticks, True)


@dataclass(frozen=True)
class Edge:
    """A round value: 1, 2, 3 or 5 times a power of ten."""

    mantissa: int
    exponent: int

    @property
    def value(self) -> float:
        """The number."""
        return float(f"{self.mantissa}e{self.exponent}")

    @property
    def label(self) -> str:
        """The number as it is read: ``0.03``, ``10⁻⁶``."""
        if -3 < self.exponent < 4:
            return f"{self.value:g}"
        power = "10" + str(self.exponent).translate(_SUPERSCRIPTS)
        return power if self.mantissa == 1 else f"{self.mantissa}·{power}"


def round_edges(values: Iterable[float], most: int = _DECADES) -> list[Edge]:
    """Round values that enclose the positive ones of ``values``, ascending: the finest of three spacings that suits.

    Args:
        values: What must be enclosed; without a positive value it is 0.1 to 1.
        most: Most spaces between edges; what lies below them is not enclosed.
    """
    known = [value for value in values if value > 0]
    low, high = (min(known), max(known)) if known else (0.1, 1.0)
    decades = math.log10(high / low)
    mantissas = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= most / 2 - 1 else (1,)
    first = math.floor(math.log10(low)) - 1
    edges = [Edge(m, e) for e in range(first, math.ceil(math.log10(high)) + 2) for m in mantissas]
    start = max(index for index, edge in enumerate(edges) if edge.value <= low)
    end = min(index for index, edge in enumerate(edges) if edge.value >= high)
    start = start - 1 if start == end else start
    return edges[max(start, end - most) : end + 1]


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))
