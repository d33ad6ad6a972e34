"""The report that a written model carries in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

from qcompiler.ir.passes import PassReport, Refusal
from qcompiler.quant.bops import BitOperations
from qcompiler.report.coverage import Coverage
from qcompiler.report.latency import LatencyReport
from qcompiler.report.values import CompileReport, LayerReport

REPORT_KEY = "qcompile.report"
LAYER_KEY = "qcompile.layer"

_AGREEMENT = ("images", "agreement", "agreement_se", "kl", "relative_error")
_AGREEMENT_OF_OUTPUTS = ("psnr", "worst", "outputs")  # not in files of version 0.1.0


def read_report(model: onnx.ModelProto) -> CompileReport | None:
    """The report in the model's metadata.

    What would make equal compilations write different bytes is not in the file: the report has no passes and no
    seconds, and its size is that of ``model`` as it is now.

    Returns:
        The report, or None where the model carries none, or one that this version cannot read.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == REPORT_KEY), None)
    if text is None:
        return None
    try:
        return report_from_dict({"bytes_after": model.ByteSize(), "passes": [], "seconds": {}, **json.loads(text)})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_layer(node: onnx.NodeProto) -> LayerReport | None:
    """The report of one layer in its node's metadata, or None."""
    text = next((entry.value for entry in node.metadata_props if entry.key == LAYER_KEY), None)
    if text is None:
        return None
    try:
        return layer_from_dict(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def report_from_dict(values: Mapping[str, Any]) -> CompileReport:
    """Inverse of :meth:`CompileReport.to_dict`."""
    measured = values["agreement"]
    return CompileReport(
        version=values["version"],
        method=values["method"],
        widths=values["widths"],
        options=dict(values["options"]),
        calibration=dict(values["calibration"]),
        layers=tuple(layer_from_dict(layer) for layer in values["layers"]),
        bops=_bops_from_dict(values["bops"]),
        passes=tuple(_pass_from_dict(item) for item in values["passes"]),
        bytes_before=values["bytes_before"],
        bytes_after=values["bytes_after"],
        agreement=None if measured is None else _agreement(measured),
        warnings=tuple(values["warnings"]),
        seconds=values["seconds"],
        loss=values.get("loss"),
        latency=LatencyReport.from_dict(values["latency"]) if values.get("latency") else None,
        coverage=Coverage.from_dict(values["coverage"]) if values.get("coverage") else None,
    )


def layer_from_dict(values: Mapping[str, Any]) -> LayerReport:
    """Inverse of ``dataclasses.asdict`` for a layer."""
    return LayerReport(**{**values, "groups": tuple(values["groups"])})


def _agreement(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {name: measured[name] for name in (*_AGREEMENT, *(key for key in _AGREEMENT_OF_OUTPUTS if key in measured))}


def _pass_from_dict(values: Mapping[str, Any]) -> PassReport:
    return PassReport(**{**values, "refusals": tuple(Refusal(**refusal) for refusal in values["refusals"])})


def _bops_from_dict(values: Mapping[str, Any]) -> BitOperations:
    def whole(part: int, fraction: float) -> int:
        return round(part / fraction) if fraction else 0

    return BitOperations(
        products=values["products"],
        bookkeeping=values["bookkeeping"],
        fixed=values["fixed"],
        # The dictionary holds the fractions; the counts behind them follow.
        products_w8a8=whole(values["products"], values["fraction_of_w8a8"]),
        float32=whole(values["total"], values["fraction_of_float"]),
    )
