"""Read-only arrays by key, in memory or in files that several processes map."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import OutputPathError

Key = TypeVar("Key", bound=Hashable)
Array = NDArray[Any]


@dataclass(frozen=True)
class ArrayStore(Generic[Key]):
    """Arrays that are written once.

    Attributes:
        entries: The array of each key, or the ``.npy`` file that holds it.
    """

    entries: Mapping[Key, Array | Path]

    @classmethod
    def of(cls, arrays: Iterable[tuple[Key, Array]], folder: Path | None = None) -> ArrayStore[Key]:
        """Store arrays one after the other.

        Args:
            arrays: Keys and arrays of any shape and dtype.
            folder: Folder to make for the files; None keeps the arrays in memory, without a copy.

        Raises:
            OutputPathError: A file cannot be written.
        """
        if folder is None:
            return cls({key: _read_only(array) for key, array in arrays})
        return cls(dict(_write(arrays, folder)))

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def get(self, key: Key) -> Array:
        """The array, which cannot be written to. A file is mapped: processes share its pages."""
        entry = self.entries[key]
        if isinstance(entry, Path):
            mapped: Array = np.load(entry, mmap_mode="r")
            return mapped
        return entry

    def in_files(self, folder: Path) -> ArrayStore[Key]:
        """The same arrays in files.

        Raises:
            OutputPathError: A file cannot be written.
        """
        return ArrayStore.of(self._items(), folder)

    def in_memory(self) -> ArrayStore[Key]:
        """The same arrays without files, as plain arrays that pickle with their values; mapped files are not read."""
        return ArrayStore.of((key, np.asarray(array)) for key, array in self._items())

    def _items(self) -> Iterator[tuple[Key, Array]]:
        return ((key, self.get(key)) for key in self.entries)


def _read_only(array: Array) -> Array:
    view = array.view()  # the owner of the array may go on writing to it
    view.flags.writeable = False
    return view


def _write(arrays: Iterable[tuple[Key, Array]], folder: Path) -> Iterator[tuple[Key, Path]]:
    try:
        folder.mkdir()
    except OSError as error:
        raise _refused(folder, error) from error
    for number, (key, array) in enumerate(arrays):
        path = folder / f"{number}.npy"
        try:
            np.save(path, array)
        except OSError as error:
            raise _refused(folder, error) from error
        yield key, path


def _refused(folder: Path, error: OSError) -> OutputPathError:
    return OutputPathError(
        f"cannot keep values for worker processes in '{folder}' ({error.strerror or error}): "
        "set TMPDIR to a folder with room, or use the executor 'inline'"
    )
