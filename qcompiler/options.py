"""The options of a compilation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from qcompiler.errors import OptionError

METHODS = ("igq",)
GROUPINGS = ("integer", "exact")
STAGES = ("canonicalise", "quantize", "lower")
DEFAULT_BOP_BUDGET = 0.25


@dataclass(frozen=True)
class CompileOptions:
    """What to do with a model.

    Attributes:
        method: Quantization method: ``igq``, instance-aware group quantization.
        bits: Uniform widths such as ``w4a4``; None lets the budget choose them.
        bop_budget: Bit operations of the free integer products as a fraction of W8A8; None for 0.25 when ``bits`` is
            not given either. With ``bits`` it is only checked.
        overhead_budget: Bookkeeping of the groups as a fraction of the products.
        groups: ``integer``: channel groups on integer multiples of one base scale (one integer product per layer);
            ``exact``: free scales (sorted segments).
        group_candidates: Group counts to choose from, per quantizer.
        first_last_bits: Width of patch embedding and head, weights and activations.
        images: Most calibration images to use.
        probe_images: Images that group counts are measured on.
        stop_after: Stage whose graph is the result: ``canonicalise``, ``quantize`` or ``lower``.
        verify_each: Check the graph after every pass instead of every stage.
        threads: Threads of ONNX Runtime; 0 for all cores.
        stats: Statistics file to read instead of running the calibration data.
        save_stats: Where to write the statistics.
    """

    method: str = "igq"
    bits: str | None = None
    bop_budget: float | None = None
    overhead_budget: float = 0.125
    groups: str = "integer"
    group_candidates: tuple[int, ...] = (1, 4, 8, 16)
    first_last_bits: int = 8
    images: int = 128
    probe_images: int = 8
    stop_after: str = "lower"
    verify_each: bool = False
    threads: int = 0
    stats: Path | None = None
    save_stats: Path | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense.

        Raises:
            OptionError: With the option at fault and what it accepts.
        """
        _one_of("--method", self.method, METHODS)
        _one_of("--groups", self.groups, GROUPINGS)
        _one_of("--stop-after", self.stop_after, STAGES)
        if self.bop_budget is not None and not 0 < self.bop_budget <= 1:
            raise OptionError(f"--bop-budget {self.bop_budget:g} is not in (0, 1]: it is a fraction of W8A8")
        if not 0 <= self.overhead_budget <= 10:
            raise OptionError(
                f"--overhead-budget {self.overhead_budget:g} is not in [0, 10]: it is a fraction of the products"
            )
        if not 2 <= self.first_last_bits <= 8:
            raise OptionError(f"--first-last-bits {self.first_last_bits} is not in 2..8")
        if not self.group_candidates or not all(1 <= count <= 64 for count in self.group_candidates):
            raise OptionError("group candidates must be whole numbers in 1..64, at least one")
        if self.images < 1 or self.probe_images < 1:
            raise OptionError("the number of calibration images must be at least 1")
        if self.stats is not None and self.save_stats is not None:
            raise OptionError("--stats reads statistics and --save-stats writes them: give one of the two")

    def to_dict(self) -> dict[str, object]:
        """The options as plain values; file paths are left out, they say nothing about the result."""
        values = asdict(self)
        values.pop("stats"), values.pop("save_stats")
        values["group_candidates"] = list(self.group_candidates)
        return values


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{option} '{value}' is unknown; choose one of {', '.join(allowed)}")
