"""Labelled images: what accuracy is measured on."""

import numpy as np
import pytest
from PIL import Image

from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.labelled import open_labelled
from qcompiler.calibration.preprocess import PRESETS
from qcompiler.errors import CalibrationDataError, OptionError

INPUTS = [ModelInput("input", ("batch", 1, 2, 2))]
FIXED = [ModelInput("input", (4, 1, 2, 2))]
HALF = PRESETS["half"]


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "eval.npz"
    np.savez(path, input=np.arange(40, dtype=np.float32).reshape(10, 1, 2, 2), labels=np.arange(10, dtype=np.uint8))
    return path


def test_npz_batches(archive):
    data = open_labelled(archive, INPUTS, batch=4)
    assert len(data) == 10
    for _ in range(2):  # iterates again
        batches = list(data)
        assert [len(feed["input"]) for feed, _ in batches] == [4, 4, 2]
        for feed, labels in batches:
            np.testing.assert_array_equal(feed["input"][:, 0, 0, 0], 4 * labels)


def test_fixed_batch_is_filled_but_not_labelled(archive):
    batches = list(open_labelled(archive, FIXED, batch=3))
    assert [len(feed["input"]) for feed, _ in batches] == [4, 4, 4]
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_limit_keeps_labels_beside_their_images(archive):
    for feed, labels in open_labelled(archive, INPUTS, limit=4, batch=1):
        assert feed["input"][0, 0, 0, 0] == 4 * labels[0]


def test_csv(tmp_path):
    (tmp_path / "set").mkdir()
    for name, level in (("a.png", 0), ("b.png", 255)):
        Image.new("L", (2, 2), level).save(tmp_path / "set" / name)
    (tmp_path / "set.csv").write_text("file,label\nb.png,5\na.png,2\n")
    data = open_labelled(tmp_path / "set.csv", INPUTS, HALF)
    ((feed, labels),) = list(data)
    assert labels.tolist() == [5, 2]
    assert feed["input"][:, 0, 0, 0].tolist() == [1.0, -1.0]
    assert data.preprocessing.crop == 2
    with pytest.raises(OptionError, match="--preset"):
        open_labelled(tmp_path / "set.csv", INPUTS)
    (tmp_path / "set.csv").write_text("file,label\nb.png,5\na.png,\n")
    with pytest.raises(CalibrationDataError, match="1 images have no label"):
        open_labelled(tmp_path / "set.csv", INPUTS, HALF)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "no array 'labels'"),
        (np.zeros(3), "not one whole number"),
        (np.zeros((3, 1), np.int64), "not one whole number"),
        (np.zeros(2, np.int64), "fewer"),
    ],
)
def test_wrong_labels(tmp_path, labels, message):
    arrays = {} if labels is None else {"labels": labels}
    np.savez(tmp_path / "x.npz", input=np.zeros((3, 1, 2, 2), np.float32), **arrays)
    with pytest.raises(CalibrationDataError, match=message):
        open_labelled(tmp_path / "x.npz", INPUTS)


def test_no_labelled_set(tmp_path):
    with pytest.raises(CalibrationDataError, match="no such file"):
        open_labelled(tmp_path / "x.csv", INPUTS, HALF)
    with pytest.raises(CalibrationDataError, match=r"neither a \.csv nor an \.npz"):
        open_labelled(tmp_path, INPUTS, HALF)
