"""The layers of a canonical graph, as values: what `structure.find_structure` returns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer `x W + b`.

    Attributes:
        name: name of the layer, which is that of its MatMul node.
        kind: `patch_embed`, `qkv`, `proj`, `fc1`, `fc2`, `head` or `other`.
        source: name of the input tensor [..., N, C].
        output: name of the result [..., N, D], after the bias.
        weight: name of the initialiser [C, D].
        bias: name of the initialiser [D], or None.
        add: name of the Add node of the bias, or None.
        in_features: C.
        out_features: D.
        tokens: N, the size of axis -2 (1 for a matrix input): the rows that share one assignment of groups.
        instances: product of the axes before N, per image: windows for an attention in windows, else 1; the rows of a
            matrix input.
    """

    name: str
    kind: str
    source: str
    output: str
    weight: str
    bias: str | None
    add: str | None
    in_features: int
    out_features: int
    tokens: int
    instances: int

    @property
    def rows(self) -> int:
        """Rows per image: `tokens * instances`."""
        return self.tokens * self.instances


@dataclass(frozen=True)
class AttentionBlock:
    """A self-attention in its canonical spelling.

    Attributes:
        name: name of the block.
        qkv: name of the tensor [B, N, 3 H D] of queries, keys and values.
        output: name of the result [B, N, H D].
        num_heads: H.
        head_dim: D.
        scale: factor of the scores.
        bias: name of the constant [windows, H or 1, N, N] added to the scaled scores, or None.
        scores: name of the MatMul node of queries and keys.
        softmax: name of the Softmax node.
        mixing: name of the MatMul node of probabilities and values.
        nodes: names of all nodes from the Split to the last Reshape.
        tokens: N.
        instances: instances per image: windows for an attention in windows, else 1.
    """

    name: str
    qkv: str
    output: str
    num_heads: int
    head_dim: int
    scale: float
    bias: str | None
    scores: str
    softmax: str
    mixing: str
    nodes: tuple[str, ...]
    tokens: int
    instances: int


@dataclass(frozen=True)
class LayerNorm:
    """A LayerNormalization over the last axis; tensors and initialisers by name."""

    name: str
    source: str
    output: str
    gamma: str
    beta: str
    epsilon: float
    channels: int


@dataclass(frozen=True)
class Gelu:
    """A GELU; tensors by name, `approximate` is `none` or `tanh`."""

    name: str
    source: str
    output: str
    approximate: str


@dataclass(frozen=True)
class Residual:
    """A sum of two computed tensors, by name; `branch` is the one that a linear layer made, where one did."""

    name: str
    skip: str
    branch: str
    output: str


@dataclass(frozen=True)
class Skipped:
    """A layer that is left in float.

    Attributes:
        name: name of its MatMul or Softmax node.
        reason: why it cannot be quantized.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Structure:
    """Everything found in a canonical graph, in node order.

    Attributes:
        linears: linear layers.
        attentions: attention blocks.
        norms: normalisations.
        gelus: activations.
        residuals: residual sums.
        unrecognised: names of Softmax nodes that belong to no attention block and do not close the model.
        skipped: linear layers and attention blocks that are left in float, with their reasons.
    """

    linears: tuple[LinearLayer, ...]
    attentions: tuple[AttentionBlock, ...]
    norms: tuple[LayerNorm, ...]
    gelus: tuple[Gelu, ...]
    residuals: tuple[Residual, ...]
    unrecognised: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def linear(self, name: str) -> LinearLayer:
        """The linear layer of this name.

        Raises:
            KeyError: there is none.
        """
        for layer in self.linears:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def summary(self) -> str:
        """The counts in one line."""
        kinds = Counter(layer.kind for layer in self.linears)
        text = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        return (
            f"{len(self.linears)} linear layers ({text}), {len(self.attentions)} attention blocks, "
            f"{len(self.norms)} LayerNorm, {len(self.gelus)} GELU, {len(self.residuals)} residuals"
        )
