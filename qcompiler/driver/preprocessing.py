"""The preprocessing that options ask for."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.errors import OptionError

_DEFAULT_PRESET = "half"


def preprocessing_from(
    preset: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    crop: int | None = None,
) -> Preprocessing | None:
    """The preprocessing of a preset with the given parts replaced.

    Returns:
        None when nothing is given: data that needs a preprocessing is then refused, never guessed at.

    Raises:
        OptionError: Mean or std is left open, or a value makes no sense.
    """
    if preset is None:
        if all(value is None for value in (mean, std, resize, crop)):
            return None
        if mean is None or std is None:
            raise OptionError("without --preset half|imagenet|none both --mean and --std must be given")
    return Preprocessing.preset(preset or _DEFAULT_PRESET, mean, std, resize, crop)
