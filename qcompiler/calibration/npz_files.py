"""Arrays in an .npz, read row by row: the memory needed does not grow with the number of images."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from qcompiler.calibration.feeds import FeedReader, batched, spread, stack
from qcompiler.calibration.inputs import Array, Feed, ModelInput, check_finite, check_layout, check_names
from qcompiler.errors import CalibrationDataError

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError)


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of an array in an .npz says, without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran_order: bool


def read_header(stream: IO[bytes]) -> ArrayHeader:
    """The header of a .npy stream, which is left at the first value.

    Raises:
        ValueError: not a .npy stream, or one of Python objects, which only unpickling could read.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    return ArrayHeader(shape, dtype, fortran_order)


def array_headers(path: Path) -> dict[str, ArrayHeader]:
    """Name -> header of the arrays in an .npz.

    Raises:
        CalibrationDataError: no such file, or no .npz of plain arrays.
    """
    if not path.is_file():
        raise CalibrationDataError(f"{path}: no such file")
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as stream:
                        headers[member[: -len(".npy")]] = read_header(stream)
    except _DAMAGED as error:
        raise CalibrationDataError(f"{path}: not an .npz of arrays ({error})") from error
    return headers


def read_rows(path: Path, name: str, indices: Sequence[int]) -> Iterator[Array]:
    """The entries `indices` (ascending) of an array's first axis, one after the other, without loading the array.

    Raises:
        CalibrationDataError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            header = read_header(stream)
            if header.fortran_order:
                # The first axis is the innermost one: no row lies in one piece, so the array is loaded whole.
                values = np.frombuffer(stream.read(), header.dtype).reshape(header.shape, order="F")
                yield from (values[index] for index in indices)
                return
            row_shape = header.shape[1:]
            row_bytes = header.dtype.itemsize * int(np.prod(row_shape))
            begin = stream.tell()
            for index in indices:
                stream.seek(begin + index * row_bytes)
                content = stream.read(row_bytes)
                if len(content) != row_bytes:
                    raise EOFError(f"{name!r} ends before image {index}")
                yield np.frombuffer(content, header.dtype).reshape(row_shape)
    except _DAMAGED as error:
        raise CalibrationDataError(f"{path}: the array {name!r} cannot be read ({error})") from error


class NpzReader(FeedReader):
    """Feeds from arrays named like the model's inputs, first axis = images; further arrays are ignored.

    Attributes:
        path: the file.
        indices: the images that are read, ascending.
        batch: images per feed; the model's batch where it is fixed, else 1. The last feed of a fixed batch is filled
            by repeating its images.
    """

    def __init__(self, path: Path, inputs: Sequence[ModelInput], limit: int | None = None) -> None:
        """Args: see the attributes; `limit` images at most are taken, spread over the array.

        Raises:
            CalibrationDataError: no such file, wrong names, shapes or types, arrays of different lengths, no images.
        """
        super().__init__()
        self.path = path
        self._inputs = tuple(inputs)
        headers = array_headers(path)
        check_names(list(headers), inputs, str(path))
        for item in inputs:
            check_layout(headers[item.name].shape, headers[item.name].dtype, item, str(path))
        lengths = {item.name: headers[item.name].shape[0] for item in inputs}
        if len(set(lengths.values())) > 1:
            raise CalibrationDataError(f"{path}: the arrays hold different numbers of images: {lengths}")
        count = next(iter(lengths.values()), 0)
        if not count:
            raise CalibrationDataError(f"{path}: no images in it")
        self.indices = spread(count, limit)
        self.batch = next((item.batch for item in inputs if item.batch), 1)

    def __len__(self) -> int:
        """Number of different images."""
        return len(self.indices)

    def sha256(self) -> str:
        """Hash of the file."""
        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def images(self) -> Iterator[Feed]:
        """The images one by one, without a batch axis, checked and cast to the types of the inputs.

        Raises:
            NonFiniteError: an image holds NaN or infinity.
        """
        streams = [read_rows(self.path, item.name, self.indices) for item in self._inputs]
        for index, rows in zip(self.indices, zip(*streams, strict=True), strict=True):
            for item, row in zip(self._inputs, rows, strict=True):
                check_finite(row[None], item.name, str(self.path), first=index)
            yield {item.name: row.astype(item.dtype) for item, row in zip(self._inputs, rows, strict=True)}

    def feeds(self) -> Iterator[Feed]:
        """A fresh stream over all feeds."""
        for images in batched(self.images(), self.batch):
            yield stack(images, self.batch)
