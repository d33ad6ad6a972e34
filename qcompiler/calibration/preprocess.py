"""From an image file to the values a vision transformer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from qcompiler.calibration.inputs import ModelInput
from qcompiler.errors import OptionError

INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop, scale to [0, 1], subtract `mean`, divide by `std`.

    The rule, for an image of w x h pixels read as RGB (luminance for a model of one channel):

    1. `scale = resize / min(w, h)`; both sides become `round(side * scale)` (Python's rounding, half to even), or both
       become `resize` with `stretch`;
    2. the crop starts at `((width - crop) // 2, (height - crop) // 2)`;
    3. `value = (pixel / 255 - mean) / std` per channel, float32, axes [channel, row, column].

    Attributes:
        mean: per channel, on the scale of [0, 1].
        std: per channel, on the scale of [0, 1]; positive.
        resize: length of the short side in pixels; None derives `int(crop / crop_fraction)`, e.g. 224 -> 248.
        crop: side of the square crop in pixels; None takes the model's input size.
        interpolation: one of "bicubic", "bilinear", "lanczos", "nearest", "box", "hamming".
        crop_fraction: share of the short side that the crop keeps; only used while `resize` is None.
        stretch: make the image square instead of keeping its aspect.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bicubic"
    crop_fraction: float = 0.9
    stretch: bool = False

    def __post_init__(self) -> None:
        for option, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or not all(np.isfinite(values)):
                raise OptionError(f"--{option} takes 1 or 3 finite numbers, not {list(values)}")
        if min(self.std) <= 0:
            raise OptionError(f"--std must be positive, not {list(self.std)}")
        for option, side in (("resize", self.resize), ("crop", self.crop)):
            if side is not None and side < 1:
                raise OptionError(f"--{option} takes a positive number of pixels, not {side}")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise OptionError(f"--crop {self.crop} is larger than --resize {self.resize}: resize to at least the crop")
        if self.interpolation not in INTERPOLATIONS:
            raise OptionError(f"interpolation {self.interpolation!r}: choose one of {', '.join(INTERPOLATIONS)}")
        if not 0 < self.crop_fraction <= 1:
            raise OptionError(f"the crop keeps a share of the image in (0, 1], not {self.crop_fraction}")

    @staticmethod
    def preset(
        name: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        resize: int | None = None,
        crop: int | None = None,
    ) -> Preprocessing:
        """The preset `name` with the given fields replaced; one number for `mean` or `std` serves all channels.

        Raises:
            OptionError: no such preset, or values that make no sense.
        """
        if name not in PRESETS:
            raise OptionError(f"--preset {name!r}: choose one of {', '.join(PRESETS)}")
        base = PRESETS[name]
        return replace(
            base,
            mean=base.mean if mean is None else _per_channel(mean),
            std=base.std if std is None else _per_channel(std),
            resize=base.resize if resize is None else resize,
            crop=base.crop if crop is None else crop,
        )

    def for_input(self, model_input: ModelInput) -> Preprocessing:
        """The same with `resize` and `crop` filled in from a model input [batch, channels, height, width].

        Raises:
            OptionError: the input is not square, or `crop` contradicts its fixed size.
        """
        sides = model_input.shape[2:4]
        fixed = [side for side in sides if isinstance(side, int)]
        if len(set(fixed)) > 1:
            raise OptionError(f"{model_input.name!r} reads {model_input.describe()}, no square: give an .npz instead")
        crop = self.crop or (fixed[0] if fixed else DEFAULT_SIZE)
        if fixed and crop != fixed[0]:
            raise OptionError(f"--crop {crop} does not fit {model_input.name!r}, which reads {model_input.describe()}")
        return replace(self, crop=crop, resize=self.resize or int(crop / self.crop_fraction))

    def normalise(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """`(pixels - mean) / std` for float32 values in [0, 1] of shape [..., channels, rows, columns].

        Raises:
            OptionError: as many channels as neither `mean` nor `std` allow.
        """
        channels = pixels.shape[-3]
        mean, std = (_channels(values, channels) for values in (self.mean, self.std))
        result: npt.NDArray[np.float32] = (pixels - mean) / std
        return result

    def __call__(self, image: Image.Image, channels: int = 3) -> npt.NDArray[np.float32]:
        """The image as float32 [channels, crop, crop]; `resize` and `crop` must be known (see `for_input`)."""
        if self.resize is None or self.crop is None:
            raise OptionError("the size of the images is unknown: give --resize and --crop")
        image = image.convert("RGB" if channels == 3 else "L")
        scale = self.resize / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        if self.stretch:
            size = (self.resize, self.resize)
        image = image.resize(size, INTERPOLATIONS[self.interpolation])
        left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
        cropped = image.crop((left, top, left + self.crop, top + self.crop))
        pixels: npt.NDArray[np.float32] = np.asarray(cropped, np.float32) / np.float32(255)
        planes = pixels.transpose(2, 0, 1) if channels == 3 else pixels[None]
        return np.ascontiguousarray(self.normalise(planes))

    def to_dict(self) -> dict[str, object]:
        """For the report: plain lists, numbers and strings."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            **({"stretch": True} if self.stretch else {}),
        }


def _per_channel(values: Sequence[float]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    return numbers * 3 if len(numbers) == 1 else numbers


def _channels(values: tuple[float, ...], channels: int) -> npt.NDArray[np.float32]:
    if len(values) != channels and len(set(values)) > 1:
        raise OptionError(f"the model has {channels} channel(s), mean and std have {len(values)}: give {channels}")
    values = values if len(values) == channels else values[:1] * channels
    return np.array(values, np.float32).reshape(channels, 1, 1)


PRESETS = {
    "half": Preprocessing(),
    "imagenet": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    # Values stay in [0, 1], and an image of the model's size is not resampled.
    "none": Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), crop_fraction=1.0),
}
