"""The preprocessing that the flags ask for."""

from __future__ import annotations

import argparse

from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.errors import OptionError

_DEFAULT_PRESET = "half"


def preprocessing_of(arguments: argparse.Namespace) -> Preprocessing | None:
    """The preprocessing of ``--preset`` and the flags that replace parts of it.

    Returns:
        None when no flag says anything: data that needs a preprocessing is then refused, never guessed at.

    Raises:
        OptionError: The flags leave mean or std open, or a value makes no sense.
    """
    mean, std, resize, crop = arguments.mean, arguments.std, arguments.resize, arguments.crop
    if arguments.preset is None:
        given = [value is not None for value in (mean, std, resize, crop)]
        if not any(given):
            return None
        if mean is None or std is None:
            raise OptionError("without --preset half|imagenet|none both --mean and --std must be given")
    return Preprocessing.preset(arguments.preset or _DEFAULT_PRESET, mean, std, resize, crop)
