"""Accuracy against counting by hand."""

import numpy as np
import pytest

from qcompiler.errors import CalibrationDataError
from qcompiler.evaluation.accuracy import measure_accuracy
from qcompiler.evaluation.redraws import redrawn


def table(predictions, classes=4):
    """A run whose prediction for image i is `predictions[i]`; feeds hold the images' numbers."""

    def run(feed):
        return 3 * np.eye(classes, dtype=np.float32)[np.asarray(predictions)[feed["x"]]]

    return run


def batches(labels, size):
    numbers = np.arange(len(labels))
    return [({"x": numbers[i : i + size]}, np.asarray(labels)[i : i + size]) for i in range(0, len(labels), size)]


LABELS = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
FLOAT = [0, 1, 2, 3, 0, 1, 2, 3, 1, 0]  # 8 of 10
WORSE = [0, 1, 2, 3, 0, 1, 0, 0, 0, 0]  # right on 0-5 and 8: 7 of 10; agrees on 0-5 and 9: 7 of 10


@pytest.mark.parametrize("size", [1, 3, 10])
def test_counts(size):
    result = measure_accuracy({"float": table(FLOAT), "worse": table(WORSE)}, batches(LABELS, size))
    reference, worse = result
    assert (reference.model, worse.model) == ("float", "worse")
    assert reference.images == worse.images == 10
    assert reference.top1 == pytest.approx(80)
    assert worse.top1 == pytest.approx(70)
    assert worse.drop == pytest.approx(10)
    assert worse.agreement == pytest.approx(70)
    assert (reference.drop, reference.drop_se, reference.agreement, reference.kl) == (0, 0, 100, 0)
    # Differences per image: +1 at 6 and 7, -1 at 8, else 0; mean 0.1, sum of squares about the mean 3 - 10 * 0.01.
    assert worse.drop_se == pytest.approx(100 * np.sqrt(2.9 / 9 / 10))
    # Three images differ, each by KL((p, r, r, r) || (r, p, r, r)) = 3 (p - r) with p / r = e^3.
    p, r = np.exp(3) / (np.exp(3) + 3), 1 / (np.exp(3) + 3)
    assert worse.kl == pytest.approx(3 / 10 * 3 * (p - r))


def test_paired_error_is_smaller_than_of_two_separate_samples():
    """Two models that fail on the same images: the drop is known far better than either accuracy."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 400)
    first = np.where(draw.random(400) < 0.7, labels, (labels + 1) % 4)
    second = first.copy()
    second[:8] = (labels[:8] + 1) % 4
    _, worse = measure_accuracy({"float": table(first), "q": table(second)}, batches(labels, 64))
    assert worse.drop_se < worse.top1_se / 3


def test_paired_error_predicts_the_spread_over_samples():
    """Oracle: the spread of the drop over many samples of images from one population."""
    draw = np.random.default_rng(2)

    def sample():
        labels = draw.integers(0, 4, 200)
        first = np.where(draw.random(200) < 0.8, labels, (labels + 1) % 4)
        second = np.where(draw.random(200) < 0.1, (labels + 2) % 4, first)
        return measure_accuracy({"float": table(first), "q": table(second)}, batches(labels, 200))[1]

    results = [sample() for _ in range(300)]
    spread = np.std([result.drop for result in results])
    assert np.mean([result.drop_se for result in results]) == pytest.approx(spread, rel=0.15)


def test_filled_batches_count_each_image_once():
    feeds = [({"x": np.array([0, 1, 2, 3])}, np.array([0, 1, 2, 3])), ({"x": np.array([8, 9, 8, 9])}, np.array([0, 1]))]
    (reference,) = measure_accuracy({"float": table(FLOAT)}, feeds)
    assert reference.images == 6
    assert reference.top1 == pytest.approx(100 * 4 / 6)


def test_reference_runs_once_a_batch():
    calls = []

    def run(feed):
        calls.append(1)
        return table(FLOAT)(feed)

    measure_accuracy({"float": run, "other": table(WORSE)}, batches(LABELS, 5))
    assert len(calls) == 2


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_labels_that_are_no_class(labels):
    with pytest.raises(CalibrationDataError, match="4 classes"):
        measure_accuracy({"float": table(FLOAT)}, batches(labels, 2))


def test_no_images():
    with pytest.raises(CalibrationDataError, match="no labelled images"):
        measure_accuracy({"float": table(FLOAT)}, [])


def test_to_dict_is_plain():
    (result,) = measure_accuracy({"float": table(FLOAT)}, batches(LABELS, 5))
    assert {type(value) for value in result.to_dict().values()} == {str, int, float}


def test_draws_are_averaged_image_by_image():
    """Images of which noise decides the class: on an edge, far from it, and between."""
    images = np.array([0.0, 4.0, -4.0, 0.0, 1e-4, -3.0], np.float32)
    labels = np.array([1, 1, 1, 0, 1, 0])

    def run(feed):
        return 3 * np.eye(2, dtype=np.float32)[(feed["x"] > 0).astype(int)]

    given = [({"x": images[:3]}, labels[:3]), ({"x": images[3:]}, labels[3:])]
    draws = 5
    reference, found = measure_accuracy({"float": run, "q": run}, given, draws=draws)
    right, same, plain = [], [], run({"x": images}).argmax(1)
    for draw in range(draws):
        values = np.concatenate([redrawn(feed, draw, number)["x"] for number, (feed, _) in enumerate(given)])
        right.append((values > 0) == labels)
        same.append((values > 0) == plain)
    share = np.mean(right, axis=0)
    assert 0 < share[0] < 1 and set(share[[1, 2, 5]]) == {0, 1}
    assert (reference.draws, found.draws, found.images) == (1, draws, 6)
    assert reference.top1 == pytest.approx(100 * (plain == labels).mean())
    assert found.top1 == pytest.approx(100 * share.mean())
    assert found.agreement == pytest.approx(100 * np.mean(same))
    difference = (plain == labels) - share
    assert found.drop == pytest.approx(100 * difference.mean())
    assert found.drop_se == pytest.approx(100 * difference.std(ddof=1) / 6**0.5)
