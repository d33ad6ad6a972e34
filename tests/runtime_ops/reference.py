"""The lowered operators in NumPy, written from their definition and from nothing else in this repository.

Integers are added as int64, floating-point steps are float32 in the order of the definition, so that results can be
compared bit by bit. Where the kernels are free in how they compute (LayerNormalization, softmax, GELU), this file
works in float64 and also says how far a result may move when a value lies next to a rounding boundary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

F32 = np.float32
LOWER, UPPER, SCALE, ZERO_POINT, MULTIPLIER, OUTER = range(6)
NEAR = 2e-3  # distance from a rounding boundary, in codes, below which either neighbour is accepted


@dataclass
class Operands:
    """Quantized items: integer operands, their group, and whether a code lies next to a rounding boundary."""

    values: np.ndarray  # int64, the shape of the input
    group: np.ndarray  # int64, the reduced axis kept at size 1
    near: np.ndarray  # bool, the shape of the input


def assign(low: np.ndarray, high: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Index of the nearest group for items with these ranges, the first one on ties."""
    above = (high[..., None].astype(F32) - groups[:, UPPER]).astype(F32)
    below = (low[..., None].astype(F32) - groups[:, LOWER]).astype(F32)
    return np.argmin((above * above).astype(F32) + (below * below).astype(F32), axis=-1)


def quantize(
    x: np.ndarray, groups: np.ndarray, bits: int, axis: int, *, multiples: bool, signed_byte: bool
) -> Operands:
    """Operands of `x [..., N, C]`; items are channels (axis -1) or rows (axis -2); `signed_byte` saturates at +-127."""
    reduced = -2 if axis == -1 else -1
    group = assign(x.min(axis=reduced, keepdims=True), x.max(axis=reduced, keepdims=True), groups)
    chosen = groups[group]
    inverse = (F32(1) / chosen[..., SCALE]).astype(F32)
    steps = x.astype(F32) * inverse
    codes = np.clip(np.rint(steps) + chosen[..., ZERO_POINT], 0, 2**bits - 1)
    values = codes - chosen[..., ZERO_POINT]
    if multiples:
        values = values * chosen[..., MULTIPLIER]
    near = np.abs(np.abs(steps - np.rint(steps)) - 0.5) < NEAR
    if signed_byte:
        values = np.clip(values, -127, 127)
    return Operands(values.astype(np.int64), group, near)


def weight_operands(weight: np.ndarray, w_blocks: np.ndarray | None) -> np.ndarray:
    """Integers `[C, D]` of the product: weights less the zero point of their block, times its multiplier, in +-127."""
    w = weight.astype(np.int64)
    if w_blocks is None:
        return w
    blocks = np.repeat(w_blocks.astype(np.int64), len(w) // len(w_blocks), axis=0)
    return np.clip((blocks // 16) * (w - (blocks % 16 - 8)), -127, 127)


def linear(
    x: np.ndarray,
    weight: np.ndarray,
    w_scale: np.ndarray,
    groups: np.ndarray,
    bias: np.ndarray,
    *,
    bits: int,
    axis: int,
    segments: int = 0,
    w_blocks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """GroupLinear: the output, and how far an output may move where codes lie next to a rounding boundary."""
    w = weight_operands(weight, w_blocks)
    multiples = axis == -1 and not segments
    operands = quantize(x, groups, bits, axis, multiples=multiples, signed_byte=multiples)
    if segments:
        total = np.zeros((*x.shape[:-1], w.shape[1]), F32)
        for index in range(len(groups)):
            accumulator = np.where(operands.group == index, operands.values, 0) @ w
            total = (total + (accumulator.astype(F32) * groups[index, SCALE]).astype(F32)).astype(F32)
        step = groups[:, SCALE].max()
    else:
        outer = groups[operands.group, OUTER] if axis == -2 else groups[0, OUTER]
        total = ((operands.values @ w).astype(F32) * outer).astype(F32)
        step = groups[:, OUTER].max() * (groups[:, MULTIPLIER].max() if axis == -1 else 1)
    y = ((total * w_scale).astype(F32) + bias).astype(F32)
    slack = operands.near.astype(np.float64) @ np.abs(w) * (step * np.abs(w_scale))
    return y, slack


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    """LayerNormalization over the last axis, in float64 until the end."""
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return (centred / np.sqrt(variance + epsilon) * gamma + beta).astype(F32)


def gelu(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    """GELU in float64."""
    wide = x.astype(np.float64)
    if approximate == "tanh":
        return 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    return 0.5 * wide * (1 + erf(wide / np.sqrt(2)))


def attention(
    qkv: np.ndarray,
    q_groups: np.ndarray,
    k_groups: np.ndarray,
    v_groups: np.ndarray,
    p_groups: np.ndarray,
    levels: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    num_heads: int,
    scale: float,
    bits: int,
) -> tuple[np.ndarray, np.ndarray]:
    """GroupAttention and GroupAttentionBias: the output and its slack, both `[B, N, H*D]`."""
    q, k, v = heads(qkv, num_heads)
    qa = quantize(q, q_groups, bits, -2, multiples=False, signed_byte=True)
    ka = quantize(k, k_groups, bits, -2, multiples=False, signed_byte=True)
    va = quantize(v, v_groups, bits, -1, multiples=False, signed_byte=True)
    return attend(
        (qa.values, q_groups[qa.group, OUTER]),
        (ka.values, k_groups[ka.group, OUTER]),
        (va.values, v_groups[va.group, OUTER]),
        p_groups,
        levels,
        bias,
        scale,
    )


def heads(qkv: np.ndarray, num_heads: int) -> np.ndarray:
    """Queries, keys and values `[3, B, H, N, D]` of `[B, N, 3*H*D]`."""
    batch, tokens, width = qkv.shape
    return qkv.reshape(batch, tokens, 3, num_heads, width // (3 * num_heads)).transpose(2, 0, 3, 1, 4)


def attend(
    q: tuple[np.ndarray, np.ndarray],
    k: tuple[np.ndarray, np.ndarray],
    v: tuple[np.ndarray, np.ndarray],
    p_groups: np.ndarray,
    levels: np.ndarray,
    bias: np.ndarray | None,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Both products, from integer operands `[B, H, N, D]` and their outer scales: the output and its slack."""
    batch, num_heads, tokens, _ = q[0].shape
    products = (q[0] @ k[0].swapaxes(-1, -2)).astype(F32)
    row_scale = (q[1] * F32(scale)).astype(F32)  # [B, H, N, 1]
    scores = ((products * row_scale).astype(F32) * k[1].swapaxes(-1, -2)).astype(F32)
    if bias is not None:
        windows = np.broadcast_to(bias, (len(bias), num_heads, tokens, tokens))
        scores = (scores + windows[np.arange(batch) % len(bias)]).astype(F32)
    wide = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    p = (wide / wide.sum(axis=-1, keepdims=True)).astype(F32)
    group = assign(p.min(axis=-1, keepdims=True), p.max(axis=-1, keepdims=True), p_groups)
    steps = p * (F32(1) / p_groups[group, SCALE]).astype(F32)
    index = np.clip(np.rint(steps), 0, len(levels) - 1).astype(np.int64)
    operand = levels.astype(np.int64)[index]
    outer_p = p_groups[group, OUTER]
    y = (((operand @ v[0]).astype(F32) * outer_p).astype(F32) * v[1]).astype(F32)
    near = np.abs(np.abs(steps - np.rint(steps)) - 0.5) < NEAR
    jump = int(np.abs(np.diff(levels.astype(np.int64))).max(initial=0))
    slack = near.astype(np.float64) * jump @ np.abs(v[0]) * outer_p * v[1]
    return tuple(part.transpose(0, 2, 1, 3).reshape(batch, tokens, -1) for part in (y, slack))  # type: ignore[return-value]
