"""What an analysis found out about the layers of a float model, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from qcompiler.report.search import LayerAnalysis


@dataclass(frozen=True)
class AnalysisResult:
    """Relevance and sensitivity of every layer.

    Attributes:
        version: Version of qcompile.
        options: Options in force.
        calibration: Provenance of the calibration data.
        layers: One entry per layer, in graph order; those whose widths are fixed have no sensitivity.
        lrp_rule: Rule by which relevance was propagated.
        conservation: How much of the starting relevance arrives where, by name of the place and statistic.
        warnings: What the user should know.
        seconds: Time per stage.
        resumed: What was taken over from an interrupted run, in words; None where nothing was looked for.
    """

    version: str
    options: Mapping[str, object]
    calibration: Mapping[str, object]
    layers: tuple[LayerAnalysis, ...]
    lrp_rule: str
    conservation: Mapping[str, float]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    resumed: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Everything that was found out as plain values, for ``--json`` and the report's JSON."""
        return {
            "version": self.version,
            "options": dict(self.options),
            "calibration": dict(self.calibration),
            "layers": [{**asdict(layer), "sensitivity": dict(layer.sensitivity)} for layer in self.layers],
            "lrp_rule": self.lrp_rule,
            "conservation": dict(self.conservation),
            "warnings": list(self.warnings),
            "seconds": dict(self.seconds),
        }
