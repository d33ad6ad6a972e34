"""Channel-wise quantization of a LayerNormalization's output, clipped, and folded into one quantizer.

Every channel has a scale and a zero point of its own. Factors and shifts move into the LayerNormalization in front and
into the linear layers behind (RepQ-ViT), so that one scale and one zero point remain and the product stays one integer
product. What a channel's factor takes from the activations it puts on a row of the weights: scales are clipped to a
band around their mean (LRP-QViT, Mix-QViT), whose width is chosen by the error of the layer's output.

With ``x' = (x + shift) / factor``, ``factor = s_c / s`` and ``shift = s_c (z_c - z)`` the one quantizer ``(s, z)``
gives ``rint(x' / s) + z = rint(x / s_c + z_c - z) + z``, which is ``rint(x / s_c) + z_c``, because ``z_c`` and ``z``
are integers. That holds for every z, and it needs no ``z_c`` within the codes. Hence a channel keeps its own centre:
its zero point is the integer that puts the codes around its range, far outside of the codes where the range is far
from zero, and ``z``, which an operator wants within the codes, is clipped alone. Both sides clip the same integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qcompiler.quant.groups import F32, ROWS, GroupTable, fake_quantize
from qcompiler.quant.plan import ChannelFold
from qcompiler.quant.weight_grid import channel_grid
from qcompiler.quant.weights import round_to_nearest

SPREADS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf)
COVERS = (0.9, 0.8, 0.7, 0.6)
RELATIVE_FLOOR = 0.05  # of the median: a LayerNorm gamma of 0 gives a scale of 1e-8, and its inverse ruins the weights
ROWS_TRIED, OUTPUTS_TRIED = 1024, 256  # what an error is taken over


@dataclass(frozen=True)
class ChannelQuantizer:
    """One uniform quantizer per channel: ``code = clip(rint(x / scale) + zero_point, 0, 2**bits - 1)``.

    Attributes:
        scale: Step of each channel, float32 ``[C]``.
        zero_point: Integer of each channel, float32 ``[C]``; not limited to the codes.
    """

    scale: F32
    zero_point: F32


def channel_quantizer(sample: F32, bits: int, spread: float, cover: float = 1.0) -> ChannelQuantizer:
    """Quantizers around the middle of every channel's range, their scales clipped to a band.

    Args:
        sample: Output of the LayerNormalization ``[instances, N, C]``.
        bits: Width of the codes.
        spread: Half of the band's width, in standard deviations of the scales around their mean; 0 gives all channels
            one scale, infinity clips nothing. Scales never fall below 0.05 times their median.
        cover: Share of a channel's range that its codes cover before its scale is clipped.
    """
    top = 2**bits - 1
    low = sample.min(axis=(0, 1)).astype(np.float64)
    high = sample.max(axis=(0, 1)).astype(np.float64)
    scale = cover * (high - low) / top
    # Channels that never change: any step will do, but its inverse must be finite.
    floor = RELATIVE_FLOOR * float(np.median(scale) or scale.max()) or 1.0
    if math.isfinite(spread):
        mean, deviation = scale.mean(), scale.std()
        scale = np.clip(scale, mean - spread * deviation, mean + spread * deviation)
    scale = np.maximum(scale, floor).astype(np.float32)
    zero_point = np.rint(top / 2 - (low + high) / 2 / scale)
    return ChannelQuantizer(scale, zero_point.astype(np.float32))


def fold(quantizer: ChannelQuantizer, bits: int, norm: str) -> tuple[ChannelFold, GroupTable]:
    """What moves into the LayerNormalization ``norm`` and its readers, and the quantizer that remains.

    Args:
        quantizer: Quantizers of the channels.
        bits: Width of the codes.
        norm: Name of the LayerNormalization.

    Returns:
        The fold, and a table of one group for rows that are not normalised: of the folded tensor it makes the codes
        that ``quantizer`` makes of the original one, up to values next to a rounding boundary.
    """
    step = quantizer.scale.mean(dtype=np.float64).astype(np.float32)
    zero = np.clip(np.rint(quantizer.zero_point.mean(dtype=np.float64)), 0, 2**bits - 1)
    factor = quantizer.scale / step
    shift = quantizer.scale * (quantizer.zero_point - np.float32(zero))
    one, bound = np.ones(1, np.float32), np.zeros(1, np.float32)
    table = GroupTable(bound, bound, one * step, one * np.float32(zero), one, one * step, ROWS, bits)
    return ChannelFold(norm, factor, shift), table


def folded_norm(gamma: F32, beta: F32, fold: ChannelFold) -> tuple[F32, F32]:
    """Scale and bias of a LayerNormalization ``[C]`` after a fold."""
    factor = fold.scale.astype(np.float64)
    return (gamma / factor).astype(np.float32), ((beta + fold.shift.astype(np.float64)) / factor).astype(np.float32)


def folded_weight(weight: F32, bias: F32, fold: ChannelFold) -> tuple[F32, F32]:
    """Weight ``[C, D]`` and bias ``[D]`` of a linear layer behind a folded LayerNormalization."""
    unshifted = bias - fold.shift.astype(np.float64) @ weight.astype(np.float64)
    return weight * fold.scale[:, None], unshifted.astype(np.float32)


def folded_input(x: F32, fold: ChannelFold) -> F32:
    """What a folded LayerNormalization writes where it wrote ``x [..., C]``."""
    return (x + fold.shift) / fold.scale


def fake_quantize_folded(x: F32, fold: ChannelFold, table: GroupTable) -> F32:
    """``x [..., N, C]``, as written before the fold, as the folded and quantized network sees it."""
    return fake_quantize(folded_input(x, fold), table) * fold.scale - fold.shift


def choose_quantizer(sample: F32, weight: F32, bits: int, weight_bits: int) -> ChannelQuantizer:
    """The clipping that leaves the least error in the layer's output.

    Args:
        sample: Output of the LayerNormalization ``[instances, N, C]``.
        weight: Float weights ``[C, D]``; those of several layers side by side where several read the sample.
        bits: Width of the activation's codes.
        weight_bits: Width of the weight's codes.
    """
    rows = sample.reshape(-1, sample.shape[-1])
    rows = rows[:: -(-len(rows) // ROWS_TRIED)]
    columns = np.ascontiguousarray(weight[:, :: -(-weight.shape[1] // OUTPUTS_TRIED)])

    def error(quantizer: ChannelQuantizer) -> float:
        return fold_error(rows, columns, quantizer, bits, weight_bits)

    # How much is covered changes all scales alike and hence not the weights: it can be chosen last.
    spread = min(SPREADS, key=lambda spread: error(channel_quantizer(sample, bits, spread)))
    return min((channel_quantizer(sample, bits, spread, cover) for cover in (1.0, *COVERS)), key=error)


def fold_error(rows: F32, weight: F32, quantizer: ChannelQuantizer, bits: int, weight_bits: int) -> float:
    """Squared error per output that a folded quantizer leaves, of the activations and of the weights.

    The two are added up as independent: activations are compared by the energy of the weight's rows, the folded weight
    by its product with the folded rows, each output channel on a symmetric grid of its own.

    Args:
        rows: Rows of the layer's input ``[rows, C]``.
        weight: Float weights ``[C, D]``.
        quantizer: Quantizers of the channels.
        bits: Width of the activation's codes.
        weight_bits: Width of the weight's codes.
    """
    found, table = fold(quantizer, bits, "")
    inputs = folded_input(rows, found)
    moved = weight * found.scale[:, None]
    energy = np.einsum("cd,cd->c", moved, moved)
    difference = fake_quantize(inputs, table) - inputs
    activations = float(np.einsum("nc,nc,c->", difference, difference, energy))
    grid = channel_grid(moved, weight_bits, np.mean(inputs * inputs, axis=0))
    product = inputs @ (round_to_nearest(moved, grid).dequantized() - moved)
    return (activations + float(np.vdot(product, product))) / product.size
