"""What a rule of relevance propagation sees of one node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.errors import UnsupportedModelError
from qcompiler.quant.groups import F32
from qcompiler.relevance.lrp_shares import LinearRule

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """One input of a node.

    Attributes:
        variable: Whether it depends on the images; what it receives is dropped otherwise.
        shape: Its shape.
        value: Its values; None for a variable whose values the rule has not asked for.
    """

    variable: bool
    shape: tuple[int, ...]
    value: Array | None


@dataclass(frozen=True)
class Visit:
    """One node during the backward sweep.

    Attributes:
        node: The node.
        inputs: Its inputs in order, None for one left out.
        outputs: Shapes of its outputs.
        arrived: Relevance of its outputs, None where none arrived; at least one is there.
        linear: The rule of linear layers.
    """

    node: onnx.NodeProto
    inputs: tuple[Reading | None, ...]
    outputs: tuple[tuple[int, ...], ...]
    arrived: tuple[F32 | None, ...]
    linear: LinearRule

    @property
    def relevance(self) -> F32:
        """Relevance of the first output, zeros where none arrived."""
        return self.arrival(0)

    def arrival(self, index: int) -> F32:
        """Relevance of one output, zeros where none arrived."""
        found = self.arrived[index]
        return np.zeros(self.outputs[index], np.float32) if found is None else found

    def input(self, index: int) -> Reading:
        """An input that the operator requires."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise self.refusal(f"without input {index}")
        return found

    def value(self, index: int) -> Array:
        """Values of an input that the rule has asked for, or of a constant."""
        found = self.input(index).value
        if found is None:
            raise self.refusal(f"whose input {index} is no constant")
        return found

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or ``default`` where it is not given."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                return onnx.helper.get_attribute_value(attribute)
        return default

    def ints(self, name: str, index: int) -> list[int] | None:
        """Integers that are an attribute in old operator sets and a constant input in new ones; None without either."""
        given = self.attribute(name)
        if given is not None:
            return [int(item) for item in np.atleast_1d(given)]
        if index < len(self.inputs) and self.inputs[index] is not None:
            return [int(item) for item in np.atleast_1d(self.value(index))]
        return None

    def refusal(self, which: str = "") -> UnsupportedModelError:
        """The error for a node without a rule."""
        form = f" {which}" if which else ""
        return UnsupportedModelError(
            f"relevance propagation has no rule for operator '{self.node.op_type}'{form} (node '{self.node.name}'): "
            "choose bit widths without relevance, or give them with --bits"
        )


Back = Callable[[Visit], Sequence[F32 | None]]
"""Relevance of the outputs -> relevance of each input; None, or a shorter result, where an input receives nothing."""


def no_values(_inputs: Sequence[Reading | None]) -> Sequence[int]:
    """A rule that needs shapes only."""
    return ()


@dataclass(frozen=True)
class Rule:
    """How the relevance of an operator's outputs is handed to its inputs.

    Attributes:
        back: The rule.
        reads: Inputs whose values it needs, told from what is constant; values of constants are always there.
    """

    back: Back
    reads: Callable[[Sequence[Reading | None]], Sequence[int]] = no_values
