"""`--resume`: finished measurements in a folder, so that an interrupted compilation need not repeat them.

A file's name holds a hash of all that its content depends on: what does not match is simply not found. Everything that
is not kept here follows from what is, so a resumed compilation writes the same bytes as one without interruption.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnxruntime as ort

from qcompiler import __version__
from qcompiler.calibration.readers import CalibrationSource
from qcompiler.calibration.statistics import Statistics, model_hash
from qcompiler.errors import CalibrationDataError, OutputPathError
from qcompiler.options import CompileOptions
from qcompiler.quant.choices import Choices
from qcompiler.relevance.jobs import Measured
from qcompiler.relevance.lrp import Conservation, RelevanceResult

STATISTICS, RELEVANCE, MEASUREMENTS = "statistics-*.npz", "relevance-*.json", "measurements-*.jsonl"
# Options that say how the result is written, and not what is measured.
_LATER = ("stop_after", "verify_each", "activations")


class Resume:
    """The state of one compilation; without a folder nothing is kept.

    Args:
        options: Options of the compilation, with the folder, which is made when there is something to keep.
        model: The canonical model.
        data: The calibration data.

    Raises:
        OutputPathError: The folder cannot be written.
    """

    def __init__(self, options: CompileOptions, model: onnx.ModelProto, data: CalibrationSource) -> None:
        folder = self._folder = options.resume
        self._taken: list[str] = []
        self._jobs: dict[str, tuple[Measured, ...]] = {}
        self._losses: dict[str, float] = {}
        self._journal: BinaryIO | None = None
        self._counts: list[str] = []
        self._found = False
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise OutputPathError(f"--resume '{folder}' is a file; give a folder, or one to be made")
        self._found = any(any(folder.glob(pattern)) for pattern in (STATISTICS, RELEVANCE, MEASUREMENTS))
        self._own_statistics = options.stats is None
        given = {"stats": None if options.stats is None else _file_hash(options.stats)}
        basis: dict[str, object] = {
            "versions": [__version__, ort.__version__, np.__version__],
            "model": model_hash(model),
            "data": _data_hash(data),
            "images": options.images,
            "threads": options.threads,
        }
        whole = {name: value for name, value in options.to_dict().items() if name not in _LATER}
        self._statistics = folder / STATISTICS.replace("*", _key(basis))
        by_relevance = {**basis, "rule": options.lrp_rule, "effort": options.effort}
        self._relevance = folder / RELEVANCE.replace("*", _key(by_relevance))
        self._measurements = folder / MEASUREMENTS.replace("*", _key({**basis, **given, "options": whole}))
        self._read_journal()
        counts = ((len(self._jobs), "sensitivities"), (len(self._losses), "tried plans"))
        self._counts = [f"{count} {what}" for count, what in counts if count]

    def statistics(self, collect: Callable[[], Statistics]) -> Statistics:
        """The statistics that were kept, or those that are collected now, which are kept from here on."""
        if self._folder is None or not self._own_statistics:
            return collect()
        if self._statistics.is_file():
            try:
                found = Statistics.load(self._statistics)
            except CalibrationDataError:  # of an interrupted disk, or written by hand
                found = None
            if found is not None:
                self._taken.append("the statistics")
                return found
        found = collect()
        self._write(self._statistics, found.save)
        return found

    def relevance(self, measure: Callable[[], RelevanceResult]) -> RelevanceResult:
        """Likewise the relevance of the layers."""
        if self._folder is None:
            return measure()
        try:
            content = json.loads(self._relevance.read_bytes())
            stream = tuple(Conservation(**item) for item in content.pop("stream"))
            kept = RelevanceResult(**content, stream=stream)
        except (OSError, ValueError, TypeError, KeyError):
            kept = measure()
            if kept.images:  # without images it was not measured, and why is a warning of this run
                text = json.dumps(kept.to_dict())
                self._write(self._relevance, lambda path: path.write_text(text))
            return kept
        self._taken.append("the relevance of the layers")
        return kept

    @property
    def jobs(self) -> Mapping[str, tuple[Measured, ...]]:
        """Sensitivities that are known, by the name of their job."""
        return self._jobs

    def keep_job(self, name: str, measured: tuple[Measured, ...]) -> None:
        """Keep the sensitivities of one job."""
        self._append({"job": name, "measured": [[item.kl, item.output_error] for item in measured]})

    def loss(self, choices: Choices, measure: Callable[[], float]) -> float:
        """The loss of a plan that was tried out, or is now."""
        if self._folder is None:
            return measure()
        key = _key(asdict(choices))
        if key not in self._losses:
            self._losses[key] = measure()
            self._append({"plan": key, "loss": self._losses[key]})
        return self._losses[key]

    def taken(self) -> str | None:
        """One line that says what is taken over, or why nothing is; None where there was nothing to look at."""
        if self._folder is None or not self._found:
            return None
        parts = [*self._taken, *self._counts]
        if parts:
            return f"{', '.join(parts)} from '{self._folder}'"
        return f"nothing, because '{self._folder}' holds the state of another model, other data or other options"

    def remove(self) -> None:
        """Forget this compilation's state; the folder goes with it unless something else lies there."""
        self.close()
        if self._folder is None:
            return
        for path in (self._statistics, self._relevance, self._measurements):
            path.unlink(missing_ok=True)
        try:
            self._folder.rmdir()
        except OSError:  # not empty, or never made
            return

    def close(self) -> None:
        """Close the files."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _read_journal(self) -> None:
        """Take complete lines over; what an interruption left of the last one is cut off."""
        if not self._measurements.is_file():
            return
        valid = 0
        for line in self._measurements.read_bytes().splitlines(keepends=True):
            try:
                if not line.endswith(b"\n"):
                    break
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError):
                break
            valid += len(line)
        os.truncate(self._measurements, valid)

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "job" in entry:
            self._jobs[entry["job"]] = tuple(Measured(float(kl), float(error)) for kl, error in entry["measured"])
        else:
            self._losses[entry["plan"]] = float(entry["loss"])

    def _append(self, entry: Mapping[str, object]) -> None:
        if self._folder is None:
            return
        try:
            if self._journal is None:
                self._folder.mkdir(exist_ok=True)
                self._journal = self._measurements.open("ab")
            self._journal.write(json.dumps(entry).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise _refused(self._folder, error) from error

    def _write(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write a file that is there completely or not at all."""
        temporary: str | None = None
        try:
            path.parent.mkdir(exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(handle)
            write(Path(temporary))
            os.replace(temporary, path)
        except OSError as error:
            raise _refused(path.parent, error) from error
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)


def _refused(folder: Path, error: OSError) -> OutputPathError:
    return OutputPathError(f"--resume '{folder}' cannot be written: {error.strerror or error}; give another folder")


def _key(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _file_hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # the stage that reads it says so
        return None


def _data_hash(data: CalibrationSource) -> str:
    """Of the values that the model is fed; where they come from does not matter."""
    if data.sha256 is not None:
        preprocessing = data.preprocessing.to_dict() if data.preprocessing else None
        return _key([data.kind, data.sha256, data.count, preprocessing])
    found = hashlib.sha256()
    data.reader.rewind()
    while (feed := data.reader.get_next()) is not None:
        for name in sorted(feed):
            found.update(name.encode() + str(feed[name].shape).encode())
            found.update(np.ascontiguousarray(feed[name]).tobytes())
    return found.hexdigest()
