"""Predicted time of a compiled model, as a fraction of the float model's.

The time of a layer is its share of the float model's time, times what its operator takes of the float layer's. Whatever
of the float model belongs to no layer is taken to stay as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qcompiler.latency.costs import MeasuredCosts
from qcompiler.latency.kinds import Kind
from qcompiler.latency.shapes import Shape


@dataclass(frozen=True)
class TimeShares:
    """Where the float model spends its time.

    Attributes:
        layers: Share of every linear layer and attention block, by name.
        rest: Share of everything else.
    """

    layers: Mapping[str, float]
    rest: float

    @classmethod
    def of(cls, shapes: Mapping[str, Shape], shares: Mapping[Shape, float]) -> TimeShares:
        """Shares of layers from those of their shapes.

        Layers alone can be slower than in the model, where their inputs are in the cache: then nothing is left for the
        rest, and they share what there is.
        """
        layers = {name: shares[shape] for name, shape in shapes.items()}
        whole = math.fsum(layers.values())
        if whole > 1:
            layers = {name: share / whole for name, share in layers.items()}
        return cls(layers, max(1 - whole, 0.0))


class TimePrediction:
    """Adds up what layers take.

    Args:
        shares: Where the float model spends its time.
        costs: Times of operators.
    """

    def __init__(self, shares: TimeShares, costs: MeasuredCosts) -> None:
        self.shares = shares
        self._costs = costs
        self._ratios: dict[Kind, float] = {}

    def learn(self, kinds: Iterable[Kind]) -> None:
        """Measure what has not been measured yet."""
        self._ratios.update(self._costs.ratios(kind for kind in kinds if kind not in self._ratios))

    def time(self, layer: str, kind: Kind) -> float:
        """Time of one layer as a fraction of the float model's; ``kind`` was learned."""
        return self.shares.layers[layer] * self._ratios[kind]

    def whole(self, kinds: Mapping[str, Kind]) -> float:
        """Time of a model as a fraction of the float model's, from the operator of every layer."""
        self.learn(kinds.values())
        return math.fsum((self.shares.rest, *(self.time(name, kind) for name, kind in kinds.items())))
