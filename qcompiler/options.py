"""The options of a compilation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from qcompiler.errors import OptionError
from qcompiler.relevance.executors import EXECUTORS
from qcompiler.relevance.lrp_shares import RULES, ZPLUS

__all__ = [
    "ACTIVATIONS",
    "DEFAULT_BOP_BUDGET",
    "EFFORTS",
    "EXECUTORS",
    "GROUPINGS",
    "METHODS",
    "RULES",
    "STAGES",
    "CompileOptions",
]

METHODS = ("auto", "igq", "mixq", "lrp")
EFFORTS = ("low", "default", "high")
GROUPINGS = ("integer", "exact")
ACTIVATIONS = ("float32", "float16")
STAGES = ("canonicalise", "quantize", "lower")
DEFAULT_BOP_BUDGET = 0.25


@dataclass(frozen=True)
class CompileOptions:
    """What to do with a model.

    Attributes:
        method: ``auto``: widths, schemes and blocks of every layer by measured sensitivity; ``igq``: instance-aware
            group quantization at uniform widths; ``mixq``: mixed widths by relevance times sensitivity, clipped
            channel-wise; ``lrp``: likewise by relevance alone.
        bits: Uniform widths such as ``w4a4``; None lets the budget choose them.
        bits_file: A plan written by ``save_plan`` or edited by hand, instead of a search.
        save_plan: Where to write the plan.
        latency_budget: Time of the written model for one image on one thread of this machine, as a fraction of the
            float model's; None for no limit.
        size_budget: Size of the written model as a fraction of the float model's; None for no limit.
        strict_bits: No multiples or zero points per block: codes, and scales per token, channel or group alone.
        effort: How much is measured instead of estimated: ``low``, ``default`` or ``high``.
        executor: Where sensitivities are measured: ``processes``, ``ray`` or ``inline``.
        lrp_rule: Rule of linear layers in the relevance: ``zplus`` or ``gamma``.
        bop_budget: Bit operations of the free integer products as a fraction of W8A8; None for 0.25 when nothing else
            decides the widths (see ``product_budget``). With ``bits`` it is only checked.
        overhead_budget: Bookkeeping of the groups as a fraction of the products.
        groups: ``integer``: channel groups on integer multiples of one base scale (one integer product per layer);
            ``exact``: free scales (sorted segments).
        group_candidates: Group counts to choose from, per quantizer.
        first_last_bits: Width of patch embedding and head, weights and activations.
        activations: Type of the tensors between the operators of the written model: ``float32``, or ``float16`` for
            servers with CUDA. Inputs, outputs and integers are the same with both.
        images: Most calibration images to use.
        probe_images: Images that sensitivities are measured on; None for as many as the model's size allows.
        trial_images: Images that whole plans are tried out on; None likewise.
        stop_after: Stage whose graph is the result: ``canonicalise``, ``quantize`` or ``lower``.
        verify_each: Check the graph after every pass instead of every stage.
        allow_collapse: Write the model also when hardly anything of the float model's prediction is left in it.
        threads: Threads of ONNX Runtime; 0 for all cores.
        stats: Statistics file to read instead of taking statistics from the calibration data, which plans are still
            tried out on.
        save_stats: Where to write the statistics.
        resume: Folder that keeps finished measurements until the compilation has succeeded, and that an interrupted
            one continues from; None keeps nothing.
    """

    method: str = "auto"
    bits: str | None = None
    bits_file: Path | None = None
    save_plan: Path | None = None
    size_budget: float | None = None
    latency_budget: float | None = None
    strict_bits: bool = False
    effort: str = "default"
    executor: str = "processes"
    lrp_rule: str = ZPLUS
    bop_budget: float | None = None
    overhead_budget: float = 0.125
    groups: str = "integer"
    group_candidates: tuple[int, ...] = (1, 4, 8, 16)
    first_last_bits: int = 8
    activations: str = "float32"
    images: int = 256
    probe_images: int | None = None
    trial_images: int | None = None
    stop_after: str = "lower"
    verify_each: bool = False
    allow_collapse: bool = False
    threads: int = 0
    stats: Path | None = None
    save_stats: Path | None = None
    resume: Path | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense.

        Raises:
            OptionError: With the option at fault and what it accepts.
        """
        _one_of("--method", self.method, METHODS)
        _one_of("--groups", self.groups, GROUPINGS)
        _one_of("--effort", self.effort, EFFORTS)
        _one_of("--executor", self.executor, EXECUTORS)
        _one_of("--lrp-rule", self.lrp_rule, RULES)
        _one_of("--stop-after", self.stop_after, STAGES)
        _one_of("--activations", self.activations, ACTIVATIONS)
        if self.bop_budget is not None and not 0 < self.bop_budget <= 1:
            raise OptionError(f"--bop-budget {self.bop_budget:g} is not in (0, 1]: it is a fraction of W8A8")
        if self.size_budget is not None and not 0 < self.size_budget <= 1:
            raise OptionError(
                f"--size-budget {self.size_budget:g} is not in (0, 1]: it is a fraction of the float model"
            )
        if self.latency_budget is not None and not 0 < self.latency_budget < math.inf:
            raise OptionError(
                f"--latency-budget {self.latency_budget:g} is not positive: it is a fraction of the float model's time"
            )
        if self.latency_budget is not None and self.stop_after != STAGES[-1]:
            raise OptionError(f"--latency-budget is about the lowered model: leave --stop-after {self.stop_after} out")
        if self.activations != ACTIVATIONS[0]:
            if self.stop_after != STAGES[-1]:
                raise OptionError(
                    f"--activations {self.activations} needs a lowered model: leave --stop-after {self.stop_after} out"
                )
            if self.latency_budget is not None:
                raise OptionError(
                    f"--latency-budget is about float32 activations on this machine's processor: leave "
                    f"--activations {self.activations} out, or give another budget"
                )
        if self.bits is not None and self.bits_file is not None:
            raise OptionError(
                "--bits gives all layers one width and --bits-file gives each its own: give one of the two"
            )
        if not 0 <= self.overhead_budget <= 10:
            raise OptionError(
                f"--overhead-budget {self.overhead_budget:g} is not in [0, 10]: it is a fraction of the products"
            )
        if not 2 <= self.first_last_bits <= 8:
            raise OptionError(f"--first-last-bits {self.first_last_bits} is not in 2..8")
        if not self.group_candidates or not all(1 <= count <= 64 for count in self.group_candidates):
            raise OptionError("group candidates must be whole numbers in 1..64, at least one")
        if any(count is not None and count < 1 for count in (self.images, self.probe_images, self.trial_images)):
            raise OptionError("the number of calibration images must be at least 1")
        if self.threads < 0:
            raise OptionError(f"--threads {self.threads} is negative; 0 means all cores")
        if self.stats is not None and self.save_stats is not None:
            raise OptionError("--stats reads statistics and --save-stats writes them: give one of the two")

    @property
    def product_budget(self) -> float | None:
        """Limit of the free products as a fraction of W8A8; None where something else decides the widths alone.

        That is ``bits``, a plan's file, or a latency budget, except for ``igq``: only its group counts are free.
        """
        if self.bop_budget is not None or self.bits is not None or self.bits_file is not None:
            return self.bop_budget
        by_latency = self.latency_budget is not None and self.method != "igq"
        return None if by_latency else DEFAULT_BOP_BUDGET

    def to_dict(self) -> dict[str, object]:
        """The options as plain values; file paths are left out, they say nothing about the result."""
        values = asdict(self)
        for path in ("stats", "save_stats", "save_plan", "bits_file", "resume"):
            values.pop(path)
        values.pop("executor")  # it decides where something is measured, not what is found
        values.pop("allow_collapse")  # it decides whether there is a result
        if self.activations == ACTIVATIONS[0]:
            values.pop("activations")  # such files are the same as before there was a choice
        values["group_candidates"] = list(self.group_candidates)
        return values


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{option} '{value}' is unknown; choose one of {', '.join(allowed)}")
