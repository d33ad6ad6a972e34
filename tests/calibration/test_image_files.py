"""Lists of images, unreadable files, and labelled sets."""

import numpy as np
import pytest
from PIL import Image

from qcompiler.calibration.image_files import ImageFolderReader, list_images
from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.preprocess import PRESETS
from qcompiler.errors import CalibrationDataError

INPUTS = [ModelInput("input", ("batch", 3, 8, 8))]
HALF = PRESETS["half"]


def test_folder_order_is_by_relative_path(tmp_path):
    for name in ("b.jpg", "a/z.png", "A.PNG", "a/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    assert [image.name for image in list_images(tmp_path)] == ["A.PNG", "a/z.png", "b.jpg"]


def test_empty_folder(tmp_path):
    with pytest.raises(CalibrationDataError, match="no images"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\n", "no images"),
        ("name,label\nx.png,1\n", "header 'file,label'"),
        ("file,label\nmissing.png,1\n", "line 2: no file 'missing.png'"),
        ("file,label\nx.png,1\nx.png,cat\n", "line 3: the label 'cat'"),
        ("file,label\n,1\n", "line 2"),
        (b"\xff\xfe\x00file", "not a CSV"),
    ],
)
def test_csv_that_does_not_follow_the_rule(tmp_path, content, message):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "set" / "x.png")
    (tmp_path / "set.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CalibrationDataError, match=message):
        list_images(tmp_path / "set.csv")


def test_csv_without_labels(tmp_path):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "set" / "x.png")
    (tmp_path / "set.csv").write_text("file\nx.png\n")
    assert list_images(tmp_path / "set.csv")[0].label is None


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_unreadable_image_is_named(tmp_path, cut):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "bad.jpg")
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "bad.jpg").read_bytes()[:cut])
    reader = ImageFolderReader(tmp_path, INPUTS, HALF)
    with pytest.raises(CalibrationDataError, match=r"bad\.jpg: not a readable image"):
        reader.get_next()


def test_models_that_read_no_images(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    for inputs in (
        [ModelInput("ids", ("batch", 12), "int64")],
        [ModelInput("a", (1, 3, 8, 8)), ModelInput("b", (1, 3, 8, 8))],
        [ModelInput("x", (1, 8, 8, 3))],
    ):
        with pytest.raises(CalibrationDataError, match="not one batch of images"):
            ImageFolderReader(tmp_path, inputs, HALF)


def test_one_channel_model(tmp_path):
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / "x.png")
    reader = ImageFolderReader(tmp_path, [ModelInput("x", ("n", 1, 8, 8))], HALF)
    np.testing.assert_array_equal(reader.get_next()["x"], np.ones((1, 1, 8, 8), np.float32))
