"""Labelled images for measuring accuracy: a CSV of file and label, or an .npz with `labels` beside the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.feeds import batched, stack
from qcompiler.calibration.image_files import ImageFolderReader
from qcompiler.calibration.inputs import Feed, ModelInput
from qcompiler.calibration.npz_files import NpzReader, array_headers, read_rows
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.errors import CalibrationDataError, OptionError

LABELS = "labels"


@dataclass(frozen=True)
class LabelledImages:
    """Iterates over (feed, labels), as often as wanted.

    Where the model's batch is fixed, the last feed is filled by repeating images; `labels` then is shorter than the
    feed, and the rows of the output behind its end are to be ignored.

    Attributes:
        description: one line for the report.
        labels: int64 [images], class indices.
        batch: images per feed.
        preprocessing: what turned images into values; None where the data was given as values.
    """

    description: str
    labels: npt.NDArray[np.int64]
    batch: int
    preprocessing: Preprocessing | None
    _images: Callable[[], Iterator[Feed]] = field(repr=False, compare=False)
    _fill: bool = False

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Feed, npt.NDArray[np.int64]]]:
        begin = 0
        for group in batched(self._images(), self.batch):
            yield stack(group, self.batch if self._fill else len(group)), self.labels[begin : begin + len(group)]
            begin += len(group)


def open_labelled(
    path: Path,
    model_inputs: Sequence[ModelInput],
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    batch: int = 8,
) -> LabelledImages:
    """Labelled images from a CSV `file,label` beside a folder of its name, or an .npz with the array `labels`.

    Args:
        path: the .csv or .npz.
        model_inputs: the model's inputs.
        preprocessing: how image files become values; needed for a CSV.
        limit: number of images at most, spread over the data.
        batch: images per feed where the model's batch is free.

    Raises:
        CalibrationDataError: no such file, no or wrong labels, or data that does not fit the inputs.
        OptionError: a CSV without a preprocessing.
    """
    fixed = next((item.batch for item in model_inputs if item.batch), None)
    if path.suffix.lower() == ".npz":
        arrays = NpzReader(path, model_inputs, limit)
        labels = _npz_labels(path, arrays.indices)
        return LabelledImages(
            f"{len(labels)} images of {path}", labels, fixed or batch, None, arrays.images, fixed is not None
        )
    if path.suffix.lower() != ".csv":
        problem = "neither a .csv nor an .npz" if path.exists() else "no such file"
        raise CalibrationDataError(f"{path}: {problem}; labelled images come as a CSV of file,label or an .npz")
    if preprocessing is None:
        raise OptionError(f"{path}: say how images become values with --preset half|imagenet|none or --mean and --std")
    files = ImageFolderReader(path, model_inputs, preprocessing, limit)
    known = [file.label for file in files.files if file.label is not None]
    if len(known) < len(files.files):
        missing = len(files.files) - len(known)
        raise CalibrationDataError(f"{path}: {missing} images have no label in the column 'label'")
    return LabelledImages(
        f"{len(known)} images of {path}",
        np.array(known, np.int64),
        fixed or batch,
        files.preprocessing,
        lambda: map(files.image, files.files),
        fixed is not None,
    )


def _npz_labels(path: Path, indices: Sequence[int]) -> npt.NDArray[np.int64]:
    header = array_headers(path).get(LABELS)
    if header is None:
        raise CalibrationDataError(f"{path}: no array {LABELS!r} with the class indices in it")
    if len(header.shape) != 1 or header.dtype.kind not in "iu":
        raise CalibrationDataError(
            f"{path}: {LABELS!r} is {header.dtype} {list(header.shape)}, not one whole number for each image"
        )
    if header.shape[0] <= max(indices):
        raise CalibrationDataError(f"{path}: {LABELS!r} has {header.shape[0]} entries, fewer than there are images")
    return np.array([int(row) for row in read_rows(path, LABELS, indices)], np.int64)
