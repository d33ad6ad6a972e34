"""Agreement on unlabelled images."""

import numpy as np
import pytest

from qcompiler.errors import CalibrationDataError
from qcompiler.evaluation.agreement import measure_agreement


class Reader:
    """Feeds from a list of arrays; must be rewound before the first feed."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.left = None

    def rewind(self):
        self.left = list(self.arrays)

    def get_next(self):
        return {"x": self.left.pop(0)} if self.left else None


def identity(feed):
    return feed["x"]


def swapped(feed):
    """Exchanges the classes of the images whose first logit is above 2."""
    x = feed["x"]
    return np.where(x[:, :1] > 2, x[:, ::-1], x)


IMAGES = np.array([[1.0, 0], [3, 0], [0, 1], [5, 0], [2, 0]], np.float32)


def test_counts_and_errors():
    result = measure_agreement(identity, swapped, Reader([IMAGES[:2], IMAGES[2:]]))
    assert result.images == 5
    assert result.agreement == pytest.approx(60)
    assert result.agreement_se == pytest.approx(100 * np.sqrt(5 * 0.6 * 0.4 / 4 / 5))
    # |difference|^2 = 2 (3^2 + 5^2), |x|^2 = 1 + 9 + 1 + 25 + 4.
    assert result.relative_error == pytest.approx(np.sqrt(68 / 40))
    # KL of (p, 1 - p) against (1 - p, p) with log-odds a is a (2 p - 1) = a tanh(a / 2).
    assert result.kl == pytest.approx((3 * np.tanh(1.5) + 5 * np.tanh(2.5)) / 5)


def test_repeated_images_are_left_out():
    fixed = [IMAGES[:4], IMAGES[[4, 4, 4, 4]]]
    all_rows = measure_agreement(identity, swapped, Reader([IMAGES]))
    assert measure_agreement(identity, swapped, Reader(fixed), images=5) == all_rows
    assert measure_agreement(identity, swapped, Reader(fixed)).images == 8


def test_stops_reading_at_the_number_of_images():
    reader = Reader([IMAGES[:2], IMAGES[2:4], IMAGES[4:]])
    assert measure_agreement(identity, identity, reader, images=2).images == 2
    assert len(reader.left) == 2


def test_same_model_agrees_fully():
    result = measure_agreement(identity, identity, Reader([IMAGES]))
    assert result.to_dict() == {"images": 5, "agreement": 100, "agreement_se": 0, "kl": 0, "relative_error": 0}


def test_no_images():
    with pytest.raises(CalibrationDataError, match="no images"):
        measure_agreement(identity, identity, Reader([]))
