import numpy as np
import onnx
import pytest

from qcompiler.ir.importing import to_graph
from qcompiler.ir.integer_weights import integer_values
from qcompiler.ir.passes import run_passes
from qcompiler.ir.saving import to_model
from qcompiler.ir.verifier import verify
from qcompiler.passes.lower_linears import LowerLinears
from qcompiler.passes.quantize_linears import QuantizeLinears
from qcompiler.quant.plan import LinearPlan
from qcompiler.quant.weight_grid import WeightBlocks
from qcompiler.quant.weights import QuantizedWeight

from ..runtime_ops import normalized
from .helpers import applied, check_golden, check_idempotent, check_unchanged, weight
from .quantized import (
    CODEBOOK,
    F32,
    INPUTS,
    LINEARS,
    block_attributes,
    block_bytes,
    block_quantizer,
    check_near,
    check_same,
    defined,
    outputs_after,
    quantized_model,
    table,
    weight_codes,
)

WEIGHT = weight_codes(8, 3)
BLOCKED = weight_codes(8, 3, count=2)
BIAS = np.array([1, 2, 3], F32)
HEAD = "agraph (float[batch, 5, 8] x) => (float[batch, 5, 3] y) <float[batch, 5, 3] m> {"
QUANTIZER = """i = qcompiler.GroupSort <axis = AXIS> (IN, groups)
    c = qcompiler.GroupQuantizeLinear <bits = 4> (IN, i, groups)
    r = qcompiler.GroupDequantizeLinear (c, i, groups)"""
PRODUCT = "WEIGHT  [fc1] OUT = MatMul (r, d)"
PLAIN = f"{QUANTIZER.replace('IN', 'x')} {PRODUCT}"
NORMALIZED = f"""n, norm = qcompiler.RowNorm <normalize = 1> (x)  {QUANTIZER.replace("IN", "n")}
    h = Mul (r, norm)  {PRODUCT.replace("(r", "(h")}"""
BLOCKS = f"""c, bm, bz, s = qcompiler.BlockQuantizeLinear
    <bits = 4, block = 4, clip = 0.875, slack = 0.25, shared = 0, rotate = 2> (x)
    r = qcompiler.BlockDequantizeLinear (c, bm, bz, s)  {PRODUCT}"""
FORMS = {"plain": PLAIN, "normalized": NORMALIZED, "blocks": BLOCKS}
PLAIN_WEIGHT = "d = DequantizeLinear <axis = 1> (w, w_scale)"
BLOCK_WEIGHT = "u = DequantizeLinear <axis = 0, block_size = 4> (w, wm, wz)  d = Mul (u, w_scale)"


def model(form="plain", mode="rows", bias=True, body=None, last="y = Add (m, b)", codes=WEIGHT, int4=True, **extra):
    """A quantized layer; `codes` are its weights, which `int4` stores in half the bytes."""
    groups, axis, _ = LINEARS.get(mode, LINEARS["rows"])
    text = (body or FORMS[form]).replace("WEIGHT", BLOCK_WEIGHT if codes.blocks else PLAIN_WEIGHT)
    text = text.replace("AXIS", str(axis)).replace("OUT", "m" if bias else "y")
    used = {"groups": groups, "w_scale": codes.scale, **({"b": BIAS} if bias else {})}
    integers = {"w": codes.codes}
    if codes.blocks:
        used["wm"] = codes.blocks.multiplier.astype(F32)
        integers["wz"] = codes.blocks.zero_point
    head = HEAD if bias else HEAD.replace("<float[batch, 5, 3] m>", "")
    constants = {**used, **({} if int4 else integers), **extra}
    return quantized_model(f"{head} {text} {last if bias else ''} }}", integers if int4 else None, **constants)


def form_of(mode, normalize):
    return "blocks" if mode == "blocks" else "normalized" if normalize else "plain"


def test_golden():
    """Cases 2, 4 and 6."""
    check_golden(
        LowerLinears,
        model(w_scale=np.array([1, 2, 0.5], F32)),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.GroupLinear(x, w:int4[8, 3], [1, 2, 0.5], [[24, 24, 24]], groups:float32[2, 6], [1, 2, 3]; axis=-2, bits=4, normalize=0, segments=0)  # fc1
        y = output %0
        """,  # noqa: E501
    )


def test_golden_normalized_without_bias():
    """Cases 1 and 4, and zeros for a bias that is not there."""
    check_golden(
        LowerLinears,
        model("normalized", "segments", bias=False, int4=False, w_scale=np.array([1, 2, 0.5], F32)),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.GroupLinear(x, w:int8[8, 3], [1, 2, 0.5], [[24, 24, 24]], groups:float32[2, 6], [0, 0, 0]; axis=-1, bits=4, normalize=1, segments=1)  # fc1
        y = output %0
        """,  # noqa: E501
    )


@pytest.mark.parametrize("int4", [False, True])
def test_golden_blocks(int4):
    """Cases 3, 5 and 6: the multiplier in the high nibble, the zero point plus 8 in the low one."""
    blocks = WeightBlocks(np.array([(1, 15, 3), (4, 5, 6)], np.uint8), np.array([(0, -8, 7), (1, -1, 2)], np.int8))
    codes = QuantizedWeight(np.zeros((8, 3), np.int8), np.array([1, 2, 0.5], F32), 4, blocks)
    check_golden(
        LowerLinears,
        model("blocks", codes=codes, int4=int4),
        f"""
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.BlockLinear(x, w:int{4 if int4 else 8}[8, 3], [1, 2, 0.5], [[24, 240, 63], [73, 87, 106]], [1, 2, 3]; bits=4, block=4, clip=0.875, rotate=2, slack=0.25)  # fc1
        y = output %0
        """,  # noqa: E501
    )


@pytest.mark.parametrize("mode", LINEARS)
def test_attributes(mode):
    graph, _ = applied(LowerLinears, model("normalized", mode))
    (node,) = graph.nodes
    assert node.attrs == {"bits": 4, "axis": LINEARS[mode][1], "segments": LINEARS[mode][2], "normalize": 1}


@pytest.mark.parametrize("codes", [WEIGHT, BLOCKED], ids=["plain", "blocks"])
@pytest.mark.parametrize("form", FORMS)
def test_inputs(form, codes):
    """Each of the two inputs with each of the two weights."""
    (node,) = applied(LowerLinears, model(form, codes=codes))[0].nodes
    tables = [] if form == "blocks" else ["groups"]
    assert node.op == ("BlockLinear" if form == "blocks" else "GroupLinear")
    assert [tensor.name for tensor in node.inputs] == ["x", "w", "w_scale", "fc1.blocks", *tables, "b"]
    np.testing.assert_array_equal(node.inputs[3].values, block_bytes(codes))
    if form == "blocks":
        assert node.attrs == block_attributes(4)


def test_weights_stay_packed():
    """The int4 initialiser reaches the file untouched."""
    graph, _ = applied(LowerLinears, model())
    stored = {item.name: item for item in to_model(graph).graph.initializer}
    assert stored["w"].data_type == onnx.TensorProto.INT4
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored["w"]).astype(np.int8), WEIGHT.codes)


BIASES = {
    "bias of every token": model(b=weight(5, 3)),
    "one bias for all outputs": model(b=weight(1)),
    "computed bias": model(last="e = Relu (m)  y = Add (m, e)"),
    "bias first": model(last="y = Add (b, m)"),
    "read twice": model(last="e = Relu (m)  s = Add (m, b)  y = Add (s, e)"),
}


@pytest.mark.parametrize("case", BIASES)
def test_additions_that_are_no_bias(case):
    """The layer is lowered with a bias of zeros, the addition stays and reads its result."""
    graph, report = applied(LowerLinears, BIASES[case])
    assert report.applied == 1
    (layer,) = [node for node in graph.nodes if node.op == "GroupLinear"]
    np.testing.assert_array_equal(layer.inputs[5].values, np.zeros(3, F32))
    assert "Add" in [node.op for node in graph.nodes]
    check_same(LowerLinears, BIASES[case], 1e-6, x=weight(2, 5, 8))


def blocked(multiplier=1, zero_point=0, code=0):
    """The plain codes 0 but for one, in two blocks, one of them with this multiplier and zero point."""
    codes, multipliers, zeros = np.zeros((8, 3), np.int8), np.ones((2, 3), F32), np.zeros((2, 3), np.int8)
    codes[5, 1], multipliers[1, 1], zeros[1, 1] = code, multiplier, zero_point
    # Set the multipliers by name: some of them are no integers.
    blocks = WeightBlocks(np.ones((2, 3), np.uint8), zeros)
    return model("blocks", codes=QuantizedWeight(codes, WEIGHT.scale, 8, blocks), int4=False, wm=multipliers)


CODES = """c2 = Cast <to = 7> (c)  g = Gather (levels, c2)  r = qcompiler.GroupDequantizeLinear (g, i, groups)"""
NO_QUANTIZER = "its input is not the result of one quantizer"
NO_WEIGHT = "its weight is not integers with one scale per output"
NO_NIBBLE = "a block of its weight has a multiplier or zero point that is no nibble"
WIDE = "an operand of its weight does not fit a signed byte"
MORE_BLOCKS = BLOCK_WEIGHT.replace("block_size = 4", "block_size = 3")
REFUSED = {
    "levels": (
        model(body=PLAIN.replace("r = qcompiler.GroupDequantizeLinear (c, i, groups)", CODES), levels=CODEBOOK),
        NO_QUANTIZER,
    ),
    "float input": (model(body="WEIGHT  [fc1] OUT = MatMul (x, d)"), NO_QUANTIZER),
    "a factor that is not the norm": (
        model(body=NORMALIZED.replace("h = Mul (r, norm)", "h = Mul (r, r)")),
        NO_QUANTIZER,
    ),
    "a quantizer of something else than the normalized rows": (
        model(
            body=PLAIN.replace("MatMul (r, d)", "MatMul (h, d)").replace(
                "[fc1]", "n, norm = qcompiler.RowNorm <normalize = 1> (x)  h = Mul (r, norm)  [fc1]"
            )
        ),
        NO_QUANTIZER,
    ),
    "blocks read back with the scale of other tokens": (
        model(
            body="t = ReduceMax <keepdims = 1> (x, one)  " + BLOCKS.replace("(c, bm, bz, s)", "(c, bm, bz, t)"),
            one=np.array([-1]),
        ),
        NO_QUANTIZER,
    ),
    "normalized blocks": (
        model(
            body=BLOCKS.replace("MatMul (r, d)", "MatMul (h, d)").replace(
                "[fc1]", "n, norm = qcompiler.RowNorm <normalize = 1> (x)  h = Mul (r, norm)  [fc1]"
            )
        ),
        NO_QUANTIZER,
    ),
    "a scale for every input": (
        model(body=PLAIN.replace("WEIGHT", "d = DequantizeLinear <axis = 0> (w, s8)"), s8=np.ones(8, F32)),
        NO_WEIGHT,
    ),
    "a zero point without blocks": (
        model(
            body=PLAIN.replace("WEIGHT", "d = DequantizeLinear <axis = 1> (w, w_scale, z3)"),
            int4=False,
            z3=np.zeros(3, np.int8),
        ),
        NO_WEIGHT,
    ),
    "one factor for all outputs": (
        model(
            body=BLOCKS.replace("WEIGHT", BLOCK_WEIGHT.replace("w_scale", "one")), codes=BLOCKED, one=np.ones(1, F32)
        ),
        NO_WEIGHT,
    ),
    "blocks that do not fill the channels": (
        model(
            body=BLOCKS.replace("WEIGHT", MORE_BLOCKS),
            wm=np.ones((3, 3), F32),
            wz=np.zeros((3, 3), np.int8),
            int4=False,
        ),
        NO_WEIGHT,
    ),
    "half a multiple": (blocked(multiplier=1.5), rf"{NO_NIBBLE} \(\(1.5, 0\)\)"),
    "no multiple": (blocked(multiplier=0), rf"{NO_NIBBLE} \(\(0.0, 0\)\)"),
    "a large multiple": (blocked(multiplier=16), rf"{NO_NIBBLE} \(\(16.0, 0\)\)"),
    "a large zero point": (blocked(zero_point=8), rf"{NO_NIBBLE} \(\(1.0, 8\)\)"),
    "a small zero point": (blocked(zero_point=-9), rf"{NO_NIBBLE} \(\(1.0, -9\)\)"),
    "a large operand": (blocked(2, 0, 64), rf"{WIDE} \(128.0\)"),
    "a small operand": (blocked(1, 1, -127), rf"{WIDE} \(128.0\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    """Cases 7 to 10: a quantized weight, but another input or one that the operators do not take."""
    check_unchanged(LowerLinears, REFUSED[case][0], reason=f"^fc1: {REFUSED[case][1]}")


def test_the_largest_operand():
    """127 is a signed byte."""
    for made in (blocked(1, 0, 127), blocked(1, 1, -126)):
        assert applied(LowerLinears, made)[1].applied == 1


def test_not_applicable_to_float_layers():
    """Case 8: not this pass's business, and not worth a refusal."""
    text = f"{HEAD.replace('8]', '3]')} [fc1] m = MatMul (x, w)  y = Add (m, b) }}"
    model_ = quantized_model(text, w=weight(3, 3), b=BIAS)
    check_unchanged(LowerLinears, model_)
    assert applied(LowerLinears, model_)[1].refusals == ()


@pytest.mark.parametrize("codes", [WEIGHT, BLOCKED], ids=["plain", "blocks"])
@pytest.mark.parametrize(("mode", "normalize"), INPUTS)
def test_what_quantize_linears_writes(mode, normalize, codes):
    """Straight from the pass that writes the nodes, with no file in between."""
    text = f"{HEAD} [fc1] m = MatMul (x, wf)  y = Add (m, b) }}"
    graph = to_graph(quantized_model(text, wf=weight(8, 3), b=BIAS))
    found = block_quantizer(4) if mode == "blocks" else table(*LINEARS[mode][:2])
    plans = {"fc1": LinearPlan("fc1", codes, found, bool(normalize))}
    run_passes(graph, [QuantizeLinears(plans), LowerLinears()], verify_each=True)
    verify(graph, "lowered")
    (node,) = graph.nodes
    assert node.op == ("BlockLinear" if mode == "blocks" else "GroupLinear")
    np.testing.assert_array_equal(integer_values(node.inputs[1]), codes.codes)
    np.testing.assert_array_equal(node.inputs[3].values, block_bytes(codes))


@pytest.mark.parametrize("codes", [WEIGHT, BLOCKED], ids=["plain", "blocks"])
@pytest.mark.parametrize(("mode", "normalize"), INPUTS)
def test_idempotent(mode, normalize, codes):
    check_idempotent(LowerLinears, model(form_of(mode, normalize), mode, codes=codes))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("codes", [WEIGHT, BLOCKED], ids=["plain", "blocks"])
@pytest.mark.parametrize(("mode", "normalize"), INPUTS)
def test_numerical_oracle(mode, normalize, codes, bias):
    """The fused operator against the definition, and against the readable graph that it replaces."""
    # Norms are exact: readable and fused form find the same codes.
    x = normalized.exact_rows(np.random.default_rng(1), (3, 5, 8)) * F32(1 if normalize else 1 / 32)
    made = model(form_of(mode, normalize), mode, bias, codes=codes)
    (y,) = outputs_after(LowerLinears, made, x=x)
    expected, slack = defined(x, codes, BIAS if bias else np.zeros(3, F32), mode, normalize, 4)
    check_near(y, expected, slack, 1e-6 if mode == "segments" else 0)  # segments are added in float
    # 1e-6: the readable form multiplies read-back values, the fused one integers.
    check_same(LowerLinears, made, 1e-6, x=x)
