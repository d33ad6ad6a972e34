"""Corrections of predictions, against sums written out image by image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.quant.prediction_bias import bias_correction, corrected_kl, cross_corrected_kl

F32 = np.float32


def predictions(images=40, classes=6, noise=0.1, seed=0):
    """Float predictions, the same off by one shift for all images and a little noise, and the shift."""
    rng = np.random.default_rng(seed)
    reference = rng.normal(0, 2, (images, classes))
    shift = rng.normal(0, 1, classes)
    found = reference - shift + noise * rng.normal(0, 1, reference.shape)
    return reference.astype(F32), found.astype(F32), shift


def divergence(reference, found):
    """Of one image, in nats."""
    p, q = (np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum() for x in (reference, found))
    return float((p * np.log(p / q)).sum())


def mean_divergence(reference, found):
    return float(np.mean([divergence(*pair) for pair in zip(reference, found, strict=True)]))


def test_a_shift_is_found_and_taken_back():
    reference, found, shift = predictions()
    correction = bias_correction(reference, found)
    assert correction.dtype == F32
    # The mean of 40 draws of standard deviation 0.1.
    np.testing.assert_allclose(correction, shift, atol=5 * 0.1 / np.sqrt(40))
    assert mean_divergence(reference, found + correction) < 0.05 * mean_divergence(reference, found)


@pytest.mark.parametrize("images", [2, 3, 9])
def test_each_half_is_corrected_by_the_other(images):
    reference, found, _ = predictions(images, noise=1.0)
    losses = []
    for image in range(images):
        others = [other for other in range(images) if other % 2 != image % 2]
        error = np.mean([reference[other].astype(np.float64) - found[other] for other in others], axis=0)
        losses.append(divergence(reference[image], found[image] + error))
    assert cross_corrected_kl(reference, found) == pytest.approx(np.mean(losses), rel=1e-9)


def test_noise_is_left_alone():
    """Without a shift the mean error is noise too, and adding it makes things worse."""
    rng = np.random.default_rng(3)
    reference = rng.normal(0, 1, (10, 4)).astype(F32)
    found = (reference + rng.normal(0, 1, reference.shape)).astype(F32)
    assert cross_corrected_kl(reference, found) > mean_divergence(reference, found)
    assert bias_correction(reference, found) is None
    assert corrected_kl(reference, found) == pytest.approx(mean_divergence(reference, found), rel=1e-9)


def test_a_single_image_proves_nothing():
    reference, found, _ = predictions(1)
    assert bias_correction(reference, found) is None
    assert corrected_kl(reference, found) == pytest.approx(divergence(reference[0], found[0]), rel=1e-9)


def test_equal_predictions_need_no_correction():
    reference, _, _ = predictions()
    assert bias_correction(reference, reference) is None
    assert corrected_kl(reference, reference) == 0


@given(st.integers(1, 12), st.integers(1, 7), st.floats(0, 3), st.integers(0, 1000))
def test_the_loss_never_grows(images, classes, noise, seed):
    reference, found, _ = predictions(images, classes, noise, seed)
    loss = corrected_kl(reference, found)
    assert 0 <= loss <= mean_divergence(reference, found) + 1e-9
    correction = bias_correction(reference, found)
    if correction is None:
        assert loss == pytest.approx(mean_divergence(reference, found), rel=1e-6, abs=1e-9)
    else:
        assert correction.shape == (classes,)
        assert loss == cross_corrected_kl(reference, found)
