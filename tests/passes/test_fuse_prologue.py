import numpy as np
import pytest

from qcompiler.passes.fuse_prologue import FusePrologue

from ..runtime_ops import reference
from .helpers import applied, check_golden, check_idempotent, check_unchanged, weight
from .quantized import (
    F32,
    INPUTS,
    check_near,
    check_same,
    defined,
    layer_constants,
    lowered,
    outputs_after,
    quantized_model,
    weight_codes,
)

WEIGHT = weight_codes(8, 3, count=2)
BIAS = np.array([1, 2, 3], F32)
GAMMA, BETA = np.linspace(0.5, 1.5, 8, dtype=F32), np.linspace(-1, 1, 8, dtype=F32)
NORM = "[norm1] n = LayerNormalization <axis = -1, epsilon = 0.001> (x, gamma, beta)"
INPUT = "float[batch, 5, 8] x"
LINEAR, GELU = "GroupLinear", "GroupLinearGelu"


def layer(op=LINEAR, source="n", result="y", name="fc1", mode="rows", normalize=1):
    more = ', approximate = "tanh"' if op == GELU else ""
    last = ", r" if op == "GroupLinearAdd" else ""
    return f"[{name}] {result} = {lowered(op, mode, normalize, 4, source, more, last)}"


def model(body, mode="rows", inputs=INPUT, outputs="float[batch, 5, 3] y", **extra):
    used = {"gamma": GAMMA, "beta": BETA, **layer_constants(mode, WEIGHT, BIAS)}
    return quantized_model(f"agraph ({inputs}) => ({outputs}) {{ {body} }}", **{**used, **extra})


SHOWN = {
    "w_scale": np.array([1, 2, 0.5], F32),
    "w_blocks": np.full((1, 3), 0x18, np.uint8),
    "gamma": np.arange(8, dtype=F32),
}


@pytest.mark.parametrize("axis", [-1, 2])
def test_golden(axis):
    """Case 1; the last axis has two names."""
    check_golden(
        FusePrologue,
        model(f"{NORM.replace('-1', str(axis))} {layer()}", **SHOWN),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.LayerNormGroupLinear(x, [0, 1, 2, 3, 4, 5, 6, 7], [-1, -0.7142857, -0.4285714, -0.1428571, 0.1428571, 0.4285714, 0.7142857, 1], w:int8[8, 3], [1, 2, 0.5], [[24, 24, 24]], groups:float32[2, 6], [1, 2, 3]; axis=-2, bits=4, epsilon=0.001, normalize=1, segments=0)  # fc1
        y = output %0
        """,  # noqa: E501
    )


def test_golden_blocks():
    """Case 1 of the other family."""
    check_golden(
        FusePrologue,
        model(f"{NORM} {layer(mode='blocks')}", "blocks", **SHOWN),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.LayerNormBlockLinear(x, [0, 1, 2, 3, 4, 5, 6, 7], [-1, -0.7142857, -0.4285714, -0.1428571, 0.1428571, 0.4285714, 0.7142857, 1], w:int8[8, 3], [1, 2, 0.5], [[24, 24, 24]], [1, 2, 3]; bits=4, block=4, clip=0.875, epsilon=0.001, rotate=2, slack=0.25)  # fc1
        y = output %0
        """,  # noqa: E501
    )


GROUPED = {"bits": 4, "axis": -1, "segments": 1, "normalize": 0}
IN_BLOCKS = {"bits": 4, "block": 4, "clip": 0.875, "slack": 0.25, "rotate": 2}


@pytest.mark.parametrize(
    ("mode", "op", "attributes", "tables"),
    [
        ("segments", "LayerNormGroupLinearGelu", GROUPED, ["groups"]),
        ("blocks", "LayerNormBlockLinearGelu", IN_BLOCKS, []),
    ],
)
def test_golden_gelu(mode, op, attributes, tables):
    """Case 2; an epsilon that is not written is ONNX's default."""
    default = NORM.replace(", epsilon = 0.001", "")
    graph, report = applied(FusePrologue, model(f"{default} {layer(GELU, mode=mode, normalize=0)}", mode))
    (node,) = graph.nodes
    assert (report.applied, node.op, node.name) == (1, op, "fc1")
    assert node.attrs == {**attributes, "approximate": "tanh", "epsilon": pytest.approx(1e-5)}
    names = ["x", "gamma", "beta", "w", "w_scale", "w_blocks", *tables, "b"]
    assert [tensor.name for tensor in node.inputs] == names


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
    "a layer in blocks with a residual": (
        model(f"{NORM} {layer('GroupLinearAdd', mode='blocks')}", "blocks", f"{INPUT}, float[batch, 5, 3] r"),
        r"alone \(\['BlockLinearAdd'\]\)",
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
    made = model(
        body, outputs="float[batch, 5, 8] y", **layer_constants("rows", weight_codes(8, 8, count=2), np.zeros(8, F32))
    )
    graph, report = applied(FusePrologue, made)
    assert report.applied == 2
    assert [(node.op, node.name) for node in graph.nodes] == [
        ("LayerNormGroupLinear", "fc1"),
        ("LayerNormGroupLinear", "fc2"),
    ]
    check_same(FusePrologue, made, 1e-6, x=weight(2, 5, 8))


@pytest.mark.parametrize("mode", ["rows", "blocks"])
@pytest.mark.parametrize("op", [LINEAR, GELU])
def test_idempotent(op, mode):
    check_idempotent(FusePrologue, model(f"{NORM} {layer(op, mode=mode)}", mode))


@pytest.mark.parametrize(("mode", "normalize"), INPUTS)
@pytest.mark.parametrize("op", [LINEAR, GELU])
def test_numerical_oracle(op, mode, normalize):
    """The fused operator against the definition, and against the two nodes that it replaces."""
    x = weight(3, 5, 8, seed=1)
    made = model(f"{NORM} {layer(op, mode=mode, normalize=normalize)}", mode)
    (y,) = outputs_after(FusePrologue, made, x=x)
    prepared = reference.layer_norm(x, GAMMA, BETA, 1e-3)
    expected, slack = defined(prepared, WEIGHT, BIAS, mode, normalize, 4)
    if op == GELU:
        expected, slack = reference.gelu(expected, "tanh"), 1.13 * slack  # the steepest slope of GELU
    check_near(y, expected, slack, 2e-6)  # the runtime's LayerNormalization and tanh
    check_same(FusePrologue, made, 1e-6, x=x)  # the body takes its sums in double
