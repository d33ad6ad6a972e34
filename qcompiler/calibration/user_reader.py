"""Readers that the user wrote: an object with `get_next`, or `module:callable` that makes one."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from qcompiler.calibration.inputs import Feed, ModelInput, check_feed
from qcompiler.errors import CalibrationDataError

_LOADER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class UserReader:
    """Passes a user's CalibrationDataReader through and checks every feed.

    Attributes:
        limit: stop after so many images (feeds are taken in the reader's order, since its length is unknown).
    """

    def __init__(self, reader: Any, inputs: Sequence[ModelInput], source: str, limit: int | None = None) -> None:
        """Args:
            reader: an object with `get_next() -> dict | None`; with `rewind()` if it is to be read more than once.
            inputs: the model's inputs.
            source: what error messages call the reader.
            limit: see the attributes.

        Raises:
            CalibrationDataError: `reader` has no `get_next`.
        """
        if not callable(getattr(reader, "get_next", None)):
            raise CalibrationDataError(
                f"{source} is a {type(reader).__name__}, no onnxruntime CalibrationDataReader: it has no get_next()"
            )
        self._reader = reader
        self._inputs = tuple(inputs)
        self._source = source
        self.limit = limit
        self._images = 0
        self._started = False
        self._digest = hashlib.sha256()
        self._hash: str | None = None

    def sha256(self) -> str | None:
        """Hash over names, types, shapes and values of all feeds, taken while they are read for the first time.

        A reader that was not read to its end is read now and starts again behind that; without a `rewind` it cannot,
        and has no hash.
        """
        if self._hash is None and callable(getattr(self._reader, "rewind", None)):
            self.rewind()
            for _ in self:
                pass
            self.rewind()
        return self._hash

    def get_next(self) -> Feed | None:
        """The reader's next feed, checked, or None at its end or at the limit.

        Raises:
            CalibrationDataError: not a dict, wrong names, shapes or types; no feed at all.
            NonFiniteError: NaN or infinity.
        """
        if self.limit is not None and self._images >= self.limit:
            self._end()
            return None
        feed = self._reader.get_next()
        if feed is None:
            if not self._images:
                raise CalibrationDataError(f"{self._source} gave no images")
            self._end()
            return None
        self._started = True
        if not isinstance(feed, dict):
            raise CalibrationDataError(f"{self._source}: get_next() gave a {type(feed).__name__}, not a dict of arrays")
        checked = check_feed(feed, self._inputs, f"{self._source}, feed after image {self._images}")
        self._images += len(next(iter(checked.values())))
        self._take(checked)
        return checked

    def _take(self, feed: Feed) -> None:
        if self._hash is None:
            for name, array in sorted(feed.items()):
                self._digest.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
                self._digest.update(array.tobytes())

    def _end(self) -> None:
        if self._hash is None:
            self._hash = self._digest.hexdigest()

    def rewind(self) -> None:
        """Start again.

        Raises:
            CalibrationDataError: feeds were taken already and the user's reader has no `rewind`.
        """
        if self._started:
            rewind: Callable[[], object] | None = getattr(self._reader, "rewind", None)
            if not callable(rewind):
                raise CalibrationDataError(
                    f"{self._source} has no rewind(), but the images are read more than once: add one that starts again"
                )
            rewind()
        self._images, self._started = 0, False
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[Feed]:
        while (feed := self.get_next()) is not None:
            yield feed


def is_loader(spec: str) -> bool:
    """Whether `spec` has the form `module:callable`."""
    return _LOADER.fullmatch(spec) is not None


def load_reader(spec: str) -> Any:
    """Import `module:callable`, also from the working directory, and call it without arguments.

    Raises:
        CalibrationDataError: no such module or attribute, or the call fails.
    """
    module_name, _, name = spec.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
        make = getattr(module, name)
        return make()
    except ImportError as error:
        raise CalibrationDataError(f"--calib {spec}: cannot import {module_name!r} ({error})") from error
    except AttributeError as error:
        raise CalibrationDataError(f"--calib {spec}: {error}") from error
    except Exception as error:
        raise CalibrationDataError(f"--calib {spec}: {name}() failed with {type(error).__name__}: {error}") from error
    finally:
        if here in sys.path:
            sys.path.remove(here)
