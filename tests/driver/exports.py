"""The tiny model as other exporters and optimisers write it: functions from a model to another spelling of it."""

import re

import ml_dtypes
import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

F = np.float32


def copied(model):
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def at_opset(version):
    """By ONNX's own converter; before 17 with LayerNormalization in pieces, as exporters wrote it then."""

    def rewrite(model):
        if version >= 17:
            return onnx.version_converter.convert_version(model, version)
        made = norms_in_pieces(model)
        made.opset_import[0].version = version
        return made

    return rewrite


def norms_in_pieces(model):
    """LayerNormalization as two means, of which the axes are attributes."""
    made = copied(model)
    nodes = []
    for node in made.graph.node:
        if node.op_type != "LayerNormalization":
            nodes.append(node)
            continue
        (x, gamma, beta), y = node.input, node.output[0]
        pieces = [
            helper.make_node("ReduceMean", [x], [f"{y}_mean"], axes=[-1]),
            helper.make_node("Sub", [x, f"{y}_mean"], [f"{y}_centred"]),
            helper.make_node("Pow", [f"{y}_centred", f"{y}_two"], [f"{y}_squared"]),
            helper.make_node("ReduceMean", [f"{y}_squared"], [f"{y}_variance"], axes=[-1]),
            helper.make_node("Add", [f"{y}_variance", f"{y}_epsilon"], [f"{y}_shifted"]),
            helper.make_node("Sqrt", [f"{y}_shifted"], [f"{y}_deviation"]),
            helper.make_node("Div", [f"{y}_centred", f"{y}_deviation"], [f"{y}_normal"]),
            helper.make_node("Mul", [f"{y}_normal", gamma], [f"{y}_scaled"]),
            helper.make_node("Add", [f"{y}_scaled", beta], [y]),
        ]
        for piece in pieces:
            piece.name = f"{node.name}/{piece.output[0]}"
        nodes += pieces
        epsilon = next(item.f for item in node.attribute if item.name == "epsilon")
        made.graph.initializer.append(numpy_helper.from_array(F(2), f"{y}_two"))
        made.graph.initializer.append(numpy_helper.from_array(F(epsilon), f"{y}_epsilon"))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def constant_nodes(model):
    """No initialisers."""
    made = copied(model)
    constants = [
        helper.make_node("Constant", [], [tensor.name], f"{tensor.name}/Constant", value=tensor)
        for tensor in made.graph.initializer
    ]
    del made.graph.initializer[:]
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(constants + nodes)
    return made


def identity_aliases(model):
    """Every weight is read through an Identity, and equal tensors of two layers are one."""
    made = copied(model)
    first: dict[bytes, str] = {}
    kept, aliases = [], []
    for tensor in made.graph.initializer:
        key = tensor.SerializeToString().replace(tensor.name.encode(), b"")
        source = first.setdefault(key, f"{tensor.name}_shared")
        aliases.append(helper.make_node("Identity", [source], [tensor.name], f"{tensor.name}/Identity"))
        if source == f"{tensor.name}_shared":
            tensor.name = source
            kept.append(tensor)
    nodes = list(made.graph.node)
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    made.graph.node.extend(aliases + nodes)
    return made


def halved(kind, outside=True):
    """All weights, and with `outside` inputs and outputs, in half precision; else casts at both ends."""
    dtype = {TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}[kind]

    def rewrite(model):
        made = copied(model)
        del made.graph.value_info[:]
        for tensor in made.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor).astype(dtype)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        if outside:
            for value in (*made.graph.input, *made.graph.output):
                value.type.tensor_type.elem_type = kind
            return made
        (reads,), (gives,) = made.graph.input, made.graph.output
        for node in made.graph.node:
            node.input[:] = ["inside" if name == reads.name else name for name in node.input]
            node.output[:] = ["result" if name == gives.name else name for name in node.output]
        nodes = list(made.graph.node)
        del made.graph.node[:]
        made.graph.node.append(helper.make_node("Cast", [reads.name], ["inside"], "narrow", to=kind))
        made.graph.node.extend(nodes)
        made.graph.node.append(helper.make_node("Cast", ["result"], [gives.name], "wide", to=TensorProto.FLOAT))
        return made

    return rewrite


def gemms(model):
    """Linear layers as `Gemm` of matrices with transposed weights, the head with a transposed input too."""
    made = copied(model)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}

    def turn(name):
        values = np.ascontiguousarray(numpy_helper.to_array(weights[name]).T)
        weights[name].CopyFrom(numpy_helper.from_array(values, name))

    nodes, biases = [], {node.input[0]: node for node in made.graph.node if node.op_type == "Add"}
    gone = set()
    for node in made.graph.node:
        if node.op_type == "Gemm":
            turn(node.input[1])
            nodes.append(
                helper.make_node("Transpose", [node.input[0]], ["turned_input"], "head/Transpose", perm=[1, 0])
            )
            inputs = ["turned_input", *node.input[1:]]
            nodes.append(helper.make_node("Gemm", inputs, node.output, node.name, transA=1, transB=1))
        elif node.op_type == "MatMul" and node.input[1] in weights:
            bias, y = biases[node.output[0]], node.output[0]
            gone.add(bias.name)
            turn(node.input[1])
            inner, outer = numpy_helper.to_array(weights[node.input[1]]).shape[::-1]
            for name, shape in ((f"{y}_rows", [-1, inner]), (f"{y}_tokens", [-1, 4, outer])):
                made.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
            nodes += [
                helper.make_node("Reshape", [node.input[0], f"{y}_rows"], [f"{y}_in"], f"{node.name}/in"),
                helper.make_node("Gemm", [f"{y}_in", node.input[1], bias.input[1]], [f"{y}_out"], node.name, transB=1),
                helper.make_node("Reshape", [f"{y}_out", f"{y}_tokens"], bias.output, f"{node.name}/out"),
            ]
        elif node.name not in gone:
            nodes.append(node)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


HUGGING_FACE = {
    "patch": "/vit/embeddings/patch_embeddings/projection",
    "attn.qkv": "/vit/encoder/layer.0/attention/attention/query",
    "attn.proj": "/vit/encoder/layer.0/attention/output/dense",
    "mlp.fc1": "/vit/encoder/layer.0/intermediate/dense",
    "mlp.fc2": "/vit/encoder/layer.0/output/dense",
    "head": "/classifier",
}


def hugging_face(model):
    """Three layers for queries, keys and values, under the names that Optimum writes; weights as `onnx::MatMul_123`."""
    made = copied(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    dim = weights["proj_weight"].shape[0]
    constants = {"hf_heads": np.array([0, 0, 2, dim // 2], np.int64)}
    nodes = []
    for letter, place in (("query", 0), ("key", 1), ("value", 2)):
        scope, columns = f"/vit/encoder/layer.0/attention/attention/{letter}", slice(place * dim, (place + 1) * dim)
        constants[f"onnx::MatMul_{place}"] = weights["qkv_weight"][:, columns].copy()
        constants[f"vit.encoder.layer.0.attention.attention.{letter}.bias"] = weights["qkv_bias"][columns].copy()
        inputs = [f"vit.encoder.layer.0.attention.attention.{letter}.bias", f"{letter}_product"]
        nodes += [
            helper.make_node("MatMul", ["n1", f"onnx::MatMul_{place}"], [f"{letter}_product"], f"{scope}/MatMul"),
            helper.make_node("Add", inputs, [f"{letter}_sum"], f"{scope}/Add"),
            helper.make_node("Reshape", [f"{letter}_sum", "hf_heads"], [f"{letter}_heads"], f"{scope}/Reshape"),
            helper.make_node(
                "Transpose",
                [f"{letter}_heads"],
                ["qkv"[place] if letter != "key" else "kt"],
                f"{scope}/Transpose",
                perm=[0, 2, 3, 1] if letter == "key" else [0, 2, 1, 3],
            ),
        ]
    replaced = {"qm", "qb", "five", "turned", "q1", "q", "k", "kt"}
    found = []
    for node in made.graph.node:
        if node.output[0] == "qm":
            found += nodes
        if node.output[0] in replaced:
            continue
        node.name = HUGGING_FACE.get(node.name, node.name) + f"/{node.op_type}"
        found.append(node)
    found = [node for node in found if node.op_type not in ("Squeeze",)]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(found)
    read = {name for node in found for name in node.input}
    made.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in (weights | constants).items() if name in read
    )
    return made


def several(model):
    """A second input that is added to the scores, and three outputs."""
    made = copied(model)
    for node in made.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    made.graph.node.append(helper.make_node("Add", ["scores", "prior"], ["logits"], "prior/Add"))
    made.graph.input.append(helper.make_tensor_value_info("prior", TensorProto.FLOAT, ["n", 5]))
    made.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", 16]))
    made.graph.output.append(helper.make_tensor_value_info("n3", TensorProto.FLOAT, ["n", 4, 16]))
    return made


IF = """<ir_version: 8, opset_import: ["": 17]>
closing (float[n, 5] scores) => (float[n, 5] logits) {
    largest = ReduceMax <keepdims = 0> (scores)  positive = Greater (largest, zero)
    logits = If (positive) <
        then_branch = g1 () => (float[n, 5] doubled) { doubled = Mul (scores, two) },
        else_branch = g2 () => (float[n, 5] same) { same = Identity (scores) }
    >
}"""
LOOP = """<ir_version: 8, opset_import: ["": 17]>
closing (float[n, 5] scores) => (float[n, 5] logits) {
    logits = Loop (three, , scores) <
        body = g (int64 i, bool go, float[n, 5] old) => (bool again, float[n, 5] new) {
            again = Identity (go)  part = Mul (scores, half_of)  new = Add (old, part)
        }
    >
}"""


def closing(text):
    """Subgraphs behind the head that read tensors of the graph around them."""

    def rewrite(model):
        made = copied(model)
        for node in made.graph.node:
            node.output[:] = ["scores" if name == "logits" else name for name in node.output]
        added = onnx.parser.parse_model(text).graph
        for node in added.node:
            node.name = f"closing/{node.op_type}"
        made.graph.node.extend(added.node)
        values = {"zero": F(0), "two": F(2), "half_of": F(0.5), "three": np.array(3, np.int64)}
        made.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in values.items()
            if re.search(rf"\b{name}\b", text)
        )
        return made

    return rewrite


def optimised(level, folder):
    """As ONNX Runtime saves it after its optimisations of a level."""

    def rewrite(model):
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(folder / "optimised.onnx")

    return rewrite
