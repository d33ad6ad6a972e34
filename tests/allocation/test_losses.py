"""Predicted losses: proportional to the error, at a rate that all measurements agree on."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.allocation.losses import predicted_losses, relevance_losses
from qcompiler.relevance.jobs import Measured

POSITIVE = st.floats(1e-6, 1e3)


def test_one_measurement_sets_the_rate():
    assert predicted_losses([0.1, 0.2, 0.4], {1: Measured(6.0, 0.0)}) == pytest.approx([3.0, 6.0, 12.0])


def test_two_measurements_set_the_geometric_mean_of_their_rates():
    """2 and 8 nats per unit of error: 4, for what was measured too."""
    found = predicted_losses([1.0, 1.0, 0.5], {0: Measured(2.0, 0.0), 1: Measured(8.0, 0.0)})
    assert found == pytest.approx([4.0, 4.0, 2.0])


@given(st.lists(POSITIVE, min_size=2, max_size=8), POSITIVE, st.data())
def test_losses_keep_the_order_of_the_errors(errors, kl, data):
    index = data.draw(st.integers(0, len(errors) - 1))
    found = predicted_losses(errors, {index: Measured(kl, 0.0)})
    for error, loss in zip(errors, found, strict=True):
        assert loss == pytest.approx(kl * error / errors[index])


def test_a_family_moves_away_from_the_common_rate():
    """Family a: 2 nats per unit of error, once; b: 8, twice; c: nothing."""
    measured = {0: Measured(2.0, 0.0), 2: Measured(8.0, 0.0), 3: Measured(4.0, 0.0)}
    found = predicted_losses([1.0, 3.0, 1.0, 0.5, 1.0], measured, ["a", "a", "b", "b", "c"])
    common = (2 * 8 * 8) ** (1 / 3)
    first, second = (common**4 * 2) ** (1 / 5), (common**4 * 8 * 8) ** (1 / 6)
    assert found == pytest.approx([first, 3 * first, second, second / 2, common])


def test_many_measurements_set_the_rate_of_their_family():
    measured = {i: Measured(8.0 if i < 200 else 2.0, 0.0) for i in range(400)}
    found = predicted_losses([1.0] * 400, measured, ["a"] * 200 + ["b"] * 200)
    assert found[0] == pytest.approx(8, rel=0.02)
    assert found[-1] == pytest.approx(2, rel=0.02)


def test_better_than_the_measurements_alone():
    """Losses of made-up layers, measured with the noise of a few images: the predictions are nearer to the truth."""
    draw = np.random.default_rng(0)
    errors = [0.12, 0.03, 0.008]
    alone, together = [], []
    for _ in range(200):
        rate = math.exp(draw.normal(0, 0.8))
        seen = {i: Measured(rate * error * math.exp(draw.normal(0, 0.35)), 0.0) for i, error in enumerate(errors)}
        found = predicted_losses(errors, seen)
        alone += [math.log(seen[i].kl / (rate * error)) for i, error in enumerate(errors)]
        together += [math.log(found[i] / (rate * error)) for i, error in enumerate(errors)]
    assert np.std(together) < 0.7 * np.std(alone)


def test_measurements_that_vanish():
    """One that is lost in rounding says nothing beside others; alone it is small, not the end of the arithmetic."""
    assert predicted_losses([0.5, 1.0], {0: Measured(0.0, 0.0), 1: Measured(3.0, 0.0)}) == pytest.approx([1.5, 3.0])
    assert predicted_losses([0.0, 1.0], {0: Measured(1.0, 0.0), 1: Measured(3.0, 0.0)}) == pytest.approx([0.0, 3.0])
    assert predicted_losses([0.5, 1.0], {0: Measured(0.0, 0.0)}) == pytest.approx([1e-12, 2e-12])
    assert predicted_losses([0.0, 1.0], {0: Measured(1e-3, 0.0)}) == pytest.approx([0.0, 1e9])
    assert predicted_losses([0.0, 0.0], {0: Measured(0.0, 0.0)}) == [0.0, 0.0]
    # Rounding may even make a KL divergence negative.
    assert predicted_losses([0.5, 1.0], {0: Measured(-1e-18, 0.0)})[1] > 0


def test_relevance_weighs_errors():
    assert relevance_losses([0.1, 0.3], 0.5) == pytest.approx([0.05, 0.15])
    assert relevance_losses([0.1], 0.0)[0] > 0  # an error is never free
