import numpy as np
import onnx
import pytest

from qcompiler.ir.saving import to_model
from qcompiler.passes.lower_linears import LowerLinears

from ..runtime_ops import normalized
from .helpers import applied, check_golden, check_idempotent, check_unchanged, weight
from .quantized import CODEBOOK, F32, LINEARS, check_near, check_same, outputs_after, quantized_model, weight_codes

WEIGHT = weight_codes(8, 3)
BIAS = np.array([1, 2, 3], F32)
HEAD = "agraph (float[batch, 5, 8] x) => (float[batch, 5, 3] y) <float[batch, 5, 3] m> {"
QUANTIZER = """i = qcompiler.GroupSort <axis = AXIS> (IN, groups)
    c = qcompiler.GroupQuantizeLinear <bits = 4> (IN, i, groups)
    r = qcompiler.GroupDequantizeLinear (c, i, groups)"""
PLAIN = f"{QUANTIZER.replace('IN', 'x')} d = DequantizeLinear <axis = 1> (w, w_scale)  [fc1] OUT = MatMul (r, d)"
NORMALIZED = f"""n, norm = qcompiler.RowNorm <normalize = 1> (x)  {QUANTIZER.replace("IN", "n")}  h = Mul (r, norm)
    d = DequantizeLinear <axis = 1> (w, w_scale)  [fc1] OUT = MatMul (h, d)"""
FORMS = {"plain": PLAIN, "normalized": NORMALIZED}


def model(form="plain", mode="rows", bias=True, int4=True, body=None, last="y = Add (m, b)", **extra):
    table, axis, _ = LINEARS[mode]
    text = (body or FORMS[form]).replace("AXIS", str(axis)).replace("OUT", "m" if bias else "y")
    used = {"groups": table, "w_scale": WEIGHT.scale, **({"b": BIAS} if bias else {}), **extra}
    head = HEAD if bias else HEAD.replace("<float[batch, 5, 3] m>", "")
    weights = {"w": WEIGHT.codes}
    return quantized_model(
        f"{head} {text} {last if bias else ''} }}", weights if int4 else None, **used, **({} if int4 else weights)
    )


def test_golden():
    """Cases 2 and 3."""
    check_golden(
        LowerLinears,
        model(w_scale=np.array([1, 2, 0.5], F32)),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.GroupLinear(x, w:int4[8, 3], [1, 2, 0.5], groups:float32[2, 6], [1, 2, 3]; axis=-2, bits=4, normalize=0, segments=0)  # fc1
        y = output %0
        """,  # noqa: E501
    )


def test_golden_normalized_without_bias():
    """Case 1, and zeros for a bias that is not there."""
    check_golden(
        LowerLinears,
        model("normalized", "segments", bias=False, int4=False, w_scale=np.array([1, 2, 0.5], F32)),
        """
        x = input [batch, 5, 8]
        %0 [batch, 5, 3] = qcompiler.GroupLinear(x, w:int8[8, 3], [1, 2, 0.5], groups:float32[2, 6], [0, 0, 0]; axis=-1, bits=4, normalize=1, segments=1)  # fc1
        y = output %0
        """,  # noqa: E501
    )


@pytest.mark.parametrize("mode", LINEARS)
def test_attributes(mode):
    graph, _ = applied(LowerLinears, model("normalized", mode))
    (node,) = graph.nodes
    assert node.attrs == {"bits": 4, "axis": LINEARS[mode][1], "segments": LINEARS[mode][2], "normalize": 1}


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
    np.testing.assert_array_equal(layer.inputs[4].values, np.zeros(3, F32))
    assert "Add" in [node.op for node in graph.nodes]
    check_same(LowerLinears, BIASES[case], 1e-6, x=weight(2, 5, 8))


CODES = """c2 = Cast <to = 7> (c)  g = Gather (levels, c2)  r = qcompiler.GroupDequantizeLinear (g, i, groups)"""
REFUSED = {
    "levels": model(body=PLAIN.replace("r = qcompiler.GroupDequantizeLinear (c, i, groups)", CODES), levels=CODEBOOK),
    "float input": model(body="d = DequantizeLinear <axis = 1> (w, w_scale)  [fc1] OUT = MatMul (x, d)"),
    "a factor that is not the norm": model(body=NORMALIZED.replace("h = Mul (r, norm)", "h = Mul (r, r)")),
    "a quantizer of something else than the normalized rows": model(
        body=PLAIN.replace("MatMul (r, d)", "MatMul (h, d)").replace(
            "[fc1]", "n, norm = qcompiler.RowNorm <normalize = 1> (x)  h = Mul (r, norm)  [fc1]"
        )
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable(case):
    """Case 4: a quantized weight, but another input."""
    check_unchanged(LowerLinears, REFUSED[case], reason="fc1: its input is not one group quantizer")


def test_not_applicable_to_float_layers():
    """Case 4: not this pass's business, and not worth a refusal."""
    text = f"{HEAD.replace('8]', '3]')} [fc1] m = MatMul (x, w)  y = Add (m, b) }}"
    model_ = quantized_model(text, w=weight(3, 3), b=BIAS)
    check_unchanged(LowerLinears, model_)
    assert applied(LowerLinears, model_)[1].refusals == ()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", LINEARS)
def test_idempotent(mode, form):
    check_idempotent(LowerLinears, model(form, mode))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", LINEARS)
def test_numerical_oracle(mode, form, bias):
    """The fused operator against the definition, and against the readable graph that it replaces."""
    table, axis, segments = LINEARS[mode]
    normalize = int(form == "normalized")
    # Norms are exact: readable and fused form find the same codes.
    x = normalized.exact_rows(np.random.default_rng(1), (3, 5, 8)) * F32(1 if normalize else 1 / 32)
    (y,) = outputs_after(LowerLinears, model(form, mode, bias), x=x)
    expected, slack = normalized.linear(
        x,
        WEIGHT.codes,
        WEIGHT.scale,
        table,
        BIAS if bias else np.zeros(3, F32),
        bits=4,
        axis=axis,
        segments=segments,
        normalize=normalize,
    )
    check_near(y, expected, slack, 1e-6 if mode == "segments" else 0)  # segments are added in float
    # 1e-6: the readable form multiplies read-back values, the fused one integers.
    check_same(LowerLinears, model(form, mode, bias), 1e-6, x=x)
