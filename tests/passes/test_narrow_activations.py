import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from qcompiler.driver.annotate import finish
from qcompiler.errors import VerificationError
from qcompiler.ir.functions import function
from qcompiler.ir.generic_bodies import activation_inputs
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.ir.saving import to_model
from qcompiler.ir.verifier import FUSED_OPS, OPSET, verify
from qcompiler.passes.narrow_activations import GENERIC, NarrowActivations

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, run, weight
from .quantized import F32, layer_constants, lowered, quantized_model, weight_codes, with_bodies

WEIGHT = weight_codes(8, 3)
LAYER = layer_constants("rows", WEIGHT, np.array([1, 2, 3], F32)) | {"w_scale": np.array([1, 2, 0.5], F32)}
HALF, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def model():
    """A layer between standard operators: its result is an output, and is read by what stays in float32 as well."""
    text = f"""agraph (float[batch, 5, 8] x) => (float[batch, 5, 3] y, float[batch, 5, 3] z) {{
        r = Relu (x)  [fc1] m = {lowered("GroupLinear", "rows", 0, 0, x="r")}
        a = Add (m, mask)  p = Softmax <axis = -1> (a)  y = MatMul (p, v)  z = Exp (y) }}"""
    mask = np.array([[[0, -1e9, -np.inf]]], F32)
    return quantized_model(text, mask=mask, v=np.diag(np.array([1, 2, 0.5], F32))[:2].repeat([2, 1], 0), **LAYER)


def halved(text, **constants):
    """The graph after the pass, and its nodes by the name of their first output."""
    graph, report = applied(NarrowActivations, model_of(text, **constants))
    verify(graph, "narrowed")
    return graph, {node.outputs[0].name: node for node in graph.nodes}, report


def kinds(nodes):
    """Name -> element type of the results."""
    return {name: np.dtype(node.outputs[0].dtype).name for name, node in nodes.items()}


def test_golden():
    """Cases 1, 2, 3, 5, 8 and 10."""
    check_golden(
        NarrowActivations,
        model(),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 8] = Cast(x; to=10)  # x/float16
        %1 [batch, 5, 8] = Relu(%0)  # Relu_0
        %2 = qcompiler.GroupLinear(%1, w:int8[8, 3], [1, 2, 0.5], [[24, 24, 24]], groups:float32[2, 6], [1, 2, 3]; axis=-2, bits=4, normalize=0, segments=0)  # fc1
        %3 = Add(%2, [[[0, -65504, -inf]]])  # Add_2
        %4 = Softmax(%3; axis=-1)  # Softmax_3
        %5 [batch, 5, 3] = MatMul(%4, v/float16:float16[3, 3])  # MatMul_4
        %6 [batch, 5, 3] = Cast(%5; to=1)  # y/float32
        %7 [batch, 5, 3] = Exp(%6)  # Exp_5
        y = output %6
        z = output %7
        """,  # noqa: E501
    )


NOT_APPLICABLE = {
    "case 7: double": (
        "agraph (double[batch, 4] x) => (double[batch, 4] y) { y = MatMul (x, w) }",
        {"w": np.eye(4)},
    ),
    "case 8: operators that are not known": (
        "agraph (float[batch, 4] x) => (float[batch, 4] y) { a = Exp (x)  y = CumSum (a, axis) }",
        {"axis": np.array(1)},
    ),
    "case 10: nothing but the end": (
        "agraph (float[batch, 4] x) => (float[batch, 4] y) { a = Relu (x)  y = Softmax <axis = -1> (a) }",
        {},
    ),
    "case 11: the same for all images": (
        "agraph (float[batch, 4] x) => (float[batch, 4] y) { s = Shape (x)  c = Expand (k, s)  y = MatMul (c, w) }",
        {"k": np.ones(1, F32), "w": np.eye(4, dtype=F32)},
    ),
}


@pytest.mark.parametrize("case", NOT_APPLICABLE)
def test_not_applicable(case):
    text, constants = NOT_APPLICABLE[case]
    check_unchanged(NarrowActivations, model_of(text, **constants))


@pytest.mark.parametrize(
    "text",
    [
        "y = MatMul (x, w)",
        "a = MatMul (x, w)  e = Exp (a)  y = MatMul (e, w)",
        "a = MatMul (x, w)  d = Div (a, tiny)  y = MatMul (d, w)",
        "a = MatMul (x, w)  s = Shape (a)  r = Relu (a)  b = Reshape (r, s)  y = MatMul (b, w)",
    ],
)
def test_idempotent(text):
    check_idempotent(NarrowActivations, model())
    text = f"agraph (float[batch, 4] x) => (float[batch, 4] y) {{ {text} }}"
    check_idempotent(NarrowActivations, model_of(text, w=np.eye(4, dtype=F32), tiny=np.array(1e-9, F32)))


def test_numerical_oracle():
    """Against NumPy's float16, and near float32: ONNX Runtime's CPU leaves roundings between its own operators out."""
    text = """agraph (float[batch, 5, 8] x) => (float[batch, 5, 6] y) {
        a = Add (x, c)  r = Relu (a)  s = Mul (r, r)  y = MatMul (s, w) }"""
    c, w, x = weight(8, seed=1), weight(8, 6, seed=2), weight(3, 5, 8, seed=3)
    before = model_of(text, c=c, w=w)
    graph, _ = applied(NarrowActivations, before)
    (found,) = ReferenceEvaluator(to_model(graph)).run(None, {"x": x})
    r = np.maximum(x.astype(np.float16) + c.astype(np.float16), np.float16(0))
    expected = ((r * r).astype(F32) @ w.astype(np.float16).astype(F32)).astype(np.float16).astype(F32)
    assert found.dtype == F32
    # Sums in another order, or of another width, round to a neighbour now and then.
    np.testing.assert_allclose(found, expected, rtol=2**-8, atol=2**-8)
    assert np.mean(found == expected) > 0.5
    check_equal(NarrowActivations, before, 3e-3, x=x)


def test_fused_operators_round_their_result_once():
    before = model()
    graph, _ = applied(NarrowActivations, before)
    x = weight(2, 5, 8, seed=4).astype(np.float16).astype(F32)  # what a Cast does not change
    tensor = next(node.outputs[0].name for node in graph.nodes if node.op == "GroupLinear")
    wide = with_bodies(before)
    wide.graph.output.append(onnx.helper.make_tensor_value_info("m", FLOAT, None))
    narrow = finish(graph)
    onnx.checker.check_model(narrow, full_check=True)
    narrow.graph.output.append(onnx.helper.make_tensor_value_info(tensor, HALF, None))
    expected, found = run(wide, {"x": x})[-1], run(narrow, {"x": x})[-1]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected.astype(np.float16))


# -- Operators


@pytest.mark.parametrize("op", sorted(GENERIC))
def test_operators_of_the_table(op):
    """ONNX defines each for float16, and its first result is of the type of what it reads."""
    schema = onnx.defs.get_schema(op, OPSET, "")
    (constraint,) = (item for item in schema.type_constraints if item.type_param_str == "T")
    assert "tensor(float16)" in constraint.allowed_type_strs
    assert schema.inputs[0].type_str == "T" or op == "Where"
    assert schema.outputs[0].type_str == "T"


def test_every_fused_operator_is_known():
    names = {op: [function(op).input[index] for index in activation_inputs(function(op).input)] for op in FUSED_OPS}
    for op, found in names.items():
        more = ["residual"] if op.endswith("Add") else ["bias"] if op.endswith("Bias") else []
        assert found == [*(["QKV"] if "Attention" in op else ["X"]), *more]


def test_resize_stays_in_float32():
    """Case 8: casts around it, and constants of float32 as its definition wants them."""
    text = """agraph (float[batch, 2, 4, 4] x) => (float[batch, 2, 8, 8] y) {
        a = Conv (x, w)  b = Resize <mode = "linear"> (a, , scales)  y = Conv (b, w) }"""
    graph, nodes, _ = halved(text, w=weight(2, 2, 1, 1), scales=np.array([1, 1, 2, 2], F32))
    assert [node.op for node in graph.nodes] == ["Cast", "Conv", "Cast", "Resize", "Cast", "Conv", "Cast"]
    assert kinds(nodes)["a"] == "float16" and kinds(nodes)["b"] == "float32"
    assert nodes["b"].inputs[2].dtype == F32


def test_subgraphs_stay_in_float32():
    """Case 8: what a branch reads of the graph around it is cast in front of it."""
    text = """agraph (float[batch, 4] x, bool flag) => (float[batch, 4] y) {
        a = MatMul (x, w)
        b = If (flag) <then_branch = one () => (float[batch, 4] t) { t = Mul (a, a) },
                       else_branch = two () => (float[batch, 4] e) { e = Identity (a) }>
        y = MatMul (b, w) }"""
    before = model_of(text, w=weight(4, 4))
    graph, _ = applied(NarrowActivations, before)
    assert [node.op for node in graph.nodes] == ["Cast", "MatMul", "Cast", "If", "Cast", "MatMul", "Cast"]
    for flag in (True, False):
        check_equal(NarrowActivations, before, 4e-3, x=weight(2, 4, seed=1), flag=np.array(flag))


def test_readable_quantizers_stay_in_float32():
    text = """agraph (float[batch, 5, 8] x) => (float[batch, 5, 4] y) {
        n, norm = qcompiler.RowNorm <normalize = 1> (x)  y = MatMul (n, w) }"""
    graph, _ = applied(NarrowActivations, quantized_model(text, w=weight(8, 4)))
    assert [node.op for node in graph.nodes] == ["RowNorm", "Cast", "MatMul", "Cast"]


def test_the_end_stays_in_float32():
    """Case 10: one Cast in front of what computes the prediction, and none behind it."""
    text = """agraph (float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) {
        a = MatMul (x, w)  r = Relu (a)  s = Softmax <axis = -1> (r)  y = Mul (s, s)  z = Sigmoid (a) }"""
    graph, nodes, _ = halved(text, w=weight(4, 4))
    assert [node.op for node in graph.nodes].count("Cast") == 2
    assert {name: kind for name, kind in kinds(nodes).items() if kind == "float16"}.keys() == {"x/float16/output", "a"}


def test_shapes_are_read_of_any_type():
    """Case 6."""
    text = """agraph (float[batch, 4] x) => (int64[2] s, bool[batch, 4] b, int64 n) {
        a = MatMul (x, w)  s = Shape (a)  n = Size (a)  b = Cast <to = 9> (a) }"""
    graph, nodes, _ = halved(text, w=weight(4, 4))
    assert [node.op for node in graph.nodes].count("Cast") == 2
    assert all(nodes[name].inputs[0].name == "a" for name in "sbn")


# -- Constants


def constants_of(graph):
    return {tensor.name: tensor for tensor in graph.tensors().values() if hasattr(tensor, "values")}


def test_values_beyond_the_range():
    """Case 5: masks end at the range; what is infinite or no number is that in float16, too."""
    values = np.array([-1e9, np.finfo(F32).min, 65504, 65519, 1e-9, 0.1, np.inf, -np.inf, np.nan], F32)
    text = "agraph (float[batch, 9] x) => (float[batch, 9] y) { a = Add (x, c)  y = MatMul (a, w) }"
    graph, _, _ = halved(text, c=values, w=np.eye(9, dtype=F32))
    found = constants_of(graph)["c/float16"].values
    assert found.dtype == np.float16
    expected = [-65504, -65504, 65504, 65504, 0, np.float16(0.1), np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(found, np.array(expected, np.float16))


def test_a_constant_of_both():
    """Case 5: it is there twice."""
    text = (
        "agraph (float[batch, 4] x) => (float[batch, 4] y) { a = MatMul (x, w)  e = CumSum (w, k)  y = MatMul (a, e) }"
    )
    graph, nodes, _ = halved(text, w=weight(4, 4), k=np.array(0))
    found = constants_of(graph)
    assert found["w"].values.dtype == F32 and found["w/float16"].values.dtype == np.float16
    assert nodes["e"].inputs[0] is found["w"]


def test_constants_of_fused_operators_keep_their_types():
    graph, _ = applied(NarrowActivations, model())
    layer = next(node for node in graph.nodes if node.op == "GroupLinear")
    assert [tensor.dtype for tensor in layer.inputs] == [np.float16, np.int8, F32, np.uint8, F32, F32]


@pytest.mark.parametrize(
    ("text", "value", "stays"),
    [
        ("d = Clip (a, c)", 1e-12, True),
        ("d = Add (a, c)", 1e-12, True),
        ("d = Add (a, c)", 1e-6, False),
        ("d = Add (a, c)", 0, False),
        ("d = Div (a, c)", 1e6, True),
        ("d = Mul (a, c)", -1e9, False),  # the mask of a mask
    ],
)
def test_scalars(text, value, stays):
    """Case 9: an epsilon that would vanish, a divisor that would shrink."""
    text = f"agraph (float[batch, 4] x) => (float[batch, 4] y) {{ a = MatMul (x, w)  {text}  y = MatMul (d, w) }}"
    _, nodes, report = halved(text, w=np.eye(4, dtype=F32), c=np.array(value, F32))
    assert kinds(nodes)["d"] == ("float32" if stays else "float16")
    assert [str(refusal).endswith(f"({float(F32(value))})") for refusal in report.refusals] == [True] * stays


# -- Casts


@pytest.mark.parametrize(("kind", "dtype"), [("uint8", np.uint8), ("bool", np.bool_), ("double", np.float64)])
def test_casts_that_meet(kind, dtype):
    """Case 4: from the other type to float16 at once."""
    text = f"agraph ({kind}[batch, 4] x) => (float[batch, 4] y) {{ f = Cast <to = 1> (x)  y = MatMul (f, w) }}"
    before = model_of(text, w=weight(4, 4))
    graph, _ = applied(NarrowActivations, before)
    first, *_ = graph.nodes
    assert (first.op, first.attrs["to"], first.inputs[0].name) == ("Cast", HALF, "x")
    assert [node.op for node in graph.nodes] == ["Cast", "MatMul", "Cast"]
    check_equal(NarrowActivations, before, 2e-3, x=np.array([[0, 1, 1, 0], [1, 0, 1, 1]], dtype))


def test_one_cast_for_all_readers():
    text = """agraph (float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) {
        a = MatMul (x, w)  b = MatMul (x, w)  c = MatMul (a, b)
        e = Exp (c)  f = Log (c)  g = Add (e, f)  y = MatMul (g, w)  z = MatMul (e, w) }"""
    graph, _, _ = halved(text, w=weight(4, 4))
    casts = [node for node in graph.nodes if node.op == "Cast"]
    assert len({(node.inputs[0].name, node.attrs["to"]) for node in casts}) == len(casts) == 6


def test_an_output_in_the_middle():
    """Case 3: it keeps its name and type, and others go on in float16."""
    text = """agraph (float[batch, 4] x) => (float[batch, 4] h, float[batch, 4] y) {
        h = MatMul (x, w)  r = Relu (h)  y = MatMul (r, w) }"""
    before = model_of(text, w=weight(4, 4))
    graph, _ = applied(NarrowActivations, before)
    assert [(tensor.name, tensor.dtype) for tensor in graph.outputs] == [("h", F32), ("y", F32)]
    relu = next(node for node in graph.nodes if node.op == "Relu")
    assert relu.inputs[0].dtype == np.float16
    check_equal(NarrowActivations, before, 4e-3, x=weight(2, 4, seed=1))


def test_types_that_do_not_meet_are_found():
    graph = to_graph(model_of("agraph (float[2] x, float16[2] h) => (float[2] y) { y = Add (x, h) }"))
    with pytest.raises(VerificationError, match="several types"):
        NarrowActivations().ensures(graph)


def test_same_bytes_twice():
    def made():
        graph = to_graph(model())
        run_passes(graph, [NarrowActivations()])
        return to_model(graph).SerializeToString(deterministic=True)

    assert made() == made()
