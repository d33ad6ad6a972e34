"""What a sensitivity sweep is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qcompiler.quant.groups import F32
from qcompiler.relevance.suffix import Operand

Simulation = Callable[[F32], F32]
"""From a float operand to the quantized one, shape and dtype kept; its argument cannot be written to."""


@dataclass(frozen=True)
class Variant:
    """One way to run a layer.

    Attributes:
        simulate: What its input operand is replaced by; None for the float operand. For worker processes it must
            pickle: a function of a module, a ``functools.partial``, an instance with ``__call__``; no lambda.
        weight: What its constant weight is replaced by, in the same shape; None for the float weight.
    """

    simulate: Simulation | None = None
    weight: F32 | None = None


@dataclass(frozen=True)
class SensitivityJob:
    """One layer and the ways to run it.

    Attributes:
        name: Unique name.
        operand: The input that is quantized.
        weight: The initialiser of the canonical model that ``operand.node`` reads as its weight; None where it reads no
            constant (products of two activations).
        output: Tensor that the output error is taken of, computed from the operand: the result of the layer, after its
            bias. It may be an output of the model.
        variants: The ways to run it.
    """

    name: str
    operand: Operand
    weight: str | None
    output: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Measured:
    """What one variant does while the rest of the model is float.

    Attributes:
        kl: Mean over the probe images of ``KL(float prediction || prediction)``, in nats.
        output_error: ``sum (y - y_float)^2 / sum y_float^2`` of the layer's output over all probe images.
    """

    kl: float
    output_error: float
