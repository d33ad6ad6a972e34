import onnx
import onnx.parser

from qcompiler.ir.importing import to_graph
from tests.passes.helpers import model_of

TEXT = "agraph (float[batch, 4] x) => (float[batch, 4] y) { a = Relu (x)  y = Relu (a) }"


def test_names_are_unique():
    model = model_of(TEXT)
    for node in model.graph.node:
        node.name = ""
    assert [node.name for node in to_graph(model).nodes] == ["Relu", "Relu_1"]
    assert [node.name for node in model.graph.node] == ["", ""]


def test_module_scopes_become_paths():
    model = model_of(TEXT)
    for scopes, node in zip(("['', 'blocks.0', 'blocks.0.act', 'relu']", "not a list"), model.graph.node, strict=True):
        node.metadata_props.append(onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value=scopes))
    assert [node.name for node in to_graph(model).nodes] == ["/blocks/0/act/Relu", "Relu_1"]


def test_functions_are_inlined():
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21, "local": 1]>
        agraph (float[batch, 4] x) => (float[batch, 4] y) { y = local.twice (x) }
        <domain: "local", opset_import: ["": 21]>
        twice (a) => (b) { b = Add (a, a) }"""
    )
    graph = to_graph(model)
    assert [node.op for node in graph.nodes] == ["Add"]
    assert not graph.functions
