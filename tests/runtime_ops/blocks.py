"""BlockLinear in NumPy, written from its definition and from nothing else in this repository."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import reference
from .reference import F32, NEAR, weight_operands


@dataclass
class BlockOperands:
    """A quantized input `[..., N, C]`.

    Attributes:
        codes: int64, the shape of the input.
        multiplier: Of every block, float32 `[..., N, C / block]`.
        zero_point: Likewise.
        values: Operands, int64.
        scale: Of every token, float32 `[..., N, 1]`, or of every instance, `[..., 1, 1]`.
        drift: How far an operand may move because something lies next to a rounding boundary.
    """

    codes: np.ndarray
    multiplier: np.ndarray
    zero_point: np.ndarray
    values: np.ndarray
    scale: np.ndarray
    drift: np.ndarray


def near(steps: np.ndarray) -> np.ndarray:
    """Whether a value lies next to a rounding boundary."""
    result: np.ndarray = np.abs(np.abs(steps - np.rint(steps)) - 0.5) < NEAR
    return result


def rotate_rows(x: np.ndarray, size: int) -> np.ndarray:
    """Sums and differences of channels 1, 2, 4, ..., size / 2 apart, one stage after the other."""
    half = 1
    while half < size:
        low = [channel for channel in range(x.shape[-1]) if not channel & half]
        high = [channel + half for channel in low]
        result = np.empty_like(x)
        result[..., low] = x[..., low] + x[..., high]
        result[..., high] = x[..., low] - x[..., high]
        x, half = result, 2 * half
    return x


def quantize(
    x: np.ndarray, bits: int, block: int, clip: float, slack: float, *, shared: bool = False, rotate: int = 1
) -> BlockOperands:
    """Codes, parameters and operands, every float32 operation in the order of the definition.

    With `shared` all tokens of an instance have the scale of the one with the largest magnitude.
    """
    x = rotate_rows(x, rotate)
    top, most = 2**bits - 1, 127 // 2 ** (bits - 1)
    peak = np.abs(x).max(axis=-1, keepdims=True)
    if shared:
        peak = peak.max(axis=-2, keepdims=True)
    scale = np.where(peak > F32(1e-30), peak / F32(most * 2 ** (bits - 1)), F32(1)).astype(F32)
    units = (x * (F32(1) / scale)).astype(F32)
    parts = [units[..., begin : begin + block] for begin in range(0, x.shape[-1], block)]
    low = np.stack([np.minimum(part.min(axis=-1), F32(0)) for part in parts], axis=-1) * F32(clip)
    high = np.stack([np.maximum(part.max(axis=-1), F32(0)) for part in parts], axis=-1) * F32(clip)
    width = (((high - low) * (F32(1) / F32(top))).astype(F32) - F32(slack)).astype(F32)
    multiplier = np.clip(np.ceil(width), 1, most).astype(F32)
    inverse = (F32(1) / multiplier).astype(F32)
    depth = (-low * inverse).astype(F32)
    zero_point = np.clip(np.rint(depth), 0, top).astype(F32)
    m, i, z = (np.repeat(value, block, axis=-1) for value in (multiplier, inverse, zero_point))
    steps = (units * i).astype(F32)
    codes = np.clip(np.rint(steps) + z, 0, top)
    values = np.clip(m * (codes - z), -127, 127)
    # Another multiplier or zero point moves every operand of the block, most of all those that its codes clip.
    moved = np.repeat(near(width - F32(0.5)) | near(depth), block, axis=-1)
    drift = np.where(moved, top + 2 * m, np.where(near(steps), m, 0))
    return BlockOperands(codes.astype(np.int64), multiplier, zero_point, values.astype(np.int64), scale, drift)


def linear(
    x: np.ndarray,
    weight: np.ndarray,
    w_scale: np.ndarray,
    bias: np.ndarray,
    *,
    bits: int,
    block: int,
    clip: float,
    slack: float,
    rotate: int = 1,
    w_blocks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """BlockLinear: the output, and how far it may move where something lies next to a rounding boundary."""
    found = quantize(x, bits, block, clip, slack, rotate=rotate)
    w = weight_operands(weight, w_blocks)
    rescaled = ((found.values @ w).astype(F32) * found.scale).astype(F32)
    y = ((rescaled * w_scale).astype(F32) + bias).astype(F32)
    return y, (found.drift @ np.abs(w)) * found.scale * np.abs(w_scale)


def attention(
    qkv: np.ndarray,
    p_groups: np.ndarray,
    levels: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    num_heads: int,
    scale: float,
    qk_bits: int,
    v_bits: int,
    block: int,
    clip: float,
    slack: float,
) -> tuple[np.ndarray, np.ndarray]:
    """BlockAttention and BlockAttentionBias: the output, and how far probabilities next to a boundary may move it."""
    q, k, v = reference.heads(qkv, num_heads)
    qa, ka = (quantize(part, qk_bits, block, clip, slack) for part in (q, k))
    va = quantize(v, v_bits, block, clip, slack, shared=True)
    operands = [(part.values, part.scale) for part in (qa, ka, va)]
    return reference.attend(operands[0], operands[1], operands[2], p_groups, levels, bias, scale)
