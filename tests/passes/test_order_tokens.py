import numpy as np
import onnx
import pytest

from qcompiler.passes.order_tokens import OrderTokens

from .helpers import applied, check_golden, check_idempotent, check_unchanged, weight
from .quantized import F32, check_same, layer_constants, lowered, quantized_model, weight_codes

# An image of 4 x 4 tokens, and its windows of 2 x 2.
IMAGE, WINDOWS, TOKENS = "float[batch, 4, 4, 8]", "float[N, 4, 8]", "float[batch, 16, 8]"
WEIGHT = weight_codes(8, 8)
NORM = "[norm1] n = LayerNormalization <axis = -1> (x, gamma, beta)"


def cut(source, result="t"):
    return f"""{result}0 = Reshape (SOURCE, split)  {result}1 = Transpose <perm = [0, 1, 3, 2, 4, 5]> ({result}0)
               {result} = Reshape ({result}1, windows)""".replace("SOURCE", source)


def joined(source, result):
    return f"""{result}0 = Reshape (SOURCE, windows_split)
               {result}1 = Transpose <perm = [0, 1, 3, 2, 4, 5]> ({result}0)
               {result} = Reshape ({result}1, image)""".replace("SOURCE", source)


def shift(source, result):
    return f"""{result}0 = Slice (SOURCE, one, end, rows)  {result}1 = Slice (SOURCE, zero, one, rows)
               {result}2 = Concat <axis = 1> ({result}0, {result}1)  {result}3 = Slice ({result}2, one, end, columns)
               {result}4 = Slice ({result}2, zero, one, columns)  {result} = Concat <axis = 2> ({result}3, {result}4)
            """.replace("SOURCE", source)


def layer(source, result, mode="rows", name="fc1"):
    return f"[{name}] {result} = {lowered('GroupLinear', mode, 1, 4, source)}"


HALVES = "h0, h1 = Split <axis = 2, num_outputs = 2> (n)  c = Concat <axis = 2> (h1, h0)  t = Reshape (c, tokens)"
# What moves tokens in front of a layer of t, and the layer's result.
INTO = {
    "windows": (NORM + cut("n"), WINDOWS),
    "shifted windows": (NORM + shift("n", "s") + cut("s"), WINDOWS),
    "no normalization": (shift("x", "s") + cut("s"), WINDOWS),
    "normalization with another reader": (f"{NORM} {shift('n', 's')} {cut('s')} [relu] z = Relu (n)", WINDOWS),
    "halves": (f"{NORM} {HALVES}", TOKENS),
}
# From the result m of a layer to the other side of an addition.
BEHIND = {"windows": joined("m", "p"), "shifted windows": joined("m", "q") + shift("q", "p")}
INDEX = {
    "split": [0, 2, 2, 2, 2, 8],
    "windows": [-1, 4, 8],
    "windows_split": [-1, 2, 2, 2, 2, 8],
    "image": [-1, 4, 4, 8],
    "tokens": [0, 16, 8],
    "zero": [0],
    "one": [1],
    "end": [2**62],
    "rows": [1],
    "columns": [2],
}


def made(body, inputs, outputs, mode="rows", **extra):
    constants = {name: np.array(values, np.int64) for name, values in INDEX.items()}
    norm = {"gamma": np.linspace(0.5, 1.5, 8, dtype=F32), "beta": np.linspace(-1, 1, 8, dtype=F32)}
    used = {**constants, **norm, **layer_constants(mode, WEIGHT, weight(8, seed=1)), **extra}
    return quantized_model(f"agraph ({inputs}) => ({outputs}) {{ {body} }}", **used)


def into(case="windows", mode="rows", **extra):
    """Tokens of an image, in another order, into a layer."""
    body, shape = INTO[case]
    outputs = f"{shape} y" + (f", {IMAGE} z" if "z = " in body else "")
    return made(f"{body} {layer('t', 'y', mode)}", f"{IMAGE} x", outputs, mode, **extra)


def added(case="windows", sides="r, p", last="", outputs=f"{IMAGE} y", mode="rows"):
    """The result of a layer of windows, back in the order of the image, and added to something."""
    body = f"{cut('x')} {layer('t', 'm', mode, 'proj')} {BEHIND[case]} [add] y = Add ({sides}) {last}"
    model = made(body, f"{IMAGE} x, {IMAGE} r", outputs, mode)
    (result,) = [item for item in model.graph.value_info if item.name == "m"]
    result.CopyFrom(onnx.helper.make_tensor_value_info("m", onnx.TensorProto.FLOAT, ["4*batch", 4, 8]))
    return model


CASES = {
    **{f"into {case}": (lambda case=case, **options: into(case, **options)) for case in INTO},
    **{f"added {case}": (lambda case=case, **options: added(case, **options)) for case in BEHIND},
    "residual behind": lambda **options: added(sides="p, r", **options),
    "flat reader": lambda **options: added(last="z = Reshape (y, tokens)", outputs=f"{TOKENS} z", **options),
}


def feeds(case):
    x = weight(2, 4, 4, 8, seed=3)
    return {"x": x} if case.startswith("into") else {"x": x, "r": weight(2, 4, 4, 8, seed=4)}


def ops(model):
    return [node.op for node in applied(OrderTokens, model)[0].nodes]


def test_golden():
    """Case 1."""
    constants = {"w_scale": np.ones(8, F32), "gamma": np.ones(8, F32), "beta": np.zeros(8, F32), "b": np.zeros(8, F32)}
    check_golden(
        OrderTokens,
        into("windows", w_blocks=np.full((1, 8), 0x18, np.uint8), **constants),
        """
        x = input [batch, 4, 4, 8]
        %0 [batch, 16, 8] = Reshape(x, [0, 16, 8])  # fc1/Reshape
        %1 [batch, 16, 8] = Gather(%0, fc1/order:int64[16]; axis=1)  # fc1/Gather
        %2 [4*batch, 4, 8] = Reshape(%1, [-1, 4, 8])  # fc1/Reshape_1
        %3 [4*batch, 4, 8] = LayerNormalization(%2, [1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0]; axis=-1)  # norm1/ordered
        %4 [N, 4, 8] = qcompiler.GroupLinear(%3, w:int8[8, 8], [1, 1, 1, 1, 1, 1, 1, 1], [[24, 24, 24, 24, 24, 24, 24, 24]], groups:float32[2, 6], [0, 0, 0, 0, 0, 0, 0, 0]; axis=-2, bits=4, normalize=1, segments=0)  # fc1
        y = output %4
        """,  # noqa: E501
    )


def test_golden_operators():
    """Cases 2 and 3, and what stays in front of other readers."""
    assert ops(into("no normalization")) == ["Reshape", "Gather", "Reshape", "GroupLinear"]
    kept = ["LayerNormalization", "Relu", "Reshape", "Gather", "Reshape", "GroupLinear"]
    assert sorted(ops(into("normalization with another reader"))) == sorted(kept)
    # Into windows, and back to an image that is shifted: one change of the order. Without the shift it is none.
    assert sorted(ops(added("shifted windows"))) == ["Add", "Gather", "GroupLinear", "Reshape", "Reshape", "Reshape"]
    assert sorted(ops(added("windows"))) == ["Add", "GroupLinear", "Reshape", "Reshape", "Reshape"]
    assert sorted(ops(CASES["flat reader"]())) == ["Add", "GroupLinear", "Reshape", "Reshape"]


def test_golden_order():
    """Token i of the result stands at place order[i] of the image, here of the first two windows."""
    graph, _ = applied(OrderTokens, into("shifted windows"))
    (gather,) = [node for node in graph.nodes if node.op == "Gather"]
    assert gather.inputs[1].values.tolist()[:8] == [5, 6, 9, 10, 7, 4, 11, 8]


REFUSED = {
    "channels of a window": lambda: into("windows", mode="channels"),
    "segments of a window": lambda: added("windows", mode="segments"),
    "one Transpose without a normalization": lambda: made(
        f"{cut('x')} {layer('t', 'y')}", f"{IMAGE} x", f"{WINDOWS} y"
    ),
    "another reader on the way": lambda: made(
        f"{NORM} {cut('n')} {layer('t', 'y')} z = Relu (t1)",
        f"{IMAGE} x",
        f"{WINDOWS} y, float[batch, 2, 2, 2, 2, 8] z",
    ),
    "rows that are cut": lambda: made(
        f"{NORM} a = Transpose <perm = [0, 1, 3, 2]> (n)  t = Reshape (a, tokens) {layer('t', 'y')}",
        f"{IMAGE} x",
        f"{TOKENS} y",
    ),
    "tokens that are left out": lambda: made(
        f"{NORM} a = Reshape (n, tokens) t = Slice (a, one, end, rows) {layer('t', 'y')}",
        f"{IMAGE} x",
        "float[batch, 15, 8] y",
    ),
    "a result that is read twice": lambda: added(last="z = Relu (m)", outputs=f"{IMAGE} y, {WINDOWS} z"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    check_unchanged(OrderTokens, REFUSED[case]())


@pytest.mark.parametrize("mode", ["rows", "blocks"])
@pytest.mark.parametrize("case", CASES)
def test_idempotent(case, mode):
    check_idempotent(OrderTokens, CASES[case](mode=mode))


@pytest.mark.parametrize("mode", ["rows", "blocks"])
@pytest.mark.parametrize("case", CASES)
def test_numerical_oracle(case, mode):
    """The same layers of the same tokens: 1e-6 is for sums in another order."""
    check_same(OrderTokens, CASES[case](mode=mode), 1e-6, **feeds(case))


def test_fixed_batch():
    model = made(f"{NORM} {shift('n', 's')} {cut('s')} {layer('t', 'y')}", "float[3, 4, 4, 8] x", "float[12, 4, 8] y")
    check_same(OrderTokens, model, 1e-6, x=weight(3, 4, 4, 8, seed=3))
