import numpy as np
import pytest

from qcompiler.passes.fuse_prologue import FusePrologue

from ..runtime_ops import normalized, reference
from .helpers import applied, check_golden, check_idempotent, check_unchanged, weight
from .quantized import F32, LINEARS, check_near, check_same, outputs_after, quantized_model, weight_codes

WEIGHT = weight_codes(8, 3)
BIAS = np.array([1, 2, 3], F32)
GAMMA, BETA = np.linspace(0.5, 1.5, 8, dtype=F32), np.linspace(-1, 1, 8, dtype=F32)
NORM = "[norm1] n = LayerNormalization <axis = -1, epsilon = 0.001> (x, gamma, beta)"
INPUT = "float[batch, 5, 8] x"
LINEAR, GELU = "GroupLinear", "GroupLinearGelu"


def layer(op=LINEAR, source="n", result="y", name="fc1"):
    approximate = ', approximate = "tanh"' if op == GELU else ""
    attributes = f"<bits = 4, axis = AXIS, segments = SEGMENTS, normalize = NORMALIZE{approximate}>"
    residual = ", r" if op == "GroupLinearAdd" else ""
    return f"[{name}] {result} = qcompiler.{op} {attributes} ({source}, w, w_scale, groups, b{residual})"


def model(body, mode="rows", normalize=1, inputs=INPUT, outputs="float[batch, 5, 3] y", **extra):
    table, axis, segments = LINEARS[mode]
    text = f"agraph ({inputs}) => ({outputs}) {{ {body} }}"
    for name, value in {"AXIS": axis, "SEGMENTS": segments, "NORMALIZE": normalize}.items():
        text = text.replace(name, str(value))
    used = {"gamma": GAMMA, "beta": BETA, "groups": table, "w": WEIGHT.codes, "w_scale": WEIGHT.scale, "b": BIAS}
    return quantized_model(text, **{**used, **extra})


@pytest.mark.parametrize("axis", [-1, 2])
def test_golden(axis):
    """Case 1; the last axis has two names."""
    shown = {"w_scale": np.array([1, 2, 0.5], F32), "gamma": np.arange(8, dtype=F32)}
    check_golden(
        FusePrologue,
        model(f"{NORM.replace('-1', str(axis))} {layer()}", **shown),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.LayerNormGroupLinear(x, [0, 1, 2, 3, 4, 5, 6, 7], [-1, -0.7142857, -0.4285714, -0.1428571, 0.1428571, 0.4285714, 0.7142857, 1], w:int8[8, 3], [1, 2, 0.5], groups:float32[2, 6], [1, 2, 3]; axis=-2, bits=4, epsilon=0.001, normalize=1, segments=0)  # fc1
        y = output %0
        """,  # noqa: E501
    )


def test_golden_gelu():
    """Case 2; an epsilon that is not written is ONNX's default."""
    default = NORM.replace(", epsilon = 0.001", "")
    graph, report = applied(FusePrologue, model(f"{default} {layer(GELU)}", "segments", 0))
    (node,) = graph.nodes
    assert (report.applied, node.op, node.name) == (1, "LayerNormGroupLinearGelu", "fc1")
    assert node.attrs == {
        "bits": 4,
        "axis": -1,
        "segments": 1,
        "normalize": 0,
        "approximate": "tanh",
        "epsilon": pytest.approx(1e-5),
    }
    assert [tensor.name for tensor in node.inputs] == ["x", "gamma", "beta", "w", "w_scale", "groups", "b"]


TWO = "float[batch, 5, 3] y, float[batch, 5, 3] z"
REFUSED = {
    "two layers": (
        model(f"{NORM} {layer()} {layer(result='z', name='fc2')}", outputs=TWO),
        r"not read by one lowered linear layer alone \(\['GroupLinear', 'GroupLinear'\]\)",
    ),
    "another reader": (
        model(f"{NORM} {layer()} z = Relu (n)", outputs="float[batch, 5, 3] y, float[batch, 5, 8] z"),
        r"alone \(\['GroupLinear', 'Relu'\]\)",
    ),
    "an output of the graph": (
        model(f"{NORM} {layer()}", outputs="float[batch, 5, 3] y, float[batch, 5, 8] n"),
        "not read by one lowered linear layer alone",
    ),
    "a float layer": (
        model(f"{NORM} y = MatMul (n, v)", v=weight(8, 3)),
        r"alone \(\['MatMul'\]\)",
    ),
    "a layer with a residual": (
        model(f"{NORM} {layer('GroupLinearAdd')}", inputs=f"{INPUT}, float[batch, 5, 3] r"),
        r"alone \(\['GroupLinearAdd'\]\)",
    ),
    "no bias": (model(f"{NORM.replace(', beta', '')} {layer()}"), "no constant scale and bias over the last axis"),
    "a computed bias": (
        model(f"t = Relu (s)  {NORM.replace('beta', 't')} {layer()}", inputs=f"{INPUT}, float[8] s"),
        "no constant scale and bias over the last axis",
    ),
    "a computed scale": (
        model(f"t = Relu (s)  {NORM.replace('gamma', 't')} {layer()}", inputs=f"{INPUT}, float[8] s"),
        "no constant scale and bias over the last axis",
    ),
    "two axes": (
        model(
            f"{NORM.replace('axis = -1', 'axis = -2')} {layer()}",
            gamma=np.ones((5, 8), F32),
            beta=np.zeros((5, 8), F32),
        ),
        "no constant scale and bias over the last axis",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    """Case 3."""
    check_unchanged(FusePrologue, REFUSED[case][0], reason=f"^norm1: .*{REFUSED[case][1]}")


def test_layers_on_both_sides():
    """Each LayerNormalization goes into its own layer."""
    second = NORM.replace("norm1", "norm2").replace("n =", "n2 =").replace("(x,", "(m,")
    body = f"{NORM} {layer(result='m')} {second} {layer(source='n2', name='fc2')}"
    square = {"w": weight_codes(8, 8).codes, "w_scale": weight_codes(8, 8).scale, "b": np.zeros(8, F32)}
    made = model(body, outputs="float[batch, 5, 8] y", **square)
    graph, report = applied(FusePrologue, made)
    assert report.applied == 2
    assert [(node.op, node.name) for node in graph.nodes] == [
        ("LayerNormGroupLinear", "fc1"),
        ("LayerNormGroupLinear", "fc2"),
    ]
    check_same(FusePrologue, made, 1e-6, x=weight(2, 5, 8))


@pytest.mark.parametrize("op", [LINEAR, GELU])
def test_idempotent(op):
    check_idempotent(FusePrologue, model(f"{NORM} {layer(op)}"))


@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("mode", LINEARS)
@pytest.mark.parametrize("op", [LINEAR, GELU])
def test_numerical_oracle(op, mode, normalize):
    """The fused operator against the definition, and against the two nodes that it replaces."""
    table, axis, segments = LINEARS[mode]
    x = weight(3, 5, 8, seed=1)
    made = model(f"{NORM} {layer(op)}", mode, normalize)
    (y,) = outputs_after(FusePrologue, made, x=x)
    prepared = reference.layer_norm(x, GAMMA, BETA, 1e-3)
    divided = normalized.divide_rows(prepared)[0] if normalize else prepared
    assert not normalized.is_ambiguous(divided, table, axis)
    expected, slack = normalized.linear(
        prepared, WEIGHT.codes, WEIGHT.scale, table, BIAS, bits=4, axis=axis, segments=segments, normalize=normalize
    )
    if op == GELU:
        expected, slack = reference.gelu(expected, "tanh"), 1.13 * slack  # the steepest slope of GELU
    check_near(y, expected, slack, 2e-6)  # the runtime's LayerNormalization and tanh
    check_same(FusePrologue, made, 1e-6, x=x)  # the body takes its sums in double
