"""Draws of a batch: small, repeatable, and different from each other."""

import numpy as np
import pytest

from qcompiler.evaluation.redraws import NOISE, redrawn

RANDOM = np.random.default_rng(0)
FEED = {"x": (RANDOM.standard_normal((2, 3, 8, 8)) * 5 + 2).astype(np.float32), "ids": np.arange(2)}


def noise(draw, batch):
    return (redrawn(FEED, draw, batch)["x"].astype(np.float64) - FEED["x"]) / FEED["x"].std()


def test_the_first_draw_is_the_batch():
    assert redrawn(FEED, 0, 5) is FEED


@pytest.mark.parametrize("draw", [1, 2])
def test_noise_is_small_and_in_proportion(draw):
    found = noise(draw, 0)
    assert redrawn(FEED, draw, 0)["x"].dtype == np.float32
    assert found.std() == pytest.approx(NOISE, rel=0.15)  # of 384 values
    assert abs(found.mean()) < 4 * NOISE / 384**0.5


def test_draws_and_batches_differ_and_repeat():
    assert np.array_equal(noise(1, 0), noise(1, 0))
    for other in (noise(2, 0), noise(1, 1)):
        assert abs(np.corrcoef(noise(1, 0).ravel(), other.ravel())[0, 1]) < 0.25  # 5 standard errors


def test_the_given_batch_is_not_changed():
    kept = FEED["x"].copy()
    assert redrawn(FEED, 3, 0)["ids"] is FEED["ids"]
    assert np.array_equal(FEED["x"], kept)


def test_constants_halves_and_infinities():
    feed = {
        "constant": np.full((1, 4), 7, np.float32),
        "half": np.geomspace(1e-3, 1, 64).astype(np.float16),
        "infinite": np.array([1, np.inf], np.float32),
    }
    drawn = redrawn(feed, 1, 0)
    assert np.array_equal(drawn["constant"], feed["constant"])
    assert drawn["half"].dtype == np.float16 and not np.array_equal(drawn["half"], feed["half"])
    assert np.array_equal(drawn["infinite"], feed["infinite"])
