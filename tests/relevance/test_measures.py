"""Divergence of predictions against SciPy, error of a tensor against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import rel_entr, softmax

from qcompiler.relevance.measures import RelativeError, mean_kl

F = np.float32
LOGITS = st.tuples(st.integers(1, 4), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(*[arrays(F, shape, elements=st.floats(-30, 30, width=32))] * 2)
)
BATCHES = st.lists(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=5), max_size=4)


def kl(reference, logits):
    p, q = (softmax(x.astype(np.float64), axis=1) for x in (reference, logits))
    return rel_entr(p, q).sum(axis=1).mean()


@settings(deadline=None)
@given(LOGITS)
def test_mean_kl(pair):
    assert mean_kl(*pair) == pytest.approx(kl(*pair), rel=1e-6, abs=1e-9)


def test_mean_kl_of_far_logits_is_finite():
    a, b = F([[1000, 0]]), F([[0, 1000]])
    assert mean_kl(a, b) == pytest.approx(1000)
    assert mean_kl(a, a) == 0


def test_mean_kl_is_over_images_and_directed():
    a, b = F([[0, 1], [0, 0]]), F([[0, 3], [0, 0]])
    assert mean_kl(a, b) == pytest.approx(mean_kl(a[:1], b[:1]) / 2)
    assert mean_kl(a, b) != pytest.approx(mean_kl(b, a), rel=1e-3)


@given(BATCHES)
def test_relative_error(batches):
    error, difference, energy = RelativeError(), 0, 0
    for batch in batches:
        reference, found = (F([[pair[side] / 4 for pair in batch]]) for side in (0, 1))
        error.add(reference, found)
        difference += sum(Fraction(a - b, 4) ** 2 for a, b in batch)
        energy += sum(Fraction(a, 4) ** 2 for a, _ in batch)
    if energy:
        assert error.value == pytest.approx(float(difference / energy), rel=1e-12)
    else:
        assert error.value == (math.inf if difference else 0)
