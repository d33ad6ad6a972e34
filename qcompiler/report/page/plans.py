"""The plans that were tried: budget against loss, and the way the search went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.report.page.labels import Box, place_labels
from qcompiler.report.page.markup import Markup, tag
from qcompiler.report.page.plot import Frame, circle, legend, line, path, svg, text
from qcompiler.report.page.scales import Scale, linear, logarithmic, powers_of_two
from qcompiler.report.tables import file_size

Point = Mapping[str, Any]

_WIDTH, _HEIGHT = 440, 380
_MARGIN = {"left": 60, "top": 54, "right": 20, "bottom": 44}
_LOSS = "KL to the float prediction, nats"
# Plans within these factors of the chosen one are shown once more, enlarged.
_NEAR_LOSS, _NEAR_PRODUCTS = 2.0, 1.15


def plan_charts(search: Mapping[str, Any]) -> Markup | None:
    """All plans, those close to the chosen one, and the order they were tried in; None where no plan has a loss."""
    points = [point for point in search["points"] if point["loss"] is not None]
    if not points:
        return None
    chosen, budget = chosen_plan(points), search["budget"]
    entries = [
        ("dot kept", "kept by the search"),
        ("dot tried", "tried, not kept"),
        ("line front", "Pareto curve: the best loss seen up to that cost"),
    ]
    if chosen is not None:
        entries.insert(0, ("ring chosen", "the plan of this model"))
    if budget is not None:
        entries.append(("line budget", "budget"))
    products = [point["products"] for point in points] + ([] if budget is None else [budget])
    every = _Picture("All plans", powers_of_two(products), logarithmic(point["loss"] for point in points))
    charts = [_pareto(every, points, chosen, budget)]
    near = _near(points, chosen)
    if near is not None:
        products = [point["products"] for point in near]
        if budget is not None and min(products) * 0.98 <= budget <= max(products) * 1.02:
            products.append(budget)
        losses = [point["loss"] for point in near]
        close = _Picture("Close to the plan of this model", linear(products, 3, zero=False), linear(losses, zero=False))
        charts.append(_pareto(close, near, chosen, budget))
        charts.append(_order("The same plans in the order tried", points, near, chosen))
    else:
        charts.append(_order("In the order tried", points, points, chosen))
    return tag("figure", legend(*entries), tag("div", charts, class_="charts"))


def chosen_plan(points: Sequence[Point]) -> Point | None:
    """The last plan that the search kept."""
    return next((point for point in reversed(points) if point["kept"]), None)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The plans that no other one beats in products and loss, cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point["products"], point["loss"])):
        if not front or point["loss"] < front[-1]["loss"]:
            front.append(point)
    return front


def describe(point: Point) -> str:
    """One plan in words, for the text over its mark."""
    return (
        f"{point['label']}: KL {point['loss']:.4g} nats, products {point['products']:.4f} of W8A8, "
        f"bookkeeping {point['overhead']:.4f} of the products, weights {file_size(point['bytes'])}, "
        f"{'kept' if point['kept'] else 'not kept'}"
    )


@dataclass(frozen=True)
class _Picture:
    """Title and axes of a chart of loss over products."""

    title: str
    x: Scale
    y: Scale


def _near(points: Sequence[Point], chosen: Point | None) -> list[Point] | None:
    """The plans that lie too close to the chosen one to be told apart among all; None where that is not so."""
    if chosen is None or chosen["loss"] <= 0 or chosen["products"] <= 0:
        return None
    near = [
        point
        for point in points
        if 1 / _NEAR_LOSS < point["loss"] / chosen["loss"] < _NEAR_LOSS
        and 1 / _NEAR_PRODUCTS < point["products"] / chosen["products"] < _NEAR_PRODUCTS
    ]
    return near if 3 <= len(near) < len(points) else None


def _pareto(picture: _Picture, points: Sequence[Point], chosen: Point | None, budget: float | None) -> Markup:
    frame = _frame(picture.x, picture.y)
    places = [frame.place(point["products"], point["loss"]) for point in points]
    front = pareto_front(points)
    stairs = _stairs(frame, front)
    lines = [stairs]
    parts = [*_title(picture.title), *frame.axes("products, as a fraction of W8A8", _LOSS)]
    if budget is not None and picture.x.low <= budget <= picture.x.high:
        x, _ = frame.place(budget, picture.y.low)
        parts.append(line(x, frame.top, x, frame.bottom, "budget"))
        lines.append([(x, frame.top), (x, frame.bottom)])
    parts += [path(stairs, "front"), *_marks(points, places, chosen)]
    # Most important first: those behind find the room that is left.
    ranked = sorted(range(len(points)), key=lambda i: (points[i] is not chosen, points[i] not in front, i))
    parts += place_labels(((*places[i], str(points[i]["label"])) for i in ranked), places, _room(frame), lines)
    return svg(_WIDTH, _HEIGHT, *parts, label=f"{picture.title}: loss over bit operations")


def _order(title: str, points: Sequence[Point], shown: Sequence[Point], chosen: Point | None) -> Markup:
    numbers = [index for index, point in enumerate(points, 1) if any(point is other for other in shown)]
    losses = [point["loss"] for point in shown]
    y = logarithmic(losses) if shown is points else linear(losses, zero=False)
    frame = _frame(linear(numbers, 6, zero=False, whole=True), y)
    places = [frame.place(number, loss) for number, loss in zip(numbers, losses, strict=True)]
    kept = [place for place, point in zip(places, shown, strict=True) if point["kept"]]
    parts = [*_title(title), *frame.axes("number of the plan", _LOSS)]
    if kept:
        parts.append(path(kept, "way"))
    parts += _marks(shown, places, chosen)
    # The last ones first: the plan of the model is among them.
    wishes = [(*place, str(point["label"])) for place, point in zip(places, shown, strict=True) if point["kept"]][::-1]
    parts += place_labels(wishes, places, _room(frame), [kept])
    return svg(_WIDTH, _HEIGHT, *parts, label=title)


def _title(title: str) -> list[Markup]:
    return [text(_MARGIN["left"], 14, title, class_="head")]


def _frame(x: Scale, y: Scale) -> Frame:
    width = _WIDTH - _MARGIN["left"] - _MARGIN["right"]
    height = _HEIGHT - _MARGIN["top"] - _MARGIN["bottom"]
    return Frame(_MARGIN["left"], _MARGIN["top"], width, height, x, y)


def _room(frame: Frame) -> Box:
    """Where labels may be: within the frame, and a little to its right."""
    return Box(frame.left, frame.top, _WIDTH - 2, frame.bottom)


def _stairs(frame: Frame, front: Sequence[Point]) -> list[tuple[float, float]]:
    """The front as a staircase: between two plans nothing better than the cheaper one was seen."""
    corners: list[tuple[float, float]] = []
    for point in front:
        x, y = frame.place(point["products"], point["loss"])
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return [*corners, (frame.right, corners[-1][1])]


def _marks(points: Sequence[Point], places: Sequence[tuple[float, float]], chosen: Point | None) -> list[Markup]:
    # Kept plans last: they lie on top of the rejected ones around them.
    order = sorted(range(len(points)), key=lambda i: bool(points[i]["kept"]))
    marks = [circle(*places[i], 4, "kept" if points[i]["kept"] else "tried", describe(points[i])) for i in order]
    marks += [circle(*places[i], 7, "chosen") for i, point in enumerate(points) if point is chosen]
    return marks
