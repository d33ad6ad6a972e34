"""Reading .npz arrays row by row."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from qcompiler.calibration.inputs import ModelInput
from qcompiler.calibration.npz_files import NpzReader, array_headers, read_rows
from qcompiler.errors import CalibrationDataError, NonFiniteError

INPUTS = [ModelInput("input", ("batch", 2, 4))]


def images(count, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((count, 2, 4)).astype(dtype)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_rows_equal_the_loaded_array(tmp_path, save, order, dtype):
    values = np.asarray(images(7, dtype), order=order)
    save(tmp_path / "a.npz", input=values)
    chosen = [0, 2, 3, 6]
    rows = list(read_rows(tmp_path / "a.npz", "input", chosen))
    np.testing.assert_array_equal(rows, values[chosen])
    feeds = list(NpzReader(tmp_path / "a.npz", INPUTS))
    np.testing.assert_array_equal(np.concatenate([feed["input"] for feed in feeds]), values.astype(np.float32))


def test_headers(tmp_path):
    np.savez(tmp_path / "a.npz", input=images(3), labels=np.arange(3))
    headers = array_headers(tmp_path / "a.npz")
    assert {name: header.shape for name, header in headers.items()} == {"input": (3, 2, 4), "labels": (3,)}


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    inputs = [ModelInput("input", ("batch", 64, 1024))]
    np.savez_compressed(tmp_path / "a.npz", input=np.zeros((200, 64, 1024), np.float32))  # 52 MB
    tracemalloc.start()
    try:
        assert sum(1 for _ in NpzReader(tmp_path / "a.npz", inputs)) == 200
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6  # a few images of 262 kB


def test_several_inputs(tmp_path):
    inputs = [*INPUTS, ModelInput("mask", ("batch", 3), "int64")]
    np.savez(tmp_path / "a.npz", input=images(5), mask=np.arange(15).reshape(5, 3))
    feeds = list(NpzReader(tmp_path / "a.npz", inputs, limit=2))
    assert [feed["mask"].shape for feed in feeds] == [(1, 3), (1, 3)]
    assert feeds[0]["mask"].dtype == np.int64
    np.savez(tmp_path / "b.npz", input=images(5), mask=np.zeros((4, 3), np.int64))
    with pytest.raises(CalibrationDataError, match="different numbers of images"):
        NpzReader(tmp_path / "b.npz", inputs)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": np.zeros((1, 2, 4), np.float32)}, r"holds 'arr_0' but not 'input'; .* float32 \[batch, 2, 4\]"),
        ({"input": np.zeros((1, 2, 5), np.float32)}, r"shape \[1, 2, 5\]"),
        ({"input": np.zeros((2, 4), np.float32)}, r"shape \[2, 4\]"),
        ({"input": np.zeros((), np.float32)}, r"shape \[\]"),
        ({"input": np.zeros((1, 2, 4), np.uint8)}, "holds uint8"),
        ({"input": np.zeros((0, 2, 4), np.float32)}, "no images"),
        ({"input": np.array([{}])}, "Python objects"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CalibrationDataError, match=message):
        NpzReader(tmp_path / "a.npz", INPUTS)


def test_nan_names_the_image(tmp_path):
    values = images(6)
    values[4, 1, 2] = np.inf
    np.savez(tmp_path / "a.npz", input=values)
    reader = NpzReader(tmp_path / "a.npz", INPUTS)
    with pytest.raises(NonFiniteError, match="image 4"):
        list(reader)


def test_damaged_files(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(CalibrationDataError, match=r"not an \.npz"):
        NpzReader(tmp_path / "text.npz", INPUTS)
    buffer = io.BytesIO()
    np.save(buffer, images(6))
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("input.npy", buffer.getvalue()[:-40])
    reader = NpzReader(tmp_path / "short.npz", INPUTS)
    with pytest.raises(CalibrationDataError, match="cannot be read"):
        list(reader)
    with pytest.raises(CalibrationDataError, match="no such file"):
        NpzReader(tmp_path / "missing.npz", INPUTS)
