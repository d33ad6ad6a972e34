"""The share that second-order rounding leaves, against weights that are really rounded."""

import numpy as np
import pytest

from qcompiler.quant.rounding_share import rounding_share
from qcompiler.quant.weight_grid import WeightGrid
from qcompiler.quant.weights import round_to_nearest, second_order

CHANNELS, OUTPUTS, ROWS = 48, 4000, 4000


def correlated(seed, strength):
    """Rows whose channels share a few directions, and other rows of the same kind."""
    draw = np.random.default_rng(seed)
    mix = np.eye(CHANNELS) + strength * draw.standard_normal((CHANNELS, 4)) @ draw.standard_normal((4, CHANNELS))
    mix = mix * draw.uniform(0.2, 2, CHANNELS)
    return tuple((draw.standard_normal((ROWS, CHANNELS)) @ mix).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize("damping", [0.05, 0.3])
@pytest.mark.parametrize("strength", [0.1, 0.3, 1.0])
def test_as_measured_on_rounded_weights(strength, damping):
    rows, others = correlated(3, strength)
    draw = np.random.default_rng(5)
    weight = draw.standard_normal((CHANNELS, OUTPUTS)).astype(np.float32)
    grid = WeightGrid(8, np.full(OUTPUTS, 1 / 16, np.float32), None)  # nothing clips
    hessian = rows.T @ rows

    def error(found):
        return np.square(others @ (found.dequantized() - weight)).sum(dtype=np.float64)

    measured = error(second_order(weight, grid, hessian, damping)) / error(round_to_nearest(weight, grid))
    assert rounding_share(hessian, others.T @ others, damping) == pytest.approx(measured, rel=0.06)
    assert measured < 0.97


def test_channels_without_correlation():
    diagonal = np.diag(np.random.default_rng(0).uniform(0.5, 2, CHANNELS)).astype(np.float32)
    assert rounding_share(diagonal, diagonal, 0.1) == pytest.approx(1.0)


def test_never_above_nearest():
    rows, _ = correlated(1, 1.0)
    _, others = correlated(2, 1.0)  # of another distribution: what was fitted does harm there
    assert rounding_share(rows[:8].T @ rows[:8], others.T @ others, damping=1e-3) == 1.0


def test_inputs_of_zeros():
    zeros, ones = np.zeros((4, 4), np.float32), np.eye(4, dtype=np.float32)
    assert rounding_share(zeros, ones, 0.1) == rounding_share(ones, zeros, 0.1) == 1.0
