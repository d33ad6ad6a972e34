"""Stored arrays come back as they were."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qcompiler.errors import OutputPathError
from qcompiler.relevance.array_store import ArrayStore

ITEMS = {("a", 0): np.arange(6, dtype=np.float32).reshape(2, 3), ("a", 1): np.array([7, 8])}


def equal(store, items):
    assert set(store.entries) == set(items)
    for key, value in items.items():
        found = store.get(key)
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
        assert not found.flags.writeable


@settings(max_examples=20, deadline=None)
@given(st.lists(arrays(np.float32, array_shapes(max_dims=4)), max_size=3))
def test_files_and_memory_hold_the_same(tmp_path_factory, values):
    folder, items = tmp_path_factory.mktemp("store"), dict(enumerate(values))
    memory = ArrayStore.of(items.items())
    files = ArrayStore.of(items.items(), folder / "first")
    for store in (memory, files, memory.in_files(folder / "second"), files.in_memory()):
        equal(store, items)


def test_files_are_mapped_and_travel_as_names(tmp_path):
    store = ArrayStore.of({"big": np.zeros(10**6, np.float32)}.items(), tmp_path / "files")
    assert isinstance(store.get("big"), np.memmap)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    equal(pickle.loads(sent), {"big": np.zeros(10**6, np.float32)})


def test_memory_travels_with_its_values(tmp_path):
    store = ArrayStore.of(ITEMS.items(), tmp_path / "files").in_memory()
    assert all(type(entry) is np.ndarray for entry in store.entries.values())
    sent = pickle.dumps(store, protocol=5)
    for path in (tmp_path / "files").iterdir():
        path.write_bytes(b"")
    np.testing.assert_array_equal(pickle.loads(sent).get(("a", 1)), ITEMS["a", 1])


def test_the_given_array_stays_writeable():
    array = np.zeros(3)
    store = ArrayStore.of([("x", array)])
    array[0] = 1
    assert store.get("x")[0] == 1
    assert "x" in store
    assert "y" not in store


def test_arrays_are_written_one_at_a_time(tmp_path):
    """A stream larger than memory can be stored."""
    folder = tmp_path / "files"

    def stream():
        yield "first", np.zeros(3)
        assert len(list(folder.iterdir())) == 1
        yield "second", np.ones(3)

    equal(ArrayStore.of(stream(), folder), {"first": np.zeros(3), "second": np.ones(3)})


def test_a_folder_that_cannot_be_made(tmp_path):
    with pytest.raises(OutputPathError, match=r"missing.*TMPDIR"):
        ArrayStore.of(ITEMS.items(), tmp_path / "missing" / "files")


def test_a_full_disk(tmp_path, monkeypatch):
    def full(path, array):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputPathError, match=r"No space left on device\): set TMPDIR"):
        ArrayStore.of(ITEMS.items(), tmp_path / "files")
