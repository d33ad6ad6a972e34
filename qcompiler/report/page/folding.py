"""Channel ranges of normalisations before and after folding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.report.page.lanes import Lane, lanes
from qcompiler.report.page.markup import Markup, tag
from qcompiler.report.page.plot import legend, line, rect, text
from qcompiler.report.page.scales import logarithmic

PITCH = 30
_WIDTH = 480
_QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def folding_chart(norms: Sequence[Mapping[str, Any]]) -> Markup | None:
    """One row per normalisation: the distribution of its channels' ranges before and, below it, after folding."""
    shown = [norm for norm in norms if _known(norm["before"]) and _known(norm["after"])]
    if not shown:
        return None
    spans = {side: [np.quantile(_known(norm[side]), _QUANTILES) for norm in shown] for side in ("before", "after")}
    # A channel whose gain is 0 has the range 0: it lies at the left end.
    scale = logarithmic(float(value) for side in spans.values() for span in side for value in span)

    def draw(number: int, left: float, top: float) -> list[Markup]:
        parts = []
        for side, class_, offset in (("before", "second", 5), ("after", "first", 16)):
            span = spans[side][number]
            low, tenth, middle, ninth, high = (left + _WIDTH * scale.at(float(value)) for value in span)
            center = top + offset + 4.5
            what = (
                f"{shown[number]['name']} {side}: "
                f"smallest {span[0]:.3g}, 10 % {span[1]:.3g}, median {span[2]:.3g}, 90 % {span[3]:.3g}, "
                f"largest {span[4]:.3g}"
            )
            parts += [
                line(low, center, high, center, f"{class_} whisker"),
                rect(tenth, top + offset, max(ninth - tenth, 1.5), 9, class_, what),
                line(middle, top + offset - 1, middle, top + offset + 10, "median"),
            ]
        return parts

    def spread(number: int, left: float, top: float) -> list[Markup]:
        before, after = (_spread(spans[side][number]) for side in ("before", "after"))
        return [
            text(left + 55, top + 19, before, "end", "value"),
            text(left + 70, top + 19, "→", "middle"),
            text(left + 130, top + 19, after, "end", "value"),
        ]

    columns = [
        Lane("Range of each channel", "largest - smallest value, in units of the activation", _WIDTH, draw, scale),
        Lane("Spread", "largest range / median", 140, spread),
    ]
    samples = legend(
        ("box second", "before folding, middle 80 % of the channels"),
        ("box first", "after folding"),
        ("line whisker second", "all channels"),
        ("line median upright", "median"),
    )
    return tag("figure", samples, lanes([norm["name"] for norm in shown], columns, PITCH, numbered=False))


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _spread(span: np.ndarray) -> str:
    return f"{span[4] / span[2]:.3g}" if span[2] > 0 else "-"
