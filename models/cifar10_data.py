"""CIFAR-10 as JPEG archives: reading, splitting, normalising and augmenting."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from qcompiler.errors import CalibrationDataError
from qcompiler.models.extras import require

SIZE = 32
MARGIN = 4  # an augmented image is moved by up to this many pixels

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Images uint8 [n, 3, 32, 32] and their classes int64 [n]."""

    images: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


def read_images(path: Path) -> Labelled:
    """All images of an archive with `jpeg` (uint8, files end to end), `offsets` [n + 1] and `labels` [n].

    Raises:
        CalibrationDataError: the archive cannot be read or holds something else.
    """
    try:
        with np.load(path) as arrays:
            files, offsets, labels = (arrays[name] for name in ("jpeg", "offsets", "labels"))
        images = np.empty((len(labels), 3, SIZE, SIZE), np.uint8)
        for i in range(len(labels)):
            content = io.BytesIO(files[offsets[i] : offsets[i + 1]].tobytes())
            images[i] = np.asarray(Image.open(content).convert("RGB")).transpose(2, 0, 1)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise CalibrationDataError(
            f"{path}: cannot be read as CIFAR-10 ({error}); expected an .npz with jpeg, offsets and labels of "
            f"{SIZE}x{SIZE} images"
        ) from error
    return Labelled(images, labels.astype(np.int64))


def split(data: Labelled, held_out_per_class: int, seed: int) -> tuple[Labelled, Labelled]:
    """The training part in random order, and a held-out part with the same number of each class."""
    order = np.random.default_rng(seed).permutation(len(data))
    rank = np.empty(len(data), np.int64)  # how many of its class come before an image
    for label in np.unique(data.labels):
        members = order[data.labels[order] == label]
        rank[members] = np.arange(len(members))
    held_out = rank[order] < held_out_per_class
    kept, out = order[~held_out], order[held_out]
    return Labelled(data.images[kept], data.labels[kept]), Labelled(data.images[out], data.labels[out])


def normalise(images: Any) -> Any:
    """uint8 tensor -> float32 in [-1, 1], which is mean = std = 0.5."""
    return images.float() / 127.5 - 1


def augment(images: Any, generator: Any) -> Any:
    """Each image [n, 3, 32, 32] mirrored with probability one half and moved by up to MARGIN pixels both ways.

    What moves in from outside is the image's reflection. The result depends on the state of `generator` alone.
    """
    torch = require("torch", "augmenting images")
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images.float(), (MARGIN,) * 4, mode="reflect")
    moves = torch.randint(2 * MARGIN + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.arange(width).expand(count, width)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + moves[1, :, None]
    rows = torch.arange(height) + moves[0, :, None]
    every = torch.arange(count)[:, None, None]
    return padded[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
