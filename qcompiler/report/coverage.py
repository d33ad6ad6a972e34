"""How much of a model's arithmetic is quantized, and what stays in float for which reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FloatProduct:
    """A product that stays in float.

    Attributes:
        name: Its node in the canonical graph.
        op: Its operator.
        macs: Its multiply-accumulates per image; None where the graph does not fix them.
        reason: Why it was not quantized.
    """

    name: str
    op: str
    macs: int | None
    reason: str


@dataclass(frozen=True)
class Coverage:
    """Multiply-accumulates of one image.

    Attributes:
        macs: Those of all products (MatMul, Gemm, Einsum, convolutions) of the float model, as far as they are known.
        quantized: Those of the products that run on integers.
        left: The products that do not, in graph order.
    """

    macs: int
    quantized: int
    left: tuple[FloatProduct, ...] = ()

    @property
    def share(self) -> float:
        """The quantized share, 0..1; 1 for a model without products."""
        return self.quantized / self.macs if self.macs else 1.0

    def by_reason(self) -> dict[str, tuple[FloatProduct, ...]]:
        """What stays in float, by reason, the most costly first."""
        found: dict[str, list[FloatProduct]] = {}
        for item in self.left:
            found.setdefault(item.reason, []).append(item)
        order = sorted(found, key=lambda reason: -sum(item.macs or 0 for item in found[reason]))
        return {reason: tuple(found[reason]) for reason in order}

    def to_dict(self) -> dict[str, object]:
        """For the report, ``--json`` and the model's metadata."""
        return {**asdict(self), "left": [asdict(item) for item in self.left], "share": self.share}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Coverage:
        """Inverse of :meth:`to_dict`."""
        left = tuple(FloatProduct(**item) for item in values["left"])
        return cls(values["macs"], values["quantized"], left)
