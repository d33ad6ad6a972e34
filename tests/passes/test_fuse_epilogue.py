import numpy as np
import pytest

from qcompiler.passes.fuse_epilogue import FuseEpilogue

from ..runtime_ops import normalized, reference
from .helpers import applied, check_golden, check_idempotent, check_unchanged, weight
from .quantized import F32, LINEARS, check_near, check_same, outputs_after, quantized_model, weight_codes

WEIGHT = weight_codes(3, 3)
BIAS = np.array([1, 2, 3], F32)
SHAPE = "float[batch, 5, 3]"
ATTRIBUTES = "<bits = 4, axis = AXIS, segments = SEGMENTS, normalize = NORMALIZE>"
LAYER = f"[fc1] m = qcompiler.GroupLinear {ATTRIBUTES} (x, w, w_scale, groups, b)"
SECOND = LAYER.replace("fc1", "fc2").replace("m =", "m2 =").replace("(x,", "(n,")
BOTH = f"{SHAPE} x, {SHAPE} r"


def model(last, mode="rows", normalize=1, inputs=BOTH, outputs=f"{SHAPE} y", shapes=f"{SHAPE} m", **extra):
    table, axis, segments = LINEARS[mode]
    text = f"agraph ({inputs}) => ({outputs}) <{shapes}> {{ {LAYER} {last} }}"
    for name, value in {"AXIS": axis, "SEGMENTS": segments, "NORMALIZE": normalize}.items():
        text = text.replace(name, str(value))
    used = {"groups": table, "w_scale": WEIGHT.scale, "b": BIAS, "w": WEIGHT.codes, **extra}
    return quantized_model(text, **used)


GELU = 'y = Gelu <approximate = "none"> (m)'
TANH = 'y = Gelu <approximate = "tanh"> (m)'
ONE_INPUT = f"{SHAPE} x"
CASES = {
    "gelu": lambda **options: model(GELU, inputs=ONE_INPUT, **options),
    "tanh": lambda **options: model(TANH, inputs=ONE_INPUT, **options),
    "default gelu": lambda **options: model("y = Gelu (m)", inputs=ONE_INPUT, **options),
    "residual behind": lambda **options: model("y = Add (m, r)", **options),
    "residual in front": lambda **options: model("y = Add (r, m)", **options),
}


def feeds(case, x):
    return {"x": x} if "gelu" in case or case == "tanh" else {"x": x, "r": weight(*x.shape, seed=9)}


def test_golden():
    """Case 1."""
    check_golden(
        FuseEpilogue,
        model(TANH, inputs=ONE_INPUT, w_scale=np.array([1, 2, 0.5], F32)),
        """
        x = input [batch, 5, 3]
        %0 [batch, 5, 3] = qcompiler.GroupLinearGelu(x, w:int8[3, 3], [1, 2, 0.5], groups:float32[2, 6], [1, 2, 3]; approximate=tanh, axis=-2, bits=4, normalize=1, segments=0)  # fc1
        y = output %0
        """,  # noqa: E501
    )


@pytest.mark.parametrize("last", ["y = Add (m, r)", "y = Add (r, m)"])
def test_golden_residual(last):
    """Case 2, on either side."""
    check_golden(
        FuseEpilogue,
        model(last, w_scale=np.array([1, 2, 0.5], F32)),
        """
        x = input [batch, 5, 3]
        r = input [batch, 5, 3]
        %0 [batch, 5, 3] = qcompiler.GroupLinearAdd(x, w:int8[3, 3], [1, 2, 0.5], groups:float32[2, 6], [1, 2, 3], r; axis=-2, bits=4, normalize=1, segments=0)  # fc1
        y = output %0
        """,  # noqa: E501
    )


def test_golden_sum_of_two_layers():
    """The layer that is computed last adds the other one's result: that one keeps a node of its own."""
    two = model(
        f"n = Relu (r)  {SECOND}  y = Add (m, m2)",
        shapes=f"{SHAPE} m, {SHAPE} m2, {SHAPE} n",
        w_scale=np.array([1, 2, 0.5], F32),
    )
    attributes = "axis=-2, bits=4, normalize=1, segments=0"
    constants = "w:int8[3, 3], [1, 2, 0.5], groups:float32[2, 6], [1, 2, 3]"
    check_golden(
        FuseEpilogue,
        two,
        f"""
        x = input [batch, 5, 3]
        r = input [batch, 5, 3]
        %0 [batch, 5, 3] = qcompiler.GroupLinear(x, {constants}; {attributes})  # fc1
        %1 [batch, 5, 3] = Relu(r)  # Relu_1
        %2 [batch, 5, 3] = qcompiler.GroupLinearAdd(%1, {constants}, %0; {attributes})  # fc2
        y = output %2
        """,
    )
    check_same(FuseEpilogue, two, 1e-6, x=weight(2, 5, 3), r=weight(2, 5, 3, seed=1))


REFUSED = {
    "two readers": (model("e = Relu (m)  g = Gelu (m)  y = Add (e, g)", inputs=ONE_INPUT), r"several readers \(2\)"),
    "added to itself": (model("y = Add (m, m)", inputs=ONE_INPUT), r"several readers \(2\)"),
    "an output of the graph": (
        model("y = Gelu (m)", inputs=ONE_INPUT, outputs=f"{SHAPE} y, {SHAPE} m", shapes=f"{SHAPE} unused"),
        r"several readers \(1\)",
    ),
    "nothing behind it": (
        model("z = Relu (x)", inputs=ONE_INPUT, outputs=f"{SHAPE} z, {SHAPE} m", shapes=f"{SHAPE} unused"),
        r"several readers \(0\)",
    ),
    "broadcast over the batch": (
        model("y = Add (m, r)", inputs=f"{SHAPE} x, float[1, 5, 3] r"),
        r"the tensor added to it has another shape \(.*1, 5, 3.*\)",
    ),
    "broadcast over tokens": (
        model("t = ReduceMean <keepdims = 1> (x, one)  y = Add (m, t)", inputs=ONE_INPUT, one=np.array([1])),
        "has another shape",
    ),
    "a constant": (model("y = Add (m, c)", inputs=ONE_INPUT, c=weight(5, 3)), "has another shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    """Cases 3 and 4."""
    check_unchanged(FuseEpilogue, REFUSED[case][0], reason=f"^fc1: .*{REFUSED[case][1]}")


def test_not_applicable_to_other_readers():
    """Neither fused nor worth a refusal."""
    check_unchanged(FuseEpilogue, model("y = Relu (m)", inputs=ONE_INPUT))
    assert applied(FuseEpilogue, model("y = Relu (m)", inputs=ONE_INPUT))[1].refusals == ()


@pytest.mark.parametrize("case", CASES)
def test_idempotent(case):
    check_idempotent(FuseEpilogue, CASES[case]())


@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("mode", LINEARS)
@pytest.mark.parametrize("case", CASES)
def test_numerical_oracle(case, mode, normalize):
    """The fused operator against the definition, and against the two nodes that it replaces."""
    table, axis, segments = LINEARS[mode]
    x = weight(3, 5, 3, seed=1)
    given = feeds(case, x)
    made = CASES[case](mode=mode, normalize=normalize)
    (y,) = outputs_after(FuseEpilogue, made, **given)
    expected, slack = normalized.linear(
        x, WEIGHT.codes, WEIGHT.scale, table, BIAS, bits=4, axis=axis, segments=segments, normalize=normalize
    )
    if "r" in given:
        expected = expected + given["r"]
    else:
        expected = reference.gelu(expected, "tanh" if case == "tanh" else "none")
        slack = 1.13 * slack  # the steepest slope of GELU
    check_near(y, expected, slack, 2e-6)  # the runtime's erf and tanh
    check_same(FuseEpilogue, made, 1e-6, **given)  # the body spells GELU as the kernels do
