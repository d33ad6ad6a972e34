"""The first images of the calibration data, for what needs only a few."""

from __future__ import annotations

from itertools import islice

from qcompiler.calibration.feeds import CalibrationReader
from qcompiler.calibration.inputs import Feed
from qcompiler.errors import CalibrationDataError, OptionError


def first_images(reader: CalibrationReader, count: int) -> list[Feed]:
    """As many feeds as hold the first ``count`` images; a feed holds a whole batch where the model fixes it.

    Raises:
        CalibrationDataError: There are none.
        OptionError: The reader cannot start again.
    """
    held = len(next(iter(first_feeds(reader, 1)[0].values())))
    return first_feeds(reader, -(-count // held))


def first_feeds(reader: CalibrationReader, count: int) -> list[Feed]:
    """The first ``count`` feeds, from the start of the data.

    Raises:
        CalibrationDataError: There are none.
        OptionError: The reader cannot start again.
    """
    rewind = getattr(reader, "rewind", None)
    if rewind is None:
        raise OptionError("the calibration reader has no rewind(); qcompile reads the data several times")
    rewind()
    found = list(islice(iter(reader.get_next, None), count))
    if not found:
        raise CalibrationDataError("the calibration data is empty: give at least one image")
    return found
