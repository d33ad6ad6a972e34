"""What the search for a plan tried and what it knew about each layer, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PlanPoint:
    """One plan that was tried.

    Attributes:
        label: What tells it from the others, e.g. ``uniform w4a4``, ``program``, ``swap 3``.
        products: Bit operations of the free products, as a fraction of W8A8.
        overhead: Bookkeeping over products.
        bytes: Predicted bytes of the weights.
        loss: Measured mean KL divergence to the float prediction, in nats.
        kept: Whether the search accepted it.
    """

    label: str
    products: float
    overhead: float
    bytes: int
    loss: float
    kept: bool


@dataclass(frozen=True)
class LayerAnalysis:
    """What is known about one layer, quantized or not.

    Attributes:
        name: Name of the layer, that of its :class:`~qcompiler.report.values.LayerReport` where it has one.
        kind: ``qkv``, ``fc1``, ...
        depth: Position in graph order.
        relevance: Its share of the relevance of all layers, in 0..1; None where relevance was not asked for.
        sensitivity: KL divergence in nats when this layer alone is at a width, by width: ``w4`` (weights at 4 bits),
            ``a4`` (activations). Only the widths that were measured or estimated.
        sqnr_db: Signal to quantization noise of the layer's output under the chosen plan, in dB; None where it was
            not measured.
    """

    name: str
    kind: str
    depth: int
    relevance: float | None
    sensitivity: Mapping[str, float]
    sqnr_db: float | None


@dataclass(frozen=True)
class FoldedNorm:
    """The channels of one normalisation before and after scales were folded into its neighbours.

    Attributes:
        name: Name of the normalisation.
        before: Range (maximum - minimum over the calibration data) of each channel before folding.
        after: The same after folding, same channels.
    """

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class SearchReport:
    """Everything behind the choice of a plan.

    Attributes:
        points: The plans in the order in which they were tried; the last one kept is the plan of the written model.
        layers: One entry per layer.
        norms: One entry per folded normalisation.
        budget: Limit of the products as a fraction of W8A8; None without one.
        lrp_rule: Rule by which relevance was propagated; None without relevance.
        conservation: How much of the starting relevance arrives where, by name of the place and statistic.
    """

    points: tuple[PlanPoint, ...]
    layers: tuple[LayerAnalysis, ...]
    norms: tuple[FoldedNorm, ...]
    budget: float | None
    lrp_rule: str | None
    conservation: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """Everything as plain values, for the report's JSON."""
        return {
            "points": [asdict(point) for point in self.points],
            "layers": [{**asdict(layer), "sensitivity": dict(layer.sensitivity)} for layer in self.layers],
            "norms": [
                {"name": norm.name, "before": list(norm.before), "after": list(norm.after)} for norm in self.norms
            ],
            "budget": self.budget,
            "lrp_rule": self.lrp_rule,
            "conservation": dict(self.conservation),
        }
