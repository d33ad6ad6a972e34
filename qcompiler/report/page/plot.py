"""What charts consist of: frame, grid, labels, marks and legends, styled by class in the page's style sheet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qcompiler.report.page.markup import Markup, tag
from qcompiler.report.page.scales import Scale

CHARACTER = 6.6  # average advance of the labels' 11 px font, in pixels; on the wide side
LINE = 14  # height of a line of labels


def text(x: float, y: float, content: object, anchor: str = "start", class_: str | None = None) -> Markup:
    """A label; ``y`` is its baseline."""
    return tag("text", content, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, title: str | None = None) -> Markup:
    """A rectangle, with a text that appears over it."""
    return tag("rect", _title(title), x=float(x), y=float(y), width=float(width), height=float(height), class_=class_)


def circle(x: float, y: float, radius: float, class_: str, title: str | None = None) -> Markup:
    """A dot, with a text that appears over it."""
    return tag("circle", _title(title), cx=float(x), cy=float(y), r=float(radius), class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """A line through points."""
    return tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_=class_)


def svg(width: float, height: float, *content: object, label: str | None) -> Markup:
    """A picture of a fixed size in pixels, so that its labels keep the size of text.

    Args:
        width: In pixels.
        height: In pixels.
        content: Its elements.
        label: What it shows, for screen readers; None for an ornament.
    """
    size = {"width": f"{width:g}", "height": f"{height:g}", "viewBox": f"0 0 {width:g} {height:g}"}
    meaning = {"aria_hidden": "true"} if label is None else {"role": "img", "aria_label": label}
    return tag("svg", *content, **size, **meaning)


@dataclass(frozen=True)
class Frame:
    """The rectangle of a chart in which values are drawn, in pixels.

    Attributes:
        left: Left end.
        top: Upper end.
        width: Extent to the right.
        height: Extent downwards.
        x: The axis from left to right.
        y: The axis from the bottom upwards.
    """

    left: float
    top: float
    width: float
    height: float
    x: Scale
    y: Scale

    @property
    def right(self) -> float:
        """Right end."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Lower end."""
        return self.top + self.height

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a value."""
        return self.left + self.x.at(x) * self.width, self.bottom - self.y.at(y) * self.height

    def axes(self, x_title: str, y_title: str) -> list[Markup]:
        """Grid lines, tick labels, and what the axes are."""
        parts = []
        for value, label in self.x.ticks:
            x = self.left + self.x.at(value) * self.width
            parts += [line(x, self.top, x, self.bottom, "grid"), text(x, self.bottom + LINE + 2, label, "middle")]
        for value, label in self.y.ticks:
            y = self.bottom - self.y.at(value) * self.height
            parts += [line(self.left, y, self.right, y, "grid"), text(self.left - 6, y + 4, label, "end")]
        parts += [
            line(self.left, self.bottom, self.right, self.bottom, "axis"),
            text(self.left + self.width / 2, self.bottom + 2 * LINE + 8, x_title, "middle", "title"),
            # Above the axis instead of turned beside it: read without tilting the head.
            text(self.left, self.top - 10, y_title, "start", "title"),
        ]
        return parts


def legend(*entries: tuple[str, str]) -> Markup:
    """A line of samples, each a class of the style sheet, with what they stand for."""
    return tag(
        "ul",
        (tag("li", svg(18, 12, _sample(sample), label=None), label) for sample, label in entries),
        class_="legend",
    )


def _sample(sample: str) -> Markup:
    shape, _, class_ = sample.partition(" ")
    if shape == "dot":
        return circle(9, 6, 4, class_)
    if shape == "ring":
        return circle(9, 6, 5, class_)
    if shape == "line":
        return line(0, 6, 18, 6, class_)
    return rect(3, 2, 12, 8, class_)


def _title(content: str | None) -> Markup | None:
    return None if content is None else tag("title", content)
