"""How much the predicted losses of parts of a model count, and the ways in which a search changes that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from qcompiler.allocation.loss_table import LossTable

STRENGTHS = (2.0, 0.5)  # by which a part's losses are made to count more or less
RELEVANCE_POWERS = (0.5, 0.25, 0.0)  # gentler than relevance itself
CAUTIONS = (1.25, 2.5, 8.0)  # the last one leaves uniform widths but for what is plainly better
CAUTION_OF_PARTS = 2.5  # at most: where nearly all widths are uniform, a part that counts more changes nothing


@dataclass(frozen=True)
class Part:
    """A part of the model whose losses are weighted together; parts may overlap.

    Attributes:
        label: What a report calls it.
        members: Sides of layers, as ``(name, side)``.
    """

    label: str
    members: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Weighing:
    """How much every loss counts.

    Attributes:
        parts: Factor of the losses of a part; others count as they are.
        relevance_power: Power of a layer's relevance that its losses are multiplied by, where the method asks for it.
        caution: Factor of losses at widths other than the uniform ones that the budget pays for. Predictions are
            inexact, and a plan that trades on small differences of many of them can be worse than uniform widths.
    """

    parts: Mapping[Part, float] = field(default_factory=dict)
    relevance_power: float = 1.0
    caution: float = 1.0

    def factor(self, name: str, side: str) -> float:
        """Of one side of a layer, relevance aside."""
        return math.prod(strength for part, strength in self.parts.items() if (name, side) in part.members)


@dataclass(frozen=True)
class PartMove:
    """Makes a part count more or less."""

    part: Part
    strength: float

    def __str__(self) -> str:
        return f"{self.part.label} x {self.strength:g}"

    def __call__(self, weighing: Weighing) -> Weighing:
        """The changed weighing."""
        strength = weighing.parts.get(self.part, 1.0) * self.strength
        caution = min(weighing.caution, CAUTION_OF_PARTS)
        return replace(weighing, parts={**weighing.parts, self.part: strength}, caution=caution)


@dataclass(frozen=True)
class RelevanceMove:
    """Makes relevance matter less."""

    power: float

    def __str__(self) -> str:
        return f"relevance ^ {self.power:g}"

    def __call__(self, weighing: Weighing) -> Weighing:
        """The changed weighing."""
        return replace(weighing, relevance_power=self.power)


@dataclass(frozen=True)
class CautionMove:
    """Makes other widths than the uniform ones count more."""

    caution: float

    def __str__(self) -> str:
        return f"caution x {self.caution:g}"

    def __call__(self, weighing: Weighing) -> Weighing:
        """The changed weighing."""
        return replace(weighing, caution=self.caution)


Move = PartMove | RelevanceMove | CautionMove


def moves(table: LossTable, kinds: Mapping[str, str], count: int, *, relevance: bool) -> Iterator[Move]:
    """What to try: gentler powers of relevance where it counts and caution once, then parts, over and over.

    Args:
        table: Layers and attention blocks, in order.
        kinds: Kind of each.
        count: Number of moves of parts.
        relevance: Whether losses are weighted by relevance.
    """
    if not count:
        return
    if relevance:
        yield from map(RelevanceMove, RELEVANCE_POWERS)
    yield from map(CautionMove, CAUTIONS)
    again = [PartMove(part, strength) for part in _parts(table, kinds) for strength in STRENGTHS]
    for number in range(count if again else 0):
        yield again[number % len(again)]


def _parts(table: LossTable, kinds: Mapping[str, str]) -> list[Part]:
    """The first half of the model, whose errors pass through all the rest, all weights, and one side of each kind."""
    linears = [(name, side) for name in table.linears for side in ("input", "weight")]
    attentions = [(name, side) for name in table.attentions for side in ("scores", "mixing")]
    early = {name for names in (list(table.linears), list(table.attentions)) for name in names[: len(names) // 2]}
    found: dict[str, set[tuple[str, str]]] = {
        "first half": {member for member in linears + attentions if member[0] in early},
        "weights": {member for member in linears if member[1] == "weight"},
    }
    for name, side in linears + attentions:
        found.setdefault(f"{kinds[name]} {side}", set()).add((name, side))
    return [Part(label, frozenset(members)) for label, members in found.items() if members]
