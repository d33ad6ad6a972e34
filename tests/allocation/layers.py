"""Small layers with samples of their inputs, and candidates with made-up numbers."""

import numpy as np

from qcompiler.allocation.attention_candidates import AttentionCandidate, OperandErrors
from qcompiler.allocation.candidates import InputCandidate, LinearCandidates, WeightCandidate
from qcompiler.allocation.space import InputScheme
from qcompiler.ir.layers import AttentionBlock, LinearLayer
from qcompiler.quant import groups
from qcompiler.quant.attention_inputs import AttentionSamples
from qcompiler.quant.choices import BLOCKS, AttentionChoice
from qcompiler.quant.fit_inputs import InputSamples

F = np.float32
CHANNELS, OUTPUTS, TOKENS = 64, 24, 6


def linear(name="fc", kind="fc1", tokens=TOKENS, inner=CHANNELS, outputs=OUTPUTS):
    return LinearLayer(name, kind, "x", f"{name}.y", f"{name}.weight", None, None, inner, outputs, tokens, 1)


def input_samples(seed=0, instances=4, tokens=TOKENS, channels=CHANNELS):
    """Channels of different sizes; ranges of channels and rows of normalised rows."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((instances, tokens, channels)) * np.geomspace(0.1, 3, channels)
    unit = x / np.sqrt((x**2).mean(axis=-1, keepdims=True))
    return InputSamples(x.astype(F), ranges_by_axis(unit))


def ranges_by_axis(unit):
    """Ranges of every channel and of every row, by the axis constant of the groups."""
    found = {}
    for axis, reduced in ((groups.CHANNELS, -2), (groups.ROWS, -1)):
        found[axis] = np.stack([unit.min(axis=reduced).ravel(), unit.max(axis=reduced).ravel()], axis=1).astype(F)
    return found


def weight(seed=1, inner=CHANNELS, outputs=OUTPUTS):
    return (np.random.default_rng(seed).standard_normal((inner, outputs)) / np.sqrt(inner)).astype(F)


def attention(tokens=TOKENS, heads=2, dim=16):
    return AttentionBlock(
        name="attn",
        qkv="qkv",
        output="out",
        num_heads=heads,
        head_dim=dim,
        scale=0.25,
        bias=None,
        scores="attn/scores",
        softmax="attn/softmax",
        mixing="attn/mixing",
        nodes=(),
        tokens=tokens,
        instances=1,
    )


def attention_samples(seed=2, instances=6, tokens=TOKENS, dim=16):
    draw = np.random.default_rng(seed)
    query, key, value = draw.standard_normal((3, instances, tokens, dim)).astype(F)
    scores = query @ key.swapaxes(1, 2) / 4
    probability = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    return AttentionSamples(query, key, value, probability.astype(F))


def made_up_linear(name="fc", input_bits=(3, 4), weight_bits=(3, 4), errors=((0.2, 0.1), (0.08, 0.02))):
    """Candidates whose quantizers are not looked at."""
    inputs = tuple(
        InputCandidate(bits, InputScheme(BLOCKS, block=16, rotate=16), None, error, 10 * bits)
        for bits, error in zip(input_bits, errors[0], strict=True)
    )
    weights = tuple(
        WeightCandidate(bits, 0, error, 0, 100 * bits) for bits, error in zip(weight_bits, errors[1], strict=True)
    )
    return LinearCandidates(linear(name), inputs, weights, None, None)


def made_up_attention(widths=((3, 3), (4, 4), (3, 4))):
    return tuple(
        AttentionCandidate(
            AttentionChoice(qk, v), None, OperandErrors(1 / qk, 2 / qk), OperandErrors(1 / v, 3 / v), qk * qk + v * v, 7
        )
        for qk, v in widths
    )
