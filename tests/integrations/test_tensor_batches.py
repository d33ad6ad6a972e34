"""Arrays and batches in memory as a calibration reader."""

import numpy as np
import pytest

from qcompiler.calibration.tensor_batches import TensorBatches
from qcompiler.errors import CalibrationDataError

IMAGES = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)


def read(reader):
    """All feeds, twice."""
    first = list(reader)
    reader.rewind()
    second = list(reader)
    assert [sorted(feed) for feed in first] == [sorted(feed) for feed in second]
    for left, right in zip(first, second, strict=True):
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])
    return first


def test_images_of_one_array_come_one_by_one():
    found = read(TensorBatches(IMAGES, "x"))
    assert [feed["x"].shape for feed in found] == [(1, 2, 2, 2)] * 3
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in found]), IMAGES)


@pytest.mark.parametrize(
    "batch",
    [
        lambda part: part,
        lambda part: (part, np.zeros(len(part))),
        lambda part: [part, np.zeros(len(part))],
        lambda part: {"x": part},
    ],
    ids=["array", "pair", "list", "mapping"],
)
def test_batches(batch):
    found = read(TensorBatches([batch(IMAGES[:2]), batch(IMAGES[2:])], "x"))
    assert [len(feed["x"]) for feed in found] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in found]), IMAGES)


def test_tensors_with_a_gradient():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(IMAGES).requires_grad_()
    (feed,) = read(TensorBatches([(tensor, torch.zeros(3))], "x"))
    np.testing.assert_array_equal(feed["x"], IMAGES)


def test_what_is_no_data():
    with pytest.raises(CalibrationDataError, match="'int' is no calibration data"):
        TensorBatches(3, "x")
    with pytest.raises(CalibrationDataError, match="iterator"):
        TensorBatches((part for part in [IMAGES]), "x")
