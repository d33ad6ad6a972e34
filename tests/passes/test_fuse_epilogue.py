import numpy as np
import pytest

from qcompiler.passes.fuse_epilogue import FuseEpilogue

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

WEIGHT = weight_codes(3, 3, count=3)
BIAS = np.array([1, 2, 3], F32)
SHAPE = "float[batch, 5, 3]"
BOTH = f"{SHAPE} x, {SHAPE} r"
INNER = "w:int8[3, 3], [1, 2, 0.5], w_blocks:uint8[3, 3]"  # inputs as they are printed
BLOCKS = "bits=4, block=3, clip=0.875, rotate=1, slack=0.25"


def second(mode):
    """Another layer behind the same constants, of n."""
    return f"[fc2] m2 = {lowered('GroupLinear', mode, 1, 3, 'n')}"


def model(last, mode="rows", normalize=1, inputs=BOTH, outputs=f"{SHAPE} y", shapes=f"{SHAPE} m", **extra):
    layer = f"[fc1] m = {lowered('GroupLinear', mode, normalize, 3)}"
    text = f"agraph ({inputs}) => ({outputs}) <{shapes}> {{ {layer} {last} }}"
    return quantized_model(text, **{**layer_constants(mode, WEIGHT, BIAS), **extra})


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
        %0 [batch, 5, 3] = qcompiler.GroupLinearGelu(x, w:int8[3, 3], [1, 2, 0.5], w_blocks:uint8[3, 3], groups:float32[2, 6], [1, 2, 3]; approximate=tanh, axis=-2, bits=4, normalize=1, segments=0)  # fc1
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
        %0 [batch, 5, 3] = qcompiler.GroupLinearAdd(x, w:int8[3, 3], [1, 2, 0.5], w_blocks:uint8[3, 3], groups:float32[2, 6], [1, 2, 3], r; axis=-2, bits=4, normalize=1, segments=0)  # fc1
        y = output %0
        """,  # noqa: E501
    )


@pytest.mark.parametrize(
    ("case", "op", "more", "attributes"),
    [
        ("tanh", "BlockLinearGelu", "", f"approximate=tanh, {BLOCKS}"),
        ("residual in front", "BlockLinearAdd", ", r", BLOCKS),
    ],
)
def test_golden_blocks(case, op, more, attributes):
    """Both cases of the other family."""
    lines = [
        "x = input [batch, 5, 3]",
        *(["r = input [batch, 5, 3]"] if more else []),
        f"%0 [batch, 5, 3] = qcompiler.{op}(x, {INNER}, [1, 2, 3]{more}; {attributes})  # fc1",
        "y = output %0",
    ]
    check_golden(FuseEpilogue, CASES[case](mode="blocks", w_scale=np.array([1, 2, 0.5], F32)), "\n".join(lines))


@pytest.mark.parametrize(
    ("mode", "family", "tables", "attributes"),
    [
        ("rows", "GroupLinear", ", groups:float32[2, 6]", "axis=-2, bits=4, normalize=1, segments=0"),
        ("blocks", "BlockLinear", "", BLOCKS),
    ],
)
def test_golden_sum_of_two_layers(mode, family, tables, attributes):
    """The layer that is computed last adds the other one's result: that one keeps a node of its own."""
    two = model(
        f"n = Relu (r)  {second(mode)}  y = Add (m, m2)",
        mode,
        shapes=f"{SHAPE} m, {SHAPE} m2, {SHAPE} n",
        w_scale=np.array([1, 2, 0.5], F32),
    )
    check_golden(
        FuseEpilogue,
        two,
        f"""
        x = input [batch, 5, 3]
        r = input [batch, 5, 3]
        %0 [batch, 5, 3] = qcompiler.{family}(x, {INNER}{tables}, [1, 2, 3]; {attributes})  # fc1
        %1 [batch, 5, 3] = Relu(r)  # Relu_1
        %2 [batch, 5, 3] = qcompiler.{family}Add(%1, {INNER}{tables}, [1, 2, 3], %0; {attributes})  # fc2
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


def test_not_applicable_to_blocks():
    """The other family is refused for the same reasons."""
    made = model("y = Add (m, r)", "blocks", inputs=f"{SHAPE} x, float[1, 5, 3] r")
    check_unchanged(FuseEpilogue, made, reason="^fc1: the tensor added to it has another shape")


def test_not_applicable_to_other_readers():
    """Neither fused nor worth a refusal."""
    check_unchanged(FuseEpilogue, model("y = Relu (m)", inputs=ONE_INPUT))
    assert applied(FuseEpilogue, model("y = Relu (m)", inputs=ONE_INPUT))[1].refusals == ()


@pytest.mark.parametrize("mode", ["rows", "blocks"])
@pytest.mark.parametrize("case", CASES)
def test_idempotent(case, mode):
    check_idempotent(FuseEpilogue, CASES[case](mode=mode))


@pytest.mark.parametrize(("mode", "normalize"), INPUTS)
@pytest.mark.parametrize("case", CASES)
def test_numerical_oracle(case, mode, normalize):
    """The fused operator against the definition, and against the two nodes that it replaces."""
    x = weight(3, 5, 3, seed=1)
    given = feeds(case, x)
    made = CASES[case](mode=mode, normalize=normalize)
    (y,) = outputs_after(FuseEpilogue, made, **given)
    expected, slack = defined(x, WEIGHT, BIAS, mode, normalize, 3)
    if "r" in given:
        expected = expected + given["r"]
    else:
        expected = reference.gelu(expected, "tanh" if case == "tanh" else "none")
        slack = 1.13 * slack  # the steepest slope of GELU
    check_near(y, expected, slack, 2e-6)  # the runtime's erf and tanh
    check_same(FuseEpilogue, made, 1e-6, **given)  # the body spells GELU as the kernels do
