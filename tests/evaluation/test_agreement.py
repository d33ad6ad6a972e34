"""Agreement on unlabelled images."""

import numpy as np
import pytest

from qcompiler.errors import CalibrationDataError, NonFiniteError, UnsupportedModelError
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
    return {"y": feed["x"]}


def swapped(feed):
    """Exchanges the classes of the images whose first logit is above 2."""
    x = feed["x"]
    return {"y": np.where(x[:, :1] > 2, x[:, ::-1], x)}


def several(change):
    """Class scores, a map, and two rows per image; `change` is added to the map and to the rows."""

    def run(feed):
        x = feed["x"]
        return {"scores": x, "map": x[:, :, None] + change, "rows": np.repeat(x, 2, axis=0) + 2 * change}

    return run


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
    all_rows = measure_agreement(several(0.0), several(0.5), Reader([IMAGES]))
    assert measure_agreement(several(0.0), several(0.5), Reader(fixed), images=5) == all_rows
    assert measure_agreement(several(0.0), several(0.5), Reader(fixed)).images == 8


def test_stops_reading_at_the_number_of_images():
    reader = Reader([IMAGES[:2], IMAGES[2:4], IMAGES[4:]])
    assert measure_agreement(identity, identity, reader, images=2).images == 2
    assert len(reader.left) == 2


def test_same_model_agrees_fully():
    result = measure_agreement(identity, identity, Reader([IMAGES]))
    numbers = {"agreement": 100, "agreement_se": 0, "kl": 0, "relative_error": 0, "psnr": None}
    assert result.to_dict() == {"images": 5, **numbers, "worst": "y", "outputs": {"y": numbers}}


def test_the_worst_of_several_outputs():
    result = measure_agreement(several(0.0), several(0.5), Reader([IMAGES]))
    assert list(result.outputs) == ["scores", "map", "rows"]
    assert (result.agreement, result.kl) == (100, 0)
    assert result.outputs["map"].relative_error == pytest.approx(np.sqrt(10 * 0.25 / 40))
    assert result.worst == "rows"
    assert result.relative_error == pytest.approx(np.sqrt(20 * 1 / 80))
    assert result.psnr == result.outputs["rows"].psnr == pytest.approx(20 * np.log10(5 / 1))


def test_the_class_scores_that_agree_least():
    def run(feed):
        return {"a": feed["x"], "b": swapped(feed)["y"]}

    result = measure_agreement(lambda feed: {"a": feed["x"], "b": feed["x"]}, run, Reader([IMAGES]))
    assert result.agreement == pytest.approx(60)
    assert (result.agreement, result.agreement_se, result.kl) == (
        result.outputs["b"].agreement,
        result.outputs["b"].agreement_se,
        result.outputs["b"].kl,
    )


def test_no_images():
    with pytest.raises(CalibrationDataError, match="no images"):
        measure_agreement(identity, identity, Reader([]))


def test_every_output_must_be_finite():
    with pytest.raises(NonFiniteError, match="'quantized', output 'map'"):
        measure_agreement(several(0.0), lambda feed: several(0.0)(feed) | {"map": np.nan}, Reader([IMAGES]))


def test_outputs_whose_shape_depends_on_values():
    def selected(least):
        return lambda feed: {"kept": feed["x"][feed["x"][:, 0] > least]}

    with pytest.raises(UnsupportedModelError, match="output 'kept' has another shape"):
        measure_agreement(selected(0.5), selected(1.5), Reader([IMAGES]))

    def more(least):
        return lambda feed: selected(least)(feed) | identity(feed)

    assert list(measure_agreement(more(0.5), more(1.5), Reader([IMAGES])).outputs) == ["y"]
