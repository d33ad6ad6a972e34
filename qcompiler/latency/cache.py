"""Measured times on disk: one file per machine, that any process may read and write."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from qcompiler.latency.machine import Machine

FORMAT = 1
DIGITS = 6  # of a ratio: more would only be noise
SECTIONS = ("ratios", "shares")


def cache_folder() -> Path:
    """``$QCOMPILER_CACHE``, or ``qcompile`` in the user's folder for caches (XDG)."""
    explicit = os.environ.get("QCOMPILER_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qcompile"


class LatencyCache:
    """Ratios of operators and shares of models, by keys of text.

    A file that is missing, broken, or of another machine is the same as an empty one: everything is measured anew.

    Args:
        machine: What the times hold for.
        folder: Where the file lies; None for :func:`cache_folder`.
    """

    def __init__(self, machine: Machine, folder: Path | None = None) -> None:
        self._machine = machine.to_dict()
        text = json.dumps(self._machine, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path = (cache_folder() if folder is None else folder) / f"latency-{key}.json"
        self._content = self._read()

    def get(self, section: str, key: str) -> float | None:
        """What is known of ``key``, or None."""
        return self._content[section].get(key)

    def add(self, section: str, found: Mapping[str, float]) -> None:
        """Keep values, here and in the file; what other processes wrote first stays, so that all see the same.

        A file that cannot be written is no error: the next compilation measures again.
        """
        on_disk = self._read()
        rounded = {key: float(f"{value:.{DIGITS}g}") for key, value in found.items()}
        for name in SECTIONS:
            new = rounded if name == section else {}
            self._content[name] = {**new, **self._content[name], **on_disk[name]}
        with suppress(OSError):
            self._write()

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            content = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("machine") != self._machine:
            content = {}
        return {name: _numbers(content.get(name)) for name in SECTIONS}

    def _write(self) -> None:
        content = {"format": FORMAT, "machine": self._machine, **self._content}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=1, sort_keys=True) + "\n")
            os.replace(name, self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _numbers(section: Any) -> dict[str, float]:
    """The entries of a section that can be times."""
    if not isinstance(section, dict):
        return {}
    return {
        key: float(value)
        for key, value in section.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    }
