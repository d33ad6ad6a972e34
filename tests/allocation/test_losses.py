"""Predicted losses: measured where measured, proportional to the error elsewhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.allocation.losses import predicted_losses, relevance_losses
from qcompiler.relevance.jobs import Measured

POSITIVE = st.floats(1e-6, 1e3)


def test_one_measurement_sets_the_rate():
    assert predicted_losses([0.1, 0.2, 0.4], {1: Measured(6.0, 0.0)}) == pytest.approx([3.0, 6.0, 12.0])


def test_two_measurements_set_the_geometric_mean_of_their_rates():
    """2 and 8 nats per unit of error: 4; what was measured stays as it is."""
    found = predicted_losses([1.0, 1.0, 0.5], {0: Measured(2.0, 0.0), 1: Measured(8.0, 0.0)})
    assert found == pytest.approx([2.0, 8.0, 2.0])


@given(st.lists(POSITIVE, min_size=2, max_size=8), POSITIVE, st.data())
def test_losses_keep_the_order_of_the_errors(errors, kl, data):
    index = data.draw(st.integers(0, len(errors) - 1))
    found = predicted_losses(errors, {index: Measured(kl, 0.0)})
    assert found[index] == kl
    for error, loss in zip(errors, found, strict=True):
        assert loss == pytest.approx(kl * error / errors[index])


def test_every_family_has_its_own_rate():
    """Nothing of family c was measured: the geometric mean of 2 and 8 nats per error."""
    measured = {0: Measured(2.0, 0.0), 2: Measured(8.0, 0.0)}
    found = predicted_losses([1.0, 3.0, 1.0, 0.5, 1.0], measured, ["a", "a", "b", "b", "c"])
    assert found == pytest.approx([2.0, 6.0, 8.0, 4.0, 4.0])


def test_measurements_and_errors_that_vanish():
    """A loss of 0 or an error of 0 is small, not the end of the arithmetic."""
    assert predicted_losses([0.5, 1.0], {0: Measured(0.0, 0.0)}) == [0.0, pytest.approx(2e-12)]
    assert predicted_losses([0.0, 1.0], {0: Measured(1e-3, 0.0)}) == [1e-3, pytest.approx(1e9)]
    assert predicted_losses([0.0, 0.0], {0: Measured(0.0, 0.0)}) == [0.0, 0.0]
    # Rounding may even make a KL divergence negative.
    assert math.isfinite(predicted_losses([0.5, 1.0], {0: Measured(-1e-18, 0.0)})[1])


def test_relevance_weighs_errors():
    assert relevance_losses([0.1, 0.3], 0.5) == pytest.approx([0.05, 0.15])
    assert relevance_losses([0.1], 0.0)[0] > 0  # an error is never free
