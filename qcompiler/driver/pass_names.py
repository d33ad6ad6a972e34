"""Names of the passes that a compilation runs."""

from __future__ import annotations

from qcompiler.passes import CANONICALISE, LOWER, NARROW, QUANTIZE


def pass_names() -> list[str]:
    """Every name once, in the order in which the passes first run; a pass is called like its module."""
    every = (*CANONICALISE, *QUANTIZE, *LOWER, *NARROW)
    return list(dict.fromkeys(item.__module__.rpartition(".")[2] for item in every))
