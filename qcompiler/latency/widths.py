"""What narrower widths are worth on this machine: measured, because it depends on what its products can do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qcompiler.latency.costs import MeasuredCosts
from qcompiler.latency.kinds import ROW_GROUPS, LinearKind
from qcompiler.latency.shapes import LinearShape

EQUAL = 0.05  # relative difference of two times that counts as none
GROUPS = 8
WIDE, NARROW = 8, 4


@dataclass(frozen=True)
class WidthTimes:
    """Times of one linear layer over its time at W8A8, all with the same quantizer.

    Attributes:
        path: CPU path of the operator library.
        w4a8: 4-bit weights alone.
        w8a4: 4-bit activations alone.
        w4a4: Both.
    """

    path: str
    w4a8: float
    w8a4: float
    w4a4: float

    def sentence(self) -> str:
        """What they say, in words."""
        where = f"on this processor ({self.path})"
        if max(abs(ratio - 1) for ratio in (self.w4a8, self.w8a4, self.w4a4)) <= EQUAL:
            return f"{where} widths below 8 bits make nothing faster: w4a4 takes {self.w4a4:.2f} of the time of w8a8"
        parts = []
        for name, ratio in (("activations", self.w8a4), ("weights", self.w4a8)):
            if abs(ratio - 1) <= EQUAL:
                parts.append(f"4-bit {name} cost the same as 8-bit ones")
            else:
                parts.append(f"4-bit {name} take {ratio:.2f} of the time of 8-bit ones")
        return f"{where} {', '.join(parts)}, and w4a4 takes {self.w4a4:.2f} of the time of w8a8"


def compare_widths(costs: MeasuredCosts, shapes: Iterable[LinearShape]) -> WidthTimes:
    """Time the largest of some linear layers at 4 and at 8 bits, all in the same interleaved rounds."""
    shape = max(shapes, key=lambda item: item.macs)
    kinds = {
        (weight, activation): LinearKind(shape, ROW_GROUPS, activation, GROUPS, False, False, True, weight, False)
        for weight in (WIDE, NARROW)
        for activation in (WIDE, NARROW)
    }
    found = costs.exact_ratios(kinds.values())
    whole = found[kinds[WIDE, WIDE]]
    relative = {widths: found[kind] / whole for widths, kind in kinds.items()}
    return WidthTimes(costs.machine.path, relative[NARROW, WIDE], relative[WIDE, NARROW], relative[NARROW, NARROW])
