"""Data with spread channels, weights and correlated inputs, and quantizers found the slow way."""

import numpy as np

from qcompiler.quant.groups import GroupTable, assign, item_ranges
from qcompiler.quant.moments import InputMoments

F = np.float32


def spread_channels(seed, instances=2, tokens=8, channels=32, factor=30):
    """`[instances, tokens, channels]` whose channels differ in size by `factor`, each with its own offset.

    Small enough that the fit sees every value itself.
    """
    draw = np.random.default_rng(seed)
    size = np.geomspace(1, factor, channels)
    draw.shuffle(size)
    x = draw.standard_normal((instances, tokens, channels)) + draw.uniform(-0.5, 0.5, channels)
    return (x * size).astype(F)


def members(x, table):
    """The values of each group of a table."""
    index = np.broadcast_to(assign(*item_ranges(x, table.axis), table.lower, table.upper), x.shape)
    return [x[index == group] for group in range(table.count)]


def least_error(x, table):
    """Squared error of the same groups with every scale and zero point tried: float64, on a fine grid."""
    top, total = 2**table.bits - 1, 0.0
    zero = np.arange(top + 1)[:, None]
    for values in members(x, table):
        if len(values):
            width = float(max(values.max(), 0) - min(values.min(), 0))
            steps = np.geomspace(width / top / 8, width / top * 1.1, 80)
            total += min(squared_error(values.astype(np.float64), step, zero, top) for step in steps)
    return total


def squared_error(values, step, zero, top):
    back = step * (np.clip(np.rint(values / step) + zero, 0, top) - zero)
    return ((values - back) ** 2).sum(axis=1).min()


def minmax_multiples(table):
    """The groups of a table with the plain construction: bounds as ranges, multiples of the narrowest, rounded."""
    top = 2**table.bits - 1
    width = (table.upper - table.lower) / F(top)
    multiplier = np.clip(np.rint(width / width.min()), 1, 127 // top).astype(F)
    outer = np.full_like(width, (width / multiplier).max())  # wide enough for every group
    scale = outer * multiplier
    zero = np.clip(np.rint(-table.lower / scale), 0, top).astype(F)
    return GroupTable(table.lower, table.upper, scale, zero, multiplier, outer, table.axis, table.bits)


def weights(channels=24, outputs=10, seed=0):
    """`[channels, outputs]` whose columns differ in size."""
    draw = np.random.default_rng(seed)
    return (draw.standard_normal((channels, outputs)) * draw.uniform(0.2, 3, outputs)).astype(F)


def correlated(rows, channels, seed=0):
    """Inputs `[rows, channels]` of low effective rank, as a network's activations are; float64."""
    draw = np.random.default_rng(seed)
    rank = max(channels // 4, 1)
    mixed = draw.standard_normal((rows, rank)) @ draw.standard_normal((rank, channels))
    return mixed + 0.3 * draw.standard_normal((rows, channels))


def moments_of(quantized, inputs=None):
    """Moments in float64, written from their definition; without quantized rows those of the float ones."""
    q, x = quantized.astype(np.float64), (quantized if inputs is None else inputs).astype(np.float64)
    gram, cross = (np.einsum("ni,nj->ij", q, right) for right in (q, x))
    return InputMoments(gram, cross, len(q))
