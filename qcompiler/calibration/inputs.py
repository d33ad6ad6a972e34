"""What a model reads: the declared inputs, and the check that a feed fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationDataError, NonFiniteError

Array = npt.NDArray[np.generic]
Feed = dict[str, Array]


@dataclass(frozen=True)
class ModelInput:
    """One graph input.

    Attributes:
        name: the input's name in the graph.
        shape: one entry per axis; an int is fixed, a string (symbolic name) or None is free. Axis 0 is the batch.
        dtype: NumPy name of the element type, e.g. "float32".
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: str = "float32"

    @property
    def batch(self) -> int | None:
        """The fixed batch size, or None where the batch is free."""
        first = self.shape[0] if self.shape else None
        return first if isinstance(first, int) else None

    def describe(self) -> str:
        """`float32 [batch, 3, 224, 224]`, as error messages print it."""
        return f"{self.dtype} {format_shape(self.shape)}"


def format_shape(shape: Sequence[int | str | None]) -> str:
    """`[batch, 3, ?]`: names of free axes where they have one."""
    return "[" + ", ".join("?" if side is None else str(side) for side in shape) + "]"


def check_names(found: Sequence[str], inputs: Sequence[ModelInput], source: str) -> None:
    """Raise CalibrationDataError unless `found` holds every input name; further names are no error."""
    missing = [item.name for item in inputs if item.name not in found]
    if missing:
        names = ", ".join(repr(name) for name in found) or "nothing"
        expected = ", ".join(f"{item.name!r} {item.describe()}" for item in inputs)
        raise CalibrationDataError(
            f"{source} holds {names} but not {', '.join(map(repr, missing))}; the model reads {expected}: "
            "rename the arrays to the model's input names"
        )


def check_layout(shape: Sequence[int], dtype: np.dtype[np.generic], model_input: ModelInput, source: str) -> None:
    """Raise CalibrationDataError unless rank, fixed axes behind the batch and element type fit the input.

    A floating type of another width is accepted (feeds are cast); whole numbers for a floating input are not, because
    pixels in 0..255 would run without an error and calibrate the wrong ranges.
    """
    fits = len(shape) == len(model_input.shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(model_input.shape[1:], shape[1:], strict=True)
    )
    if not fits:
        raise CalibrationDataError(
            f"{source}: {model_input.name!r} has shape {format_shape(shape)}; the model reads {model_input.describe()}"
        )
    want_type = np.dtype(model_input.dtype)
    if want_type != dtype and not (want_type.kind == "f" and dtype.kind == "f"):
        raise CalibrationDataError(
            f"{source}: {model_input.name!r} holds {dtype}; the model reads {model_input.describe()}: "
            "give the values as they are fed to the model (scaled and normalised)"
        )


def check_finite(array: Array, name: str, source: str, first: int = 0) -> None:
    """Raise NonFiniteError, naming the image at fault, if a floating array holds NaN or infinity.

    Args:
        array: [images, ...].
        name: the input it is meant for.
        source: what the message calls its origin.
        first: number of the array's first image.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        where = f"image {first + rows[0]}"
        raise NonFiniteError(f"{source}: {name!r} holds NaN or infinity in {where}: remove or repair it")


def check_feed(feed: Mapping[str, object], inputs: Sequence[ModelInput], source: str) -> Feed:
    """The feed restricted to the model's inputs, as contiguous arrays of the declared types.

    Args:
        feed: name -> array, whole batches along axis 0.
        inputs: the model's inputs.
        source: what the messages call the origin of the feed.

    Raises:
        CalibrationDataError: a name is missing, or a shape, batch or type does not fit.
        NonFiniteError: NaN or infinity.
    """
    check_names(list(feed), inputs, source)
    checked: Feed = {}
    for item in inputs:
        array = np.asarray(feed[item.name])
        check_layout(array.shape, array.dtype, item, source)
        if item.batch is not None and len(array) != item.batch:
            raise CalibrationDataError(
                f"{source}: {item.name!r} has a batch of {len(array)}; the model's batch is fixed at {item.batch}"
            )
        check_finite(array, item.name, source)
        checked[item.name] = np.ascontiguousarray(array, np.dtype(item.dtype))
    return checked


def single_image_input(inputs: Sequence[ModelInput]) -> ModelInput:
    """The only input, if it is a batch of images [batch, 1 or 3, height, width].

    Raises:
        CalibrationDataError: several inputs, or one that is no batch of images.
    """
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[1] in (1, 3):
        return inputs[0]
    listed = ", ".join(f"{item.name!r} {item.describe()}" for item in inputs) or "nothing"
    raise CalibrationDataError(
        f"the model reads {listed}, not one batch of images [batch, 1 or 3, height, width]: "
        "give the calibration data as an .npz with arrays named like the inputs"
    )
