"""Divergence of predictions against its definition."""

import math

import numpy as np
import pytest

from qcompiler.quant.divergence import kl_divergence, log_softmax


def slow_kl(p_logits, q_logits):
    """Term by term from the definition, on Python floats."""
    p = [math.exp(x) for x in p_logits]
    q = [math.exp(x) for x in q_logits]
    return sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))


def test_kl_equals_the_definition():
    draw = np.random.default_rng(0)
    reference, candidate = draw.normal(size=(5, 7)), draw.normal(size=(5, 7))
    expected = [slow_kl(a, b) for a, b in zip(reference, candidate, strict=True)]
    np.testing.assert_allclose(kl_divergence(reference, candidate), expected, rtol=1e-12)


def test_kl_of_two_classes_by_hand():
    # softmax([ln 3, 0]) = (3/4, 1/4) against (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2).
    found = kl_divergence(np.array([[math.log(3), 0.0]]), np.zeros((1, 2)))
    assert found[0] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-12)


def test_kl_is_zero_for_shifted_logits_and_never_negative():
    logits = np.random.default_rng(1).normal(size=(100, 10)) * 20
    divergence = kl_divergence(logits, logits + 5)
    assert (divergence >= 0).all()
    assert divergence.max() < 1e-12


def test_large_logits_do_not_overflow():
    assert np.isfinite(log_softmax(np.array([[1e4, -1e4, 0.0]]))).all()
    assert kl_divergence(np.array([[1e4, 0.0]]), np.array([[0.0, 1e4]]))[0] == pytest.approx(1e4)
