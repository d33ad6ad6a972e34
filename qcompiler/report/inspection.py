"""What a model file is, read from the file alone: its nodes, its constants, and its metadata where it has some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import onnx

from qcompiler.errors import UnsupportedModelError
from qcompiler.report.inspected_layer import InspectedLayer, inspected_layer
from qcompiler.report.metadata import read_report
from qcompiler.report.reading.activations import activation_type
from qcompiler.report.reading.finding import find_layers
from qcompiler.report.reading.readable import QUANTIZERS
from qcompiler.report.reading.wiring import DOMAIN, Wiring
from qcompiler.report.recount import Recount, recount
from qcompiler.report.values import CompileReport

__all__ = ["InspectedLayer", "Inspection", "inspect_model"]


@dataclass(frozen=True)
class Inspection:
    """What a model file is.

    Attributes:
        form: ``lowered`` (fused operators), ``readable`` (explicit quantizers) or ``float``.
        opset: Version of the standard operators.
        ir_version: Version of the file format.
        producer: Who wrote the file.
        activations: What the operators of qcompile read, ``float32`` or ``float16``; None where there are none.
        operators: How often each operator occurs, those of qcompile with their domain.
        layers: The quantized layers, in graph order.
        recount: What the budgets limit, counted again without the metadata; None where there are no layers, or where
            the file does not fix their sizes.
        report: The report in the metadata, or None.
    """

    form: str
    opset: int
    ir_version: int
    producer: str
    activations: str | None
    operators: Mapping[str, int]
    layers: tuple[InspectedLayer, ...]
    recount: Recount | None
    report: CompileReport | None

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "form": self.form,
            "opset": self.opset,
            "ir_version": self.ir_version,
            "producer": self.producer,
            "activations": self.activations,
            "operators": dict(self.operators),
            "layers": [asdict(layer) for layer in self.layers],
            "recount": None if self.recount is None else self.recount.to_dict(),
            "report": None if self.report is None else self.report.to_dict(),
        }


def inspect_model(model: onnx.ModelProto) -> Inspection:
    """Reads a model; nothing is run.

    Args:
        model: A float model, or one that qcompile wrote, in either of its forms.
    """
    nodes = model.graph.node
    layers = tuple(inspected_layer(layer) for layer in find_layers(Wiring(model.graph)))
    if any(node.op_type in QUANTIZERS and node.domain == DOMAIN for node in nodes):
        form = "readable"
    else:
        form = "lowered" if layers else "float"
    return Inspection(
        form=form,
        opset=next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        activations=activation_type(model),
        operators=dict(Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in nodes)),
        layers=layers,
        recount=_recount(model) if layers else None,
        report=read_report(model),
    )


def _recount(model: onnx.ModelProto) -> Recount | None:
    try:
        return recount(model)
    except UnsupportedModelError:
        return None
