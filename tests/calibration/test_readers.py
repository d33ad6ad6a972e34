"""The rule behind --calib, and what all readers promise."""

import hashlib
import sys

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader
from PIL import Image

from qcompiler.calibration.feeds import spread
from qcompiler.calibration.preprocess import PRESETS
from qcompiler.calibration.readers import ModelInput, open_calibration
from qcompiler.errors import CalibrationDataError, NonFiniteError, OptionError

INPUTS = [ModelInput("input", ("batch", 3, 16, 16))]
FIXED = [ModelInput("input", (4, 3, 16, 16))]
HALF = PRESETS["half"]


class ListReader:
    """What users write: no rewind."""

    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


class RewindingReader(ListReader):
    def __init__(self, feeds):
        self.all = list(feeds)
        self.rewind()

    def rewind(self):
        self.feeds = iter(self.all)


def feed(batch=1, fill=0.0, name="input"):
    return {name: np.full((batch, 3, 16, 16), fill, np.float32)}


@pytest.fixture
def folder(tmp_path):
    """Ten flat images whose grey level is ten times their number."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    for index in range(10):
        place = root / "sub" if index > 7 else root
        Image.new("RGB", (16, 16), (10 * index,) * 3).save(place / f"{index}.png")
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "calib.npz"
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1) + np.zeros((1, 3, 16, 16), np.float32)
    np.savez_compressed(path, input=images, labels=np.arange(10))
    return path


def levels(reader):
    """First value of each image of each feed."""
    found = []
    while (values := reader.get_next()) is not None:
        found.append(values["input"][:, 0, 0, 0].tolist())
    return found


def sources(folder, archive):
    yield open_calibration(folder, INPUTS, HALF)
    yield open_calibration(str(archive), INPUTS)
    yield open_calibration(None, INPUTS, limit=10)
    yield open_calibration(RewindingReader([feed(1, i) for i in range(10)]), INPUTS)


def test_every_reader_is_an_onnxruntime_reader_and_rewinds(folder, archive):
    for source in sources(folder, archive):
        assert isinstance(source.reader, CalibrationDataReader)
        first = levels(source.reader)
        assert len(first) == 10
        assert source.reader.get_next() is None
        source.reader.rewind()
        assert levels(source.reader) == first
        source.reader.rewind()
        source.reader.get_next()
        source.reader.rewind()
        assert sum(1 for _ in source.reader) == 10
        source.reader.rewind()
        values = source.reader.get_next()["input"]
        assert values.shape == (1, 3, 16, 16)
        assert values.dtype == np.float32
        assert values.flags.c_contiguous


def test_folder_is_sorted_and_preprocessed(folder):
    source = open_calibration(folder, INPUTS, HALF)
    expected = [[(10 * i / 255 - 0.5) / 0.5] for i in range(10)]
    np.testing.assert_allclose(levels(source.reader), expected, atol=1e-6)
    assert source.kind == "images"
    assert source.count == 10
    assert source.warning is None
    assert source.to_dict()["preprocessing"]["crop"] == 16
    assert "reader" not in source.to_dict()


def test_csv_lists_files_of_the_folder_of_its_name(folder, tmp_path):
    (tmp_path / "images.csv").write_text("file,label\n3.png,7\nsub/9.png,1\n3.png,7\n")
    source = open_calibration(tmp_path / "images.csv", INPUTS, HALF)
    expected = [[(level / 255 - 0.5) / 0.5] for level in (30, 90, 30)]
    np.testing.assert_allclose(levels(source.reader), expected, atol=1e-6)


def test_images_need_a_preprocessing(folder):
    with pytest.raises(OptionError, match="--preset"):
        open_calibration(folder, INPUTS)


def test_fixed_batch_is_filled_by_repeating(folder, archive):
    numbers = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 9]]
    assert levels(open_calibration(archive, FIXED).reader) == numbers
    expected = (10 * np.array(numbers) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(levels(open_calibration(folder, FIXED, HALF).reader), expected, atol=1e-6)
    assert open_calibration(archive, FIXED).count == 10
    assert [len(row) for row in levels(open_calibration(None, FIXED, limit=5).reader)] == [4, 4]


def test_limit_is_spread_over_the_list(archive):
    (first, second, third) = (rows[0] for rows in levels(open_calibration(archive, INPUTS, limit=3).reader))
    assert 0 <= first < 3 <= second < 6 <= third < 10
    assert levels(open_calibration(archive, INPUTS, limit=99).reader) == [[i] for i in range(10)]
    with pytest.raises(OptionError, match="positive"):
        open_calibration(archive, INPUTS, limit=0)


def test_spread_meets_classes_in_both_orders():
    sorted_by_class = np.repeat(np.arange(10), 100)[spread(1000, 100)]
    in_turns = np.tile(np.arange(10), 100)[spread(1000, 100)]
    assert (np.bincount(sorted_by_class, minlength=10) == 10).all()
    assert (np.bincount(in_turns, minlength=10) >= 3).all()
    assert spread(1000, 100) == spread(1000, 100)
    assert spread(5, None) == [0, 1, 2, 3, 4]


def test_nothing_given_takes_the_file_beside_the_model(tmp_path, archive):
    model = tmp_path / "net.onnx"
    assert open_calibration(None, INPUTS, model_path=model).kind == "synthetic"
    archive.rename(tmp_path / "net.calib.npz")
    source = open_calibration(None, INPUTS, model_path=model)
    assert (source.kind, source.count, source.warning) == ("npz", 10, None)


def test_synthetic_is_never_silent():
    source = open_calibration(None, INPUTS)
    assert source.kind == "synthetic"
    assert "better with real images" in source.warning
    assert source.count == 128
    with pytest.raises(CalibrationDataError, match="a, b"):
        open_calibration(None, [ModelInput("a", (1, 3, 8, 8)), ModelInput("b", (1,))])
    with pytest.raises(CalibrationDataError, match=r"\.npz"):
        open_calibration(None, [ModelInput("tokens", ("batch", 128), "int64")])


def test_hash_depends_on_the_data_alone(folder, archive, tmp_path):
    moved = tmp_path / "elsewhere"
    original = open_calibration(folder, INPUTS, HALF).sha256
    folder.rename(moved)
    assert open_calibration(moved, INPUTS, HALF).sha256 == original
    assert open_calibration(moved, INPUTS, HALF, limit=5).sha256 != original
    Image.new("RGB", (16, 16), (1, 2, 3)).save(moved / "0.png")
    assert open_calibration(moved, INPUTS, HALF).sha256 != original
    assert open_calibration(None, INPUTS, limit=4).sha256 == open_calibration(None, INPUTS, limit=4).sha256
    assert open_calibration(None, INPUTS, limit=5).sha256 != open_calibration(None, INPUTS, limit=4).sha256


def test_user_reader_without_rewind_runs_once():
    source = open_calibration(ListReader([feed(2), feed(3, 1.0)]), INPUTS)
    assert source.count is None
    source.reader.rewind()  # nothing was read yet
    assert [len(row) for row in levels(source.reader)] == [2, 3]
    with pytest.raises(CalibrationDataError, match=r"no rewind\(\)"):
        source.reader.rewind()


def test_the_hash_of_a_user_reader_is_that_of_its_values():
    """SHA-256 over name, type, shape and values of every feed, however far the reader was read."""
    feeds = [feed(fill=0.25), feed(fill=0.5)]
    expected = hashlib.sha256()
    for item in feeds:
        expected.update(b"input\0float32\0(1, 3, 16, 16)\0" + item["input"].tobytes())
    source = open_calibration(RewindingReader(feeds), INPUTS)
    assert source.reader.get_next() is not None
    assert source.to_dict()["sha256"] == expected.hexdigest()
    assert len(list(source.reader)) == 2
    assert open_calibration(RewindingReader(feeds), INPUTS, limit=1).content_hash() != expected.hexdigest()
    assert open_calibration(RewindingReader([feed(fill=0.5)]), INPUTS).content_hash() != expected.hexdigest()


def test_a_user_reader_without_rewind_has_a_hash_once_it_was_read():
    feeds = [feed(fill=0.25), feed(fill=0.5)]
    source = open_calibration(ListReader(feeds), INPUTS)
    assert source.content_hash() is None
    assert len(list(source.reader)) == 2
    assert source.content_hash() == open_calibration(RewindingReader(feeds), INPUTS).content_hash()


def test_user_reader_stops_at_the_limit():
    source = open_calibration(RewindingReader([feed() for _ in range(9)]), INPUTS, limit=4)
    assert len(levels(source.reader)) == 4
    source.reader.rewind()
    assert len(levels(source.reader)) == 4


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (feed(name="pixels"), "holds 'pixels' but not 'input'"),
        ({"input": np.zeros((1, 3, 8, 8), np.float32)}, r"shape \[1, 3, 8, 8\]; .* float32 \[batch, 3, 16, 16\]"),
        ({"input": np.zeros((3, 16, 16), np.float32)}, r"shape \[3, 16, 16\]"),
        ({"input": np.zeros((1, 3, 16, 16), np.uint8)}, "holds uint8"),
        ([1, 2], "gave a list"),
    ],
)
def test_user_feeds_that_do_not_fit(item, message):
    reader = open_calibration(ListReader([item]), INPUTS).reader
    with pytest.raises(CalibrationDataError, match=message):
        reader.get_next()


def test_user_feeds_of_another_width_are_cast():
    reader = open_calibration(ListReader([{"input": np.zeros((1, 3, 16, 16)), "more": 1}]), INPUTS).reader
    values = reader.get_next()
    assert list(values) == ["input"]
    assert values["input"].dtype == np.float32


def test_user_reader_that_is_none_or_empty():
    with pytest.raises(CalibrationDataError, match="no get_next"):
        open_calibration(object(), INPUTS)
    with pytest.raises(CalibrationDataError, match="no images"):
        open_calibration(ListReader([]), INPUTS).reader.get_next()
    with pytest.raises(CalibrationDataError, match=r"batch of 2; .* fixed at 4"):
        open_calibration(ListReader([feed(2)]), FIXED).reader.get_next()


def test_loader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "my_calib_data.py").write_text(
        "import numpy as np\n"
        "class Reader:\n"
        "    left = 2\n"
        "    def get_next(self):\n"
        "        self.left -= 1\n"
        "        return {'input': np.zeros((1, 3, 16, 16), np.float32)} if self.left >= 0 else None\n"
        "def broken():\n"
        "    raise KeyError('data')\n"
        "number = int\n"
    )
    source = open_calibration("my_calib_data:Reader", INPUTS)
    assert source.kind == "reader"
    assert len(levels(source.reader)) == 2
    assert str(tmp_path) not in sys.path
    for spec, message in [
        ("my_calib_data:missing", "missing"),
        ("my_calib_data:broken", "broken.. failed with KeyError"),
        ("my_calib_data:number", "no get_next"),
        ("no_such_module:make", "cannot import 'no_such_module'"),
    ]:
        with pytest.raises(CalibrationDataError, match=message):
            open_calibration(spec, INPUTS)
    sys.modules.pop("my_calib_data")


@pytest.mark.parametrize("spec", ["missing", "missing.npz", "missing.csv", "a/b:c"])
def test_no_such_file(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CalibrationDataError, match="no such file"):
        open_calibration(spec, INPUTS, HALF)


def test_file_of_no_known_kind(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"0")
    with pytest.raises(CalibrationDataError, match=r"neither a folder, a \.csv nor an \.npz"):
        open_calibration(path, INPUTS)


def test_nan_in_a_user_feed():
    item = feed(3)
    item["input"][1, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="image 1"):
        open_calibration(ListReader([item]), INPUTS).reader.get_next()
