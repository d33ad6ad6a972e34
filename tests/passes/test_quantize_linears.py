import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from qcompiler.errors import VerificationError
from qcompiler.ir.saving import to_model
from qcompiler.passes.quantize_linears import QuantizeLinears
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.plan import LinearPlan
from qcompiler.quant.weight_grid import WeightBlocks
from qcompiler.quant.weights import QuantizedWeight

from .helpers import applied, check_golden, check_idempotent, check_unchanged, model_of, weight
from .quantized import (
    F32,
    INPUTS,
    LINEARS,
    ROWS,
    block_quantizer,
    check_near,
    defined,
    outputs_after,
    table,
    weight_codes,
)

TEXT = "agraph (float[batch, 5, 8] x) => (float[batch, 5, 3] y) { [fc1] m = MatMul (x, w)  y = Add (m, b) }"


def model():
    return model_of(TEXT, w=weight(8, 3), b=np.array([1, 2, 3], F32))


def passes(mode="rows", normalize=True, name="fc1", quantized=None, block=4):
    """What makes the pass, for a plan of one layer."""
    found = block_quantizer(block) if mode == "blocks" else table(*LINEARS[mode][:2])
    plan = LinearPlan(name, quantized or weight_codes(8, 3), found, bool(normalize))
    return lambda: QuantizeLinears({name: plan})


def unit_scales(bits=4, blocks=None):
    return QuantizedWeight(weight_codes(8, 3).codes, np.array([1, 2, 0.5], F32), bits, blocks)


TWO_BLOCKS = WeightBlocks(
    np.array([(1, 2, 3), (4, 5, 12)], np.uint8),
    np.array([(0, -3, 3), (1, 0, -1)], np.int8),
)


def test_golden():
    """Cases 1 and 4: rows are normalised."""
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
    """Cases 2 and 4; a weight wider than 4 bits is stored as int8."""
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


def test_golden_blocks():
    """Cases 3 and 5; the zero points have the type of the codes."""
    check_golden(
        passes("blocks", quantized=unit_scales(blocks=TWO_BLOCKS)),
        model(),
        """
        x = input [batch, 5, 8]
        %0, %1, %2, %3 = qcompiler.BlockQuantizeLinear(x; bits=4, block=4, clip=0.875, rotate=2, shared=0, slack=0.25)  # fc1/QuantizeLinear
        %4 [8, 3] = DequantizeLinear(w_quantized:int4[8, 3], [[1, 2, 3], [4, 5, 12]], w_zero_point:int4[2, 3]; axis=0, block_size=4)  # w_DequantizeLinear
        %5 = qcompiler.BlockDequantizeLinear(%0, %1, %2, %3)  # fc1/DequantizeLinear
        %6 [8, 3] = Mul(%4, [1, 2, 0.5])  # w_rescale
        %7 = MatMul(%5, %6)  # fc1
        %8 [batch, 5, 3] = Add(%7, [1, 2, 3])  # Add_1
        y = output %8
        """,  # noqa: E501
    )


@pytest.mark.parametrize(("bits", "kind"), [(4, onnx.TensorProto.INT4), (5, onnx.TensorProto.INT8)])
def test_blocks_reach_the_file(bits, kind):
    graph, _ = applied(passes("rows", quantized=unit_scales(bits, TWO_BLOCKS)), model())
    stored = {item.name: item for item in to_model(graph).graph.initializer}
    for name, expected in (("w_quantized", weight_codes(8, 3).codes), ("w_zero_point", TWO_BLOCKS.zero_point)):
        assert stored[name].data_type == kind
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored[name]).astype(np.int8), expected)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored["w_multiplier"]), TWO_BLOCKS.multiplier)


def test_not_applicable():
    """Case 6: a MatMul that the plan does not name."""
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


def test_blocks_that_do_not_divide_the_channels():
    with pytest.raises(VerificationError, match="the plan of 'fc1' cuts tokens of 8 channels into blocks of 3"):
        applied(passes("blocks", block=3), model())
    plan = LinearPlan("fc1", weight_codes(8, 3), BlockQuantizer(4, 4, rotate=16))
    with pytest.raises(VerificationError, match="the plan of 'fc1' rotates tokens of 8 channels in sets of 16"):
        applied(lambda: QuantizeLinears({"fc1": plan}), model())
    three = WeightBlocks(np.ones((3, 3), np.uint8), np.zeros((3, 3), np.int8))
    with pytest.raises(VerificationError, match="the plan of 'fc1' cuts 8 input channels into 3 blocks"):
        applied(passes(quantized=unit_scales(blocks=three)), model())


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize(("mode", "normalize"), INPUTS)
def test_idempotent(mode, normalize, count):
    check_idempotent(passes(mode, normalize, quantized=weight_codes(8, 3, count=count)), model())


def wide(bits):
    """Plain codes of `bits`."""
    narrow = weight_codes(8, 3)
    return QuantizedWeight(narrow.codes if bits == 4 else narrow.codes * 18, narrow.scale, bits)


WEIGHTS = {"4 bits": wide(4), "8 bits": wide(8), "blocks": weight_codes(8, 3, count=2)}


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize(("mode", "normalize"), INPUTS)
def test_numerical_oracle(mode, normalize, form):
    """The written graph computes the layer as the definition of the fused operator says."""
    x = weight(6, 5, 8, seed=2) * F32(20 if normalize else 1)
    (y,) = outputs_after(passes(mode, normalize, quantized=WEIGHTS[form]), model(), x=x)
    expected, slack = defined(x, WEIGHTS[form], np.array([1, 2, 3], F32), mode, normalize, 4)
    check_near(y, expected, slack, 1e-6)  # a float product of read-back values instead of integers
