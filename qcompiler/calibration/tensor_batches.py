"""Calibration data that a training script holds already: a tensor of images, or batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from qcompiler.calibration.feeds import FeedReader
from qcompiler.calibration.inputs import Array, Feed
from qcompiler.errors import CalibrationDataError


class TensorBatches(FeedReader):
    """A calibration reader over arrays or tensors of any framework that NumPy understands, torch's included.

    Attributes:
        name: the model's input that images without a name go to.
    """

    def __init__(self, batches: Any, name: str) -> None:
        """Args:
            batches: one array [images, ...], or an iterable of batches that can be read more than once, such as a list
                or a `torch.utils.data.DataLoader`; a batch is an array, a sequence whose first item is one (labels
                behind it are ignored), or a mapping of input names.
            name: see the attributes.

        Raises:
            CalibrationDataError: `batches` cannot be iterated over, or only once.
        """
        super().__init__()
        if not isinstance(batches, Iterable):
            raise CalibrationDataError(
                f"{type(batches).__name__!r} is no calibration data: give a path, a tensor, a list of batches, a "
                "DataLoader or an onnxruntime CalibrationDataReader"
            )
        if isinstance(batches, Iterator):
            raise CalibrationDataError(
                "the calibration data is an iterator, but images are read more than once: give a list or a DataLoader"
            )
        self.name = name
        self._batches = batches

    def feeds(self) -> Iterator[Feed]:
        """The batches from the start; the images of one array come one by one."""
        if hasattr(self._batches, "shape"):
            for index in range(len(self._batches)):  # type: ignore[arg-type]
                yield {self.name: _array(self._batches[index : index + 1])}  # type: ignore[index]
            return
        for batch in self._batches:
            if isinstance(batch, Mapping):
                yield {str(name): _array(value) for name, value in batch.items()}
            else:
                yield {self.name: _array(batch[0] if isinstance(batch, (tuple, list)) else batch)}


def _array(value: Any) -> Array:
    detach = getattr(value, "detach", None)  # torch: NumPy refuses tensors with a gradient or on another device
    return np.asarray(value if detach is None else detach().cpu())
