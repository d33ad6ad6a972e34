"""The preprocessing that a `preprocessor_config.json` of Hugging Face's image processors describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.errors import OptionError

# Numbers of Pillow's resampling filters, as the files give them.
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# ConvNeXt's processor squeezes the whole image into the square from this size on, and crops below.
_CONVNEXT_LARGE = 384


def read_preprocessor_config(path: Path) -> Preprocessing:
    """The preprocessing of a file, with the defaults of `ViTImageProcessor` for what the file leaves out.

    The long side of a resized image is rounded, where the processors cut its fraction off.

    Raises:
        OptionError: no JSON object, a value that makes no sense, or a step that `Preprocessing` does not have.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config, dict):
            raise OptionError(f"{path}: holds no JSON object")
        return _preprocessing(config)
    except OptionError as error:
        raise OptionError(f"{path}: {error}; give the preprocessing with --mean, --std, --resize and --crop") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise OptionError(f"{path}: cannot be understood ({problem}); give --mean and --std instead") from error


def _preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    # Pixels count from 0 to 1 here and from 0 to 255 there.
    factor = 255 * float(config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1)
    normalises = config.get("do_normalize", True)
    mean = _channels(config["image_mean"]) if normalises else (0.0,) * 3
    std = _channels(config["image_std"]) if normalises else (1.0,) * 3
    filter_number = config.get("resample", 2)
    if filter_number not in _RESAMPLING:
        raise OptionError(f"'resample' {filter_number} is no filter of Pillow")
    resize, crop, stretch = _sizes(config)
    return Preprocessing(
        mean=tuple(value / factor for value in mean),
        std=tuple(value / factor for value in std),
        resize=resize,
        crop=crop,
        interpolation=_RESAMPLING[filter_number],
        crop_fraction=1.0,
        stretch=stretch,
    )


def _sizes(config: Mapping[str, Any]) -> tuple[int | None, int | None, bool]:
    """Length that images are resized to, side of the crop, and whether resizing makes them square."""
    crops = config.get("do_center_crop", "crop_size" in config)
    crop = _side(config["crop_size"])[0] if crops else None
    if not config.get("do_resize", True):
        return crop, crop, False
    side, short = _side(config["size"])
    share = config.get("crop_pct")
    if share is not None and short:
        return (int(side / share), side, False) if side < _CONVNEXT_LARGE else (side, side, True)
    if short or _takes_short_side(config, config["size"]):
        return side, crop or side, False
    return side, crop or side, True


def _takes_short_side(config: Mapping[str, Any], size: object) -> bool:
    """Whether a size that is one number means the short side: only CLIP's processors of older files do so."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    return not isinstance(size, dict) and kind.startswith("CLIP")


def _side(size: object) -> tuple[int, bool]:
    """Pixels of a side, and whether it is said to be the short one."""
    if not isinstance(size, Mapping):
        return int(size), False  # type: ignore[call-overload]
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), True
    if int(size["height"]) != int(size["width"]):
        raise OptionError(f"images of {size['height']} x {size['width']} pixels are not square")
    return int(size["height"]), False


def _channels(values: Any) -> tuple[float, ...]:
    numbers = values if isinstance(values, list) else [values]
    return tuple(float(value) for value in (numbers * 3 if len(numbers) == 1 else numbers))
