"""What of a layer decides how long it takes in float: its sizes, and the nodes around it that its operator takes in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from qcompiler.ir.structure import AttentionBlock, LinearLayer, Structure


@dataclass(frozen=True)
class LinearShape:
    """One linear layer for one image.

    Attributes:
        instances: Instances per image.
        tokens: Rows of an instance.
        channels: Length of the reduction.
        outputs: Columns of the result.
        norm: A LayerNormalization in front runs within the operator.
        gelu: ``none`` or ``tanh`` where a GELU behind runs within the operator (its attribute); else None.
        residual: The addition of the residual runs within the operator.
    """

    instances: int
    tokens: int
    channels: int
    outputs: int
    norm: bool = False
    gelu: str | None = None
    residual: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.instances * self.tokens * self.channels * self.outputs


@dataclass(frozen=True)
class AttentionShape:
    """One attention block for one image, from queries, keys and values to the joined heads.

    Attributes:
        instances: Instances per image: windows, or 1.
        tokens: Tokens of an instance.
        heads: Number of heads.
        head_dim: Channels of a head.
        bias: A constant is added to the scores.
    """

    instances: int
    tokens: int
    heads: int
    head_dim: int
    bias: bool = False


Shape = LinearShape | AttentionShape


def linear_shapes(structure: Structure) -> dict[str, LinearShape]:
    """Shape of every linear layer, by its name, with what the LOWER passes will fuse into it."""
    readers = Counter(layer.source for layer in structure.linears)
    readers.update(residual.skip for residual in structure.residuals)
    norms = {norm.output for norm in structure.norms}
    gelus = {gelu.source: gelu.approximate for gelu in structure.gelus}
    branches = {residual.branch for residual in structure.residuals}
    return {layer.name: _linear(layer, readers, norms, gelus, branches) for layer in structure.linears}


def _linear(
    layer: LinearLayer, readers: Counter[str], norms: set[str], gelus: dict[str, str], branches: set[str]
) -> LinearShape:
    residual = layer.output in branches
    # There is no operator with both: the sum is fused first.
    norm = layer.source in norms and readers[layer.source] == 1 and not residual
    gelu = gelus.get(layer.output)
    return LinearShape(
        layer.instances, layer.tokens, layer.in_features, layer.out_features, norm=norm, gelu=gelu, residual=residual
    )


def attention_shape(block: AttentionBlock) -> AttentionShape:
    """Shape of an attention block."""
    return AttentionShape(block.instances, block.tokens, block.num_heads, block.head_dim, block.bias is not None)
