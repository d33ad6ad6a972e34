"""Statistics in a file and back."""

import json

import numpy as np
import pytest

from qcompiler.calibration.statistics import FORMAT, Statistics
from qcompiler.errors import CalibrationDataError

F = np.float32


def statistics():
    draw = np.random.default_rng(0)
    return Statistics(
        {
            "blocks.0/a|b:0": {"sample": draw.standard_normal((2, 3, 4)).astype(F), "ranges-1": np.ones((5, 2), F)},
            "plain": {"ranges-2": draw.standard_normal((4, 2)).astype(F)},
        },
        images=7,
        source={"kind": "npz", "sha256": "ab", "count": 7, "preprocessing": None},
    )


@pytest.mark.parametrize("name", ["stats.npz", "stats.bin", "stats"])
def test_round_trip(tmp_path, name):
    path = tmp_path / name
    held = statistics()
    held.save(path)
    assert [item.name for item in tmp_path.iterdir()] == [name]
    found = Statistics.load(path)
    assert found.images == 7
    assert found.source == held.source
    assert {tensor: sorted(arrays) for tensor, arrays in found.tensors.items()} == {
        "blocks.0/a|b:0": ["ranges-1", "sample"],
        "plain": ["ranges-2"],
    }
    for tensor, arrays in held.tensors.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(found.get(tensor, key), array)
            assert found.get(tensor, key).dtype == F


def test_saved_again_is_the_same_file(tmp_path):
    statistics().save(tmp_path / "a")
    Statistics.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("tensor", "name"), [("other", "sample"), ("plain", "sample")])
def test_missing_array(tensor, name):
    with pytest.raises(CalibrationDataError, match=f"no '{name}' of tensor '{tensor}'.*calibrate again"):
        statistics().get(tensor, name)


def write_text(path):
    path.write_text("these are no statistics")


def write_nothing(path):
    path.write_bytes(b"")


def write_folder(path):
    path.mkdir()


def write_cut(path):
    statistics().save(path)
    path.write_bytes(path.read_bytes()[:-100])


def write_damaged(path):
    statistics().save(path)
    content = bytearray(path.read_bytes())
    place = content.find(b"NUMPY") + 200
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))


def write_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def write_images(path):
    with path.open("wb") as file:
        np.savez(file, input=np.zeros((2, 3), F))


def write_unnamed(path):
    with path.open("wb") as file:
        np.savez(file, __header__=np.array(json.dumps({"format": FORMAT, "images": 1, "source": {}})), x=np.zeros(2))


def write_header(header):
    def write(path):
        with path.open("wb") as file:
            np.savez(file, __header__=np.array(json.dumps(header)))

    return write


WHOLE = {"format": FORMAT, "images": 1, "source": {}, "model": "ab"}


def write_pickle(path):
    with path.open("wb") as file:
        np.savez(file, __header__=np.array([{"format": FORMAT}], dtype=object))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: None,
        write_text,
        write_nothing,
        write_folder,
        write_cut,
        write_damaged,
        write_array,
        write_images,
        write_unnamed,
        write_pickle,
        write_header([]),
        write_header({}),
        *(write_header({key: WHOLE[key] for key in WHOLE if key != left_out}) for left_out in WHOLE),
        write_header({**WHOLE, "images": "many"}),
        write_header({**WHOLE, "source": 3}),
    ],
    ids=[
        *("missing", "text", "empty", "folder", "cut", "damaged", "npy", "images", "unnamed", "pickle"),
        *("list", "no keys", "no format", "no images", "no source", "no model", "images as text", "source as number"),
    ],
)
def test_another_file(tmp_path, write):
    path = tmp_path / "stats.npz"
    write(path)
    with pytest.raises(CalibrationDataError, match=r"stats\.npz is not a statistics file"):
        Statistics.load(path)


def test_the_whole_header_is_accepted(tmp_path):
    """So that the files above are refused for what they lack."""
    path = tmp_path / "stats.npz"
    write_header(WHOLE)(path)
    assert Statistics.load(path) == Statistics({}, 1, {}, "ab")


def test_another_version(tmp_path):
    path = tmp_path / "stats.npz"
    header = np.array(json.dumps({"format": FORMAT + 1, "images": 1, "source": {}}))
    np.savez(path, __header__=header)
    with pytest.raises(CalibrationDataError, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        Statistics.load(path)
