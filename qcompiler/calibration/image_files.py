"""Images on disk: a folder, or a CSV of file and label beside a folder of its name."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from qcompiler.calibration.feeds import FeedReader, batched, spread, stack
from qcompiler.calibration.inputs import Feed, ModelInput, check_layout, single_image_input
from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.errors import CalibrationDataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


@dataclass(frozen=True)
class ImageFile:
    """An image on disk; `name` is its path relative to the folder, `label` its class index where one is known."""

    path: Path
    name: str
    label: int | None = None


def list_images(source: Path) -> list[ImageFile]:
    """The images of a folder (with its subfolders, sorted by relative path), or those a CSV lists, in its order.

    A CSV has the header `file,label` (the label may be missing); its files lie in the folder beside it of the same
    name without the suffix, e.g. `validation.csv` and `validation/`.

    Raises:
        CalibrationDataError: no such file or folder, no images, or a CSV that does not follow the rule.
    """
    if source.is_dir():
        found = [path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
        images = [ImageFile(path, path.relative_to(source).as_posix()) for path in found if path.is_file()]
        images.sort(key=lambda image: image.name)
    elif source.is_file():
        images = list(_listed(source))
    else:
        raise CalibrationDataError(f"{source}: no such file or folder")
    if not images:
        raise CalibrationDataError(f"{source}: no images in it (looked for {', '.join(sorted(SUFFIXES))})")
    return images


def _listed(source: Path) -> Iterator[ImageFile]:
    folder = source.with_suffix("")
    try:
        with source.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if "file" not in (reader.fieldnames or ()):
                raise CalibrationDataError(f"{source}: the first line must be the header 'file,label'")
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CalibrationDataError(f"{source}: not a CSV of file,label ({error})") from error
    for number, row in enumerate(rows, start=2):
        name, label = row["file"] or "", row.get("label")
        path = folder / name
        if not name or not path.is_file():
            raise CalibrationDataError(f"{source}, line {number}: no file {name!r} in {folder}")
        try:
            yield ImageFile(path, name, None if label in (None, "") else int(label))
        except ValueError:
            raise CalibrationDataError(f"{source}, line {number}: the label {label!r} is no class index") from None


def hash_images(images: Sequence[ImageFile]) -> str:
    """SHA-256 over the names and contents, independent of where the folder lies."""
    digest = hashlib.sha256()
    for image in images:
        content = image.path.read_bytes()
        digest.update(f"{image.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


class ImageFolderReader(FeedReader):
    """Feeds of preprocessed images, read one batch at a time.

    Attributes:
        files: the images that are read, in order.
        preprocessing: with the sizes filled in.
        batch: images per feed; the model's batch where it is fixed, else 1. The last feed of a fixed batch is filled
            by repeating its images.
    """

    def __init__(
        self,
        source: Path,
        inputs: Sequence[ModelInput],
        preprocessing: Preprocessing,
        limit: int | None = None,
    ) -> None:
        """Args: see the attributes; `limit` images at most are taken, spread over the list.

        Raises:
            CalibrationDataError: no images, or a model that does not read one batch of images.
            OptionError: the preprocessing does not fit the model's input.
        """
        super().__init__()
        self._input = single_image_input(inputs)
        self.preprocessing = preprocessing.for_input(self._input)
        found = list_images(source)
        self.files = [found[index] for index in spread(len(found), limit)]
        self.batch = self._input.batch or 1

    def __len__(self) -> int:
        """Number of different images."""
        return len(self.files)

    def sha256(self) -> str:
        """Hash of the images that are read."""
        return hash_images(self.files)

    def image(self, file: ImageFile) -> Feed:
        """One image as {input name: [channels, height, width]}.

        Raises:
            CalibrationDataError: the file holds no readable image.
        """
        channels = 1 if self._input.shape[1] == 1 else 3
        try:
            with Image.open(file.path) as opened:
                values = self.preprocessing(opened, channels)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise CalibrationDataError(f"{file.path}: not a readable image ({error})") from error
        check_layout((1, *values.shape), values.dtype, self._input, str(file.path))
        return {self._input.name: values.astype(self._input.dtype, copy=False)}

    def feeds(self) -> Iterator[Feed]:
        """A fresh stream over all feeds."""
        for files in batched(self.files, self.batch):
            yield stack([self.image(file) for file in files], self.batch)
