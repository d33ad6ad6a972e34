"""Synthetic images have the statistics they claim."""

import itertools

import numpy as np
import pytest

from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.preprocess import PRESETS
from qcompiler.calibration.synthetic import SyntheticReader, dead_leaves, natural_image, pink_texture

SIZE = 128


def spectrum_slope(images):
    """Exponent of the radially averaged amplitude spectrum of [n, rows, columns], from octave means of the power."""
    power = np.mean([np.abs(np.fft.fft2(image - image.mean())) ** 2 for image in images], axis=0)
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None, :])
    edges = 2.0 ** np.arange(-5.5, -1.4, 0.5)
    centres, means = [], []
    for low, high in itertools.pairwise(edges):
        ring = (frequency >= low) & (frequency < high)
        centres.append(np.log(frequency[ring]).mean())
        means.append(np.log(power[ring].mean()))
    return np.polyfit(centres, means, 1)[0] / 2


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_texture_has_the_asked_spectrum(exponent):
    draw = np.random.default_rng(1)
    images = [pink_texture(draw, 1, SIZE, SIZE, exponent)[0] for _ in range(8)]
    assert spectrum_slope(images) == pytest.approx(-exponent, abs=0.1)


def test_the_measure_tells_white_noise():
    assert spectrum_slope(np.random.default_rng(0).standard_normal((8, SIZE, SIZE))) == pytest.approx(0, abs=0.05)


def test_images_fall_as_one_over_f_per_channel():
    images = np.stack([natural_image(seed, 3, SIZE, SIZE) for seed in range(24)])
    for channel in range(3):
        assert -1.4 < spectrum_slope(images[:, channel]) < -0.9


def test_colours_vary_together():
    pixels = np.stack([natural_image(seed, 3, SIZE, SIZE) for seed in range(16)]).transpose(1, 0, 2, 3).reshape(3, -1)
    correlation = np.corrcoef(pixels)[np.triu_indices(3, 1)]
    assert (correlation > 0.7).all()
    assert (correlation < 0.99).all()


def test_edges_make_differences_heavy_tailed():
    """Neighbouring pixels of photographs differ little or a lot: kurtosis far above the 3 of Gaussian textures."""

    def kurtosis(images):
        steps = np.diff(np.stack(images), axis=-1).ravel()
        steps = steps - steps.mean()
        return (steps**4).mean() / (steps**2).mean() ** 2

    draw = np.random.default_rng(0)
    assert kurtosis([pink_texture(draw, 1, SIZE, SIZE) for _ in range(4)]) < 3.5
    assert kurtosis([dead_leaves(draw, 1, SIZE, SIZE) for _ in range(4)]) > 6
    assert kurtosis([natural_image(seed, 1, SIZE, SIZE) for seed in range(4)]) > 4


def test_range_and_levels():
    images = np.stack([natural_image(seed, 3, 64, 64) for seed in range(32)])
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.mean() == pytest.approx(0.45, abs=0.05)
    assert images.std() == pytest.approx(0.25, abs=0.05)
    assert (images == 0).mean() + (images == 1).mean() < 0.1


def test_deterministic_and_all_different():
    first, again = natural_image(3, 3, 32, 32), natural_image(3, 3, 32, 32)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, natural_image(4, 3, 32, 32))


@pytest.mark.parametrize("shape", [("n", 3, 32, 32), (4, 1, 32, 32), (None, 3, None, None)])
def test_reader_shapes(shape):
    reader = SyntheticReader(ModelInput("x", shape), PRESETS["imagenet" if shape[1] == 3 else "half"], count=6)
    feeds = [feed["x"] for feed in reader]
    batch, size = (shape[0] if isinstance(shape[0], int) else 1), shape[2] or 224
    assert {values.shape for values in feeds} == {(batch, shape[1], size, size)}
    assert len(feeds) == -(-6 // batch)
    assert feeds[0].dtype == np.float32


def test_reader_normalises_like_real_images():
    inputs = ModelInput("x", (1, 3, 16, 16))
    raw = next(iter(SyntheticReader(inputs, PRESETS["none"])))["x"]
    half = next(iter(SyntheticReader(inputs, PRESETS["half"])))["x"]
    assert raw.min() >= 0
    np.testing.assert_allclose(half, raw * 2 - 1, atol=1e-6)
