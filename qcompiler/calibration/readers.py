"""Where calibration data comes from: the rule behind `--calib`.

Everything read here is an onnxruntime CalibrationDataReader: `get_next() -> dict | None`, then None; `rewind()` starts
again. Feeds hold one image, or exactly the model's batch where that is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcompiler.calibration.feeds import CalibrationReader, FeedReader
from qcompiler.calibration.image_files import ImageFolderReader
from qcompiler.calibration.inputs import Feed, ModelInput
from qcompiler.calibration.npz_files import NpzReader
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.calibration.synthetic import DEFAULT_COUNT, SyntheticReader
from qcompiler.calibration.user_reader import UserReader, is_loader, load_reader
from qcompiler.errors import CalibrationDataError, OptionError

__all__ = [
    "CalibrationReader",
    "CalibrationSource",
    "Feed",
    "FeedReader",
    "ImageFolderReader",
    "ModelInput",
    "NpzReader",
    "SyntheticReader",
    "UserReader",
    "open_calibration",
]


@dataclass(frozen=True)
class CalibrationSource:
    """The calibration data of one compilation.

    Attributes:
        kind: "images", "npz", "reader" (a user's own) or "synthetic".
        description: one line for the report.
        count: number of different images; None for a user's reader, which does not tell.
        sha256: hash of the data, independent of its place; None for a user's reader, see :meth:`content_hash`.
        warning: what the user must hear, e.g. that the images are synthetic; None when all is well.
        preprocessing: what turned images into values; None where the data was given as values.
        reader: the feeds.
    """

    kind: str
    description: str
    count: int | None
    sha256: str | None
    warning: str | None
    preprocessing: Preprocessing | None
    reader: CalibrationReader = field(repr=False, compare=False)

    def content_hash(self) -> str | None:
        """``sha256``; that of the feeds for a user's reader, which is read to its end if it was not yet.

        None where such a reader cannot be read again.
        """
        if self.sha256 is not None or not isinstance(self.reader, UserReader):
            return self.sha256
        return self.reader.sha256()

    def to_dict(self) -> dict[str, object]:
        """For the report: everything but the reader."""
        return {
            "kind": self.kind,
            "description": self.description,
            "count": self.count,
            "sha256": self.content_hash(),
            "warning": self.warning,
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
        }


def open_calibration(
    spec: str | Path | Any | None,
    model_inputs: Sequence[ModelInput],
    preprocessing: Preprocessing | None = None,
    limit: int | None = None,
    model_path: Path | None = None,
) -> CalibrationSource:
    """Find and check the calibration data; nothing but headers is read yet.

    Args:
        spec: a folder of images or a CSV beside one, an .npz of arrays named like the inputs, `module:callable`, a
            reader object with `get_next`, or None: then `<model stem>.calib.npz` beside the model if it exists, else
            synthetic images with a warning.
        model_inputs: the model's inputs.
        preprocessing: how images become values; needed for image files, used for the range of synthetic images.
        limit: number of images at most, spread over the data; None takes all of them.
        model_path: the model's file, beside which `<stem>.calib.npz` is looked for.

    Raises:
        CalibrationDataError: no such file, no images, or data that does not fit the inputs.
        OptionError: images without a preprocessing, or one that does not fit.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"the number of calibration images must be positive, not {limit}")
    if spec is None:
        beside = model_path.with_name(f"{model_path.stem}.calib.npz") if model_path else None
        if beside and beside.is_file():
            return _npz(beside, model_inputs, limit)
        return _synthetic(model_inputs, preprocessing, limit)
    if not isinstance(spec, (str, Path)):
        return _user(spec, f"the reader {type(spec).__name__}", model_inputs, limit)
    path = Path(spec)
    if path.is_dir() or path.suffix.lower() == ".csv":
        return _images(path, model_inputs, preprocessing, limit)
    if path.suffix.lower() == ".npz":
        return _npz(path, model_inputs, limit)
    if isinstance(spec, str) and not path.exists() and is_loader(spec):
        return _user(load_reader(spec), spec, model_inputs, limit)
    problem = "neither a folder, a .csv nor an .npz" if path.exists() else "no such file or folder"
    raise CalibrationDataError(f"--calib {spec}: {problem}; give a folder of images, an .npz or module:callable")


def _images(
    path: Path, inputs: Sequence[ModelInput], preprocessing: Preprocessing | None, limit: int | None
) -> CalibrationSource:
    if preprocessing is None:
        raise OptionError(
            f"--calib {path}: say how images become values with --preset half|imagenet|none or --mean and --std"
        )
    reader = ImageFolderReader(path, inputs, preprocessing, limit)
    text = f"{len(reader)} images of {path}"
    return CalibrationSource("images", text, len(reader), reader.sha256(), None, reader.preprocessing, reader)


def _npz(path: Path, inputs: Sequence[ModelInput], limit: int | None) -> CalibrationSource:
    reader = NpzReader(path, inputs, limit)
    return CalibrationSource("npz", f"{len(reader)} images of {path}", len(reader), reader.sha256(), None, None, reader)


def _user(reader: Any, source: str, inputs: Sequence[ModelInput], limit: int | None) -> CalibrationSource:
    return CalibrationSource("reader", source, None, None, None, None, UserReader(reader, inputs, source, limit))


def _synthetic(
    inputs: Sequence[ModelInput], preprocessing: Preprocessing | None, limit: int | None
) -> CalibrationSource:
    if len(inputs) != 1:
        raise CalibrationDataError(
            f"the model has {len(inputs)} inputs, synthetic images serve one: give --calib an .npz with arrays named "
            + ", ".join(item.name for item in inputs)
        )
    reader = SyntheticReader(inputs[0], preprocessing, limit or DEFAULT_COUNT)
    warning = (
        "no calibration data: using synthetic images with natural-image statistics. "
        "Accuracy is better with real images; give some with --calib"
    )
    text = f"{len(reader)} synthetic images (1/f spectrum)"
    return CalibrationSource("synthetic", text, len(reader), reader.sha256(), warning, reader.preprocessing, reader)
