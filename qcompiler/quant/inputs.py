"""A linear layer's input as its quantizer sees it: what happens in front of the codes, and what it does to weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcompiler.quant.blocks import BlockQuantizer, fake_quantize_blocks, rotate_rows, rotate_weight, simulate_blocks
from qcompiler.quant.channelwise import fake_quantize_folded, folded_input, folded_weight
from qcompiler.quant.groups import F32, fake_quantize
from qcompiler.quant.plan import ChannelFold, InputQuantizer
from qcompiler.quant.row_norm import normalize_rows, row_norm


@dataclass(frozen=True)
class LinearInput:
    """The quantizer of one linear layer's input with everything in front of it.

    *Quantizer rows* are rows in the basis of the codes, divided by their root mean square: errors and second moments
    weigh every token alike, and a few massive tokens do not own them.

    Attributes:
        quantizer: Table of groups, or blocks of each token.
        normalize: Rows are divided by their root mean square in front of a table.
        fold: Channel-wise scales that move into the LayerNormalization in front, or None.
    """

    quantizer: InputQuantizer
    normalize: bool = True
    fold: ChannelFold | None = None

    @property
    def bits(self) -> int:
        """Width of the codes."""
        return self.quantizer.bits

    def __call__(self, x: F32) -> F32:
        """``x [..., N, C]`` as the quantized network sees it, in the basis of the float network."""
        if isinstance(self.quantizer, BlockQuantizer):
            return simulate_blocks(x, self.quantizer)
        if self.fold is not None:
            return fake_quantize_folded(x, self.fold, self.quantizer)
        if not self.normalize:
            return fake_quantize(x, self.quantizer)
        norm = row_norm(x)
        return fake_quantize(x * (np.float32(1) / norm), self.quantizer) * norm

    def rows(self, x: F32) -> tuple[F32, F32]:
        """Quantizer rows of ``x [..., N, C]`` and the same rows quantized, both ``[rows, C]`` in the weight's basis."""
        if isinstance(self.quantizer, BlockQuantizer):
            seen = rotate_rows(x, self.quantizer.rotate)
            quantized = fake_quantize_blocks(seen, replace(self.quantizer, rotate=1))  # rotated already
        else:
            seen = self._in_front(x)
            quantized = fake_quantize(seen, self.quantizer)
        inverse = np.float32(1) / row_norm(seen)
        channels = x.shape[-1]
        return (seen * inverse).reshape(-1, channels), (quantized * inverse).reshape(-1, channels)

    def _in_front(self, x: F32) -> F32:
        if self.fold is not None:
            return folded_input(x, self.fold)
        return normalize_rows(x) if self.normalize else x

    def weight(self, weight: F32) -> F32:
        """``weight [C, D]`` in the basis of the quantizer rows; what it is multiplied by them stays the same."""
        if isinstance(self.quantizer, BlockQuantizer):
            return rotate_weight(weight, self.quantizer.rotate)
        if self.fold is not None:
            return folded_weight(weight, np.zeros(weight.shape[1], np.float32), self.fold)[0]
        return weight

    def original(self, weight: F32) -> F32:
        """Inverse of :meth:`weight`: a weight of the quantizer rows in the basis of the float network."""
        if isinstance(self.quantizer, BlockQuantizer):
            size = self.quantizer.rotate
            return rotate_weight(weight, size) * np.float32(size)
        if self.fold is not None:
            return weight / self.fold.scale[:, None]
        return weight


def input_error(item: LinearInput, x: F32, weight: F32) -> float:
    """Relative squared error of the layer's output that quantizing its input leaves, every token counting alike.

    Args:
        item: The quantizer.
        x: Sample of the float input ``[..., N, C]``.
        weight: Float weight ``[C, D]``.
    """
    # In the basis of the float network: the constant that a fold adds to its output is no part of the signal.
    inverse = np.float32(1) / row_norm(x)
    wanted = (x * inverse) @ weight
    difference = ((item(x) - x) * inverse) @ weight
    return float((difference**2).sum(dtype=np.float64) / ((wanted**2).sum(dtype=np.float64) or 1.0))
