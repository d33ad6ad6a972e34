"""Values of any kind as text, for what has no form of its own on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Labels and texts of a mapping; those of a mapping within it carry its name."""
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}: ")
        else:
            yield name, plain(value)


def plain(value: object) -> str:
    """One value; None is a dash."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def exact(value: float) -> str:
    """A number without a prefix: whole ones with every digit, others with six."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
