import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from qcompiler.errors import VerificationError
from qcompiler.ir.saving import to_model
from qcompiler.passes.quantize_linears import QuantizeLinears
from qcompiler.quant.plan import LinearPlan
from qcompiler.quant.weights import QuantizedWeight

from ..runtime_ops import normalized
from .helpers import applied, check_golden, check_idempotent, check_unchanged, model_of, weight
from .quantized import F32, LINEARS, ROWS, check_near, outputs_after, table, weight_codes

TEXT = "agraph (float[batch, 5, 8] x) => (float[batch, 5, 3] y) { [fc1] m = MatMul (x, w)  y = Add (m, b) }"


def model():
    return model_of(TEXT, w=weight(8, 3), b=np.array([1, 2, 3], F32))


def passes(mode="rows", normalize=True, name="fc1", quantized=None):
    """What makes the pass, for a plan of one layer."""
    array, axis, _ = LINEARS[mode]
    plan = LinearPlan(name, quantized or weight_codes(8, 3), table(array, axis), normalize)
    return lambda: QuantizeLinears({name: plan})


def unit_scales(bits=4):
    return QuantizedWeight(weight_codes(8, 3).codes, np.array([1, 2, 0.5], F32), bits)


def test_golden():
    """Case 1: rows are normalised."""
    check_golden(
        passes("channels", quantized=unit_scales()),
        model(),
        """
        x = input [batch, 5, 8]
        %0, %1 = qcompiler.RowNorm(x; normalize=1)  # fc1/RowNorm
        %2 [8, 3] = DequantizeLinear(w_quantized:int4[8, 3], [1, 2, 0.5]; axis=1)  # w_DequantizeLinear
        %3 = qcompiler.GroupSort(%0, fc1.groups:float32[2, 6]; axis=-1)  # fc1/GroupSort
        %4 = qcompiler.GroupQuantizeLinear(%0, %3, fc1.groups:float32[2, 6]; bits=4)  # fc1/QuantizeLinear
        %5 = qcompiler.GroupDequantizeLinear(%4, %3, fc1.groups:float32[2, 6])  # fc1/DequantizeLinear
        %6 = Mul(%5, %1)  # fc1/rescale
        %7 = MatMul(%6, %2)  # fc1
        %8 [batch, 5, 3] = Add(%7, [1, 2, 3])  # Add_1
        y = output %8
        """,
    )


def test_golden_without_row_norm():
    """Case 2; a weight wider than 4 bits is stored as int8."""
    check_golden(
        passes(normalize=False, quantized=unit_scales(bits=5)),
        model(),
        """
        x = input [batch, 5, 8]
        %0 = qcompiler.GroupSort(x, fc1.groups:float32[2, 6]; axis=-2)  # fc1/GroupSort
        %1 [8, 3] = DequantizeLinear(w_quantized:int8[8, 3], [1, 2, 0.5]; axis=1)  # w_DequantizeLinear
        %2 = qcompiler.GroupQuantizeLinear(x, %0, fc1.groups:float32[2, 6]; bits=4)  # fc1/QuantizeLinear
        %3 = qcompiler.GroupDequantizeLinear(%2, %0, fc1.groups:float32[2, 6])  # fc1/DequantizeLinear
        %4 = MatMul(%3, %1)  # fc1
        %5 [batch, 5, 3] = Add(%4, [1, 2, 3])  # Add_1
        y = output %5
        """,
    )


def test_not_applicable():
    """Case 3: a MatMul that the plan does not name."""
    check_unchanged(lambda: QuantizeLinears({}), model(), reason=r"^fc1: not in the plan$")


def test_not_applicable_to_products_of_activations():
    """They are nobody's linear layer: unchanged, and not worth a refusal."""
    text = "agraph (float[2, 4, 4] x) => (float[2, 4, 4] y) { t = Transpose <perm = [0, 2, 1]> (x)  y = MatMul (x, t) }"
    check_unchanged(lambda: QuantizeLinears({}), model_of(text))
    _, report = applied(lambda: QuantizeLinears({}), model_of(text))
    assert report.refusals == ()


def test_only_the_planned_layer():
    text = """agraph (float[batch, 5, 8] x) => (float[batch, 5, 3] y, float[batch, 5, 3] z) {
        [fc1] y = MatMul (x, w)  [fc2] z = MatMul (x, w) }"""
    graph, report = applied(passes(), model_of(text, w=weight(8, 3)))
    inputs = {node.name: node.inputs for node in graph.nodes}
    assert isinstance(inputs["fc2"][1], gs.Constant) and inputs["fc1"][1].inputs[0].op == "DequantizeLinear"
    assert inputs["fc2"][0].name == "x"
    assert [refusal.node for refusal in report.refusals] == ["fc2"]


def test_layers_that_share_a_weight():
    """Each gets its own codes under a name of its own."""
    text = """agraph (float[batch, 5, 8] x) => (float[batch, 5, 3] y, float[batch, 5, 3] z) {
        [fc1] y = MatMul (x, w)  [fc2] z = MatMul (x, w) }"""
    plans = {
        name: LinearPlan(name, weight_codes(8, 3, seed), table(ROWS, -2)) for seed, name in enumerate(("fc1", "fc2"))
    }
    graph, report = applied(lambda: QuantizeLinears(plans), model_of(text, w=weight(8, 3)))
    assert report.applied == 2
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in to_model(graph).graph.initializer}
    for name, tensor in (("fc1", "w_quantized"), ("fc2", "w_quantized_1")):
        np.testing.assert_array_equal(stored[tensor].astype(np.int8), plans[name].weight.codes)


@pytest.mark.parametrize("name", ["fc2", "Add_1"])
def test_a_plan_for_another_graph(name):
    with pytest.raises(VerificationError, match=f"the plan names '{name}', which is no MatMul of the graph"):
        applied(passes(name=name), model())


def test_a_plan_for_another_weight():
    with pytest.raises(VerificationError, match=r"the plan of 'fc1' is for a weight of shape \(8, 4\), not \(8, 3\)"):
        applied(passes(quantized=weight_codes(8, 4)), model())


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mode", LINEARS)
def test_idempotent(mode, normalize):
    check_idempotent(passes(mode, normalize), model())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mode", LINEARS)
def test_numerical_oracle(mode, normalize, bits):
    """The written graph computes the layer as the definition of the fused operator says."""
    array, axis, segments = LINEARS[mode]
    codes = weight_codes(8, 3)
    quantized = QuantizedWeight(codes.codes if bits == 4 else codes.codes * 18, codes.scale, bits)
    x = weight(6, 5, 8, seed=2) * F32(1 if not normalize else 20)
    (y,) = outputs_after(passes(mode, normalize, quantized=quantized), model(), x=x)
    expected, slack = normalized.linear(
        x,
        quantized.codes,
        quantized.scale,
        array,
        np.array([1, 2, 3], F32),
        bits=4,
        axis=axis,
        segments=segments,
        normalize=int(normalize),
    )
    divided = normalized.divide_rows(x)[0] if normalize else x
    assert not normalized.is_ambiguous(divided, array, axis)
    check_near(y, expected, slack, 1e-6)  # a float product of read-back values instead of integers
