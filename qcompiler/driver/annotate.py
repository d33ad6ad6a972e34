"""The finished model: function bodies, provenance and per-layer annotations on the ModelProto."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from qcompiler.ir.functions import DOMAIN, FLOAT16, FLOAT32, functions_for
from qcompiler.ir.saving import to_model
from qcompiler.ir.verifier import FUSED_OPS
from qcompiler.ir.weight_files import WeightFiles, declared
from qcompiler.report.digests import DIGEST_KEY, digests
from qcompiler.report.values import CompileReport, LayerReport

REPORT_KEY = "qcompile.report"
LAYER_KEY = "qcompile.layer"


def finish(graph: gs.Graph, files: WeightFiles | None = None) -> onnx.ModelProto:
    """Export a graph with the bodies of all operators that it uses, checked by ``onnx.checker``.

    Args:
        graph: The graph.
        files: Takes the weights where they are large; None keeps them in memory.
    """
    model = to_model(graph, files=files)
    own = [node for node in graph.nodes if node.domain == DOMAIN]
    narrow = any(node.outputs[0].dtype == np.float16 for node in own if node.op in FUSED_OPS)
    model.functions.extend(functions_for((node.op for node in own), FLOAT16 if narrow else FLOAT32))
    if model.functions and not any(item.domain == DOMAIN for item in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    onnx.checker.check_model(declared(model))
    return model


def annotate(model: onnx.ModelProto, report: CompileReport) -> None:
    """Write the report into the model's metadata, each layer's part onto its node, and digests of all of it."""
    content = report.to_dict()
    for volatile in ("seconds", "bytes_after", "size_ratio", "passes"):
        content.pop(volatile)  # equal input and options must give equal bytes
    del model.metadata_props[:]
    model.metadata_props.add(key=REPORT_KEY, value=json.dumps(content, sort_keys=True))
    layers: dict[str, LayerReport] = {layer.name: layer for layer in report.layers}
    for node in model.graph.node:
        layer = layers.get(node.name)
        if layer is not None:
            node.metadata_props.add(key=LAYER_KEY, value=json.dumps(asdict(layer), sort_keys=True))
    model.metadata_props.add(key=DIGEST_KEY, value=digests(model).to_text())
