"""What a latency budget came to, as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class LatencyReport:
    """Time of a compiled model for one image, as fractions of the float model's time.

    Attributes:
        budget: What ``--latency-budget`` allows.
        predicted: What the costs of the operators add up to.
        processor: Name of the processor that they were measured on.
        path: CPU path of the operator library there.
        threads: Threads of a session.
        widths: What narrower widths are worth on that processor, in words.
        measured: What the finished model takes; None in the model's own metadata: it differs from run to run.
    """

    budget: float
    predicted: float
    processor: str
    path: str
    threads: int
    widths: str
    measured: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatencyReport:
        """Inverse of ``dataclasses.asdict``."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})
