import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from qcompiler.ir.block_nodes import add_block_quantizer, add_weight, find_block_quantizer, find_weight
from qcompiler.ir.editing import Editor
from qcompiler.ir.saving import to_model
from qcompiler.ir.shapes import annotate
from qcompiler.ir.verifier import verify, verify_structure

from ..passes.helpers import run
from ..passes.quantized import with_bodies
from ..runtime_ops import blocks

F32 = np.float32
CODES = np.random.default_rng(0).integers(-4, 4, (6, 5)).astype(np.int8)
SCALE = np.linspace(0.1, 0.5, 5, dtype=F32)
MULTIPLIER = np.arange(1, 11, dtype=np.uint8).reshape(2, 5)
ZERO_POINT = np.arange(-5, 5, dtype=np.int8).reshape(2, 5)


def empty():
    """A graph with an input and nothing else."""
    x = gs.Variable("x", F32, [2, 5, 6])
    return gs.Graph([], inputs=[x], outputs=[], opset=21)


def quantized(block=3, rotate=2):
    """A graph of one quantizer in blocks, and what it returns."""
    graph = empty()
    read_back = add_block_quantizer(Editor(graph), graph.inputs[0], 4, block, 0.75, 0.25, "site", rotate=rotate)
    graph.outputs = [read_back]
    return graph, read_back


def weighted(with_blocks=True, bits=4, codes=CODES):
    """A graph that returns one weight, and the weight."""
    graph = empty()
    found = (MULTIPLIER, ZERO_POINT) if with_blocks else None
    read_back = add_weight(Editor(graph), codes, bits, SCALE, found, "w")
    graph.outputs = [read_back]
    return graph, read_back


def test_quantizer_is_found_again():
    graph, read_back = quantized()
    verify_structure(graph)
    found = find_block_quantizer(read_back)
    assert found is not None and found.x is graph.inputs[0]
    assert found.attributes == {"bits": 4, "block": 3, "clip": 0.75, "slack": 0.25, "rotate": 2}


def test_quantizer_names_and_types():
    """Readable names; the types are written here, because ONNX has no rules for these operators."""
    graph, read_back = quantized()
    assert [node.name for node in graph.nodes] == ["site/QuantizeLinear", "site/DequantizeLinear"]
    assert [np.dtype(tensor.dtype) for tensor in graph.nodes[0].outputs] == [np.uint8, F32, F32, F32]
    assert read_back.dtype == F32


def test_two_quantizers_of_one_tensor_get_names_of_their_own():
    graph, first = quantized()
    second = add_block_quantizer(Editor(graph), graph.inputs[0], 3, 6, 1, 0, "site")
    graph.outputs.append(second)
    verify_structure(graph)
    assert find_block_quantizer(first).block == 3 and find_block_quantizer(second).block == 6


@pytest.mark.parametrize(("block", "rotate"), [(1, 1), (3, 2), (6, 1), (6, 2)])
def test_numerical_oracle(block, rotate):
    """Bit by bit the definition."""
    graph, _ = quantized(block, rotate)
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(F32)
    x[0, 0] = 0
    (y,) = run(with_bodies(to_model(graph)), {"x": x})
    expected = blocks.quantize(x, 4, block, 0.75, 0.25, rotate=rotate)
    np.testing.assert_array_equal(y, expected.values.astype(F32) * expected.scale)


def test_a_shared_scale_is_found_where_it_is_asked_for():
    """One scale for all tokens is another quantizer than one for each."""
    graph = empty()
    x = graph.inputs[0]
    read_back = add_block_quantizer(Editor(graph), x, 4, 3, 0.75, 0.25, "site", shared=True)
    graph.outputs = [read_back]
    verify_structure(graph)
    assert find_block_quantizer(read_back) is None
    assert find_block_quantizer(read_back, shared=True).x is x
    assert find_block_quantizer(quantized()[1], shared=True) is None
    values = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(F32)
    (y,) = run(with_bodies(to_model(graph)), {"x": values})
    expected = blocks.quantize(values, 4, 3, 0.75, 0.25, shared=True)
    np.testing.assert_array_equal(y, expected.values.astype(F32) * expected.scale)


def nothing(graph, read_back):
    return graph.inputs[0]


def other_producer(graph, read_back):
    read_back.inputs[0].op = "GroupDequantizeLinear"
    return read_back


def other_codes(graph, read_back):
    read_back.inputs[0].inputs[0] = graph.inputs[0]
    return read_back


def other_scale(graph, read_back):
    read_back.inputs[0].inputs[3] = gs.Constant("scale", np.ones((2, 5, 1), F32))
    return read_back


def other_order(graph, read_back):
    inputs = read_back.inputs[0].inputs
    read_back.inputs[0].inputs = [inputs[0], inputs[2], inputs[1], inputs[3]]
    return read_back


QUANTIZER_CHANGES = [nothing, other_producer, other_codes, other_scale, other_order]


@pytest.mark.parametrize("change", QUANTIZER_CHANGES, ids=lambda item: item.__name__)
def test_another_quantizer_is_not_found(change):
    assert find_block_quantizer(change(*quantized())) is None


# -- Weights


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("with_blocks", [False, True])
def test_weight_is_found_again(with_blocks, bits):
    """Without blocks as one block that changes nothing."""
    graph, read_back = weighted(with_blocks, bits)
    annotate(graph)
    verify(graph, "quantized")
    found = find_weight(read_back)
    assert (found.codes.name, found.scale.name) == ("w_quantized", "w_scale")
    np.testing.assert_array_equal(found.multiplier, MULTIPLIER if with_blocks else np.ones((1, 5)))
    np.testing.assert_array_equal(found.zero_point, ZERO_POINT if with_blocks else np.zeros((1, 5)))
    kind = onnx.TensorProto.INT8 if bits > 4 else onnx.TensorProto.INT4
    integers = {
        item.name: item for item in to_model(graph).graph.initializer if item.name not in ("w_scale", "w_multiplier")
    }
    assert {item.data_type for item in integers.values()} == {kind}
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(integers["w_quantized"]).astype(np.int8), CODES)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("with_blocks", [False, True])
def test_weight_numerical_oracle(with_blocks, bits):
    """What ONNX makes of the nodes, and the operand: rows 0 to 2 are the first block, 3 to 5 the second."""
    graph, read_back = weighted(with_blocks, bits)
    operand = CODES.astype(int)
    if with_blocks:
        for block, rows in enumerate((slice(0, 3), slice(3, 6))):
            operand[rows] = MULTIPLIER[block] * (operand[rows] - ZERO_POINT[block])
    np.testing.assert_array_equal(find_weight(read_back).operand(), operand)
    graph.nodes.append(gs.Node("Identity", "used", inputs=[graph.inputs[0]], outputs=[gs.Variable("used", F32)]))
    (y,) = run(to_model(graph), {"x": np.zeros((2, 5, 6), F32)})
    np.testing.assert_array_equal(y, operand.astype(F32) * SCALE)


def test_two_weights_of_one_name():
    graph, first = weighted()
    second = add_weight(Editor(graph), CODES + np.int8(1), 8, SCALE * 2, None, "w")
    graph.outputs.append(second)
    verify_structure(graph)
    names = [find_weight(tensor).codes.name for tensor in (first, second)]
    assert names == ["w_quantized", "w_quantized_1"]


def computed_codes(graph, read_back):
    read_back.inputs[0].inputs[0].inputs[0].inputs[0] = gs.Variable("codes", np.int8, [6, 5])
    return read_back


def scale_of_another_axis(graph, read_back):
    read_back.inputs[0].inputs[1] = gs.Constant("scales", np.ones(6, F32))
    return read_back


def scalar_scale(graph, read_back):
    read_back.inputs[0].inputs[1] = gs.Constant("scales", np.ones(1, F32))
    return read_back


def other_axis(graph, read_back):
    read_back.inputs[0].inputs[0].inputs[0].attrs["axis"] = 1
    return read_back


def last_block_is_shorter(graph, read_back):
    read_back.inputs[0].inputs[0].inputs[0].attrs["block_size"] = 4
    return read_back


def no_zero_point(graph, read_back):
    dequantize = read_back.inputs[0].inputs[0].inputs[0]
    dequantize.inputs = list(dequantize.inputs[:2])
    return read_back


def float_weight(graph, read_back):
    return gs.Constant("float", np.ones((6, 5), F32))


WEIGHT_CHANGES = [
    nothing,
    computed_codes,
    scale_of_another_axis,
    scalar_scale,
    other_axis,
    last_block_is_shorter,
    no_zero_point,
    float_weight,
]


@pytest.mark.parametrize("change", WEIGHT_CHANGES, ids=lambda item: item.__name__)
def test_another_weight_is_not_found(change):
    assert find_weight(change(*weighted())) is None


@pytest.mark.parametrize(
    "attributes", [{"axis": 0}, {"axis": 1, "block_size": 5}], ids=["scales of inputs", "blocks of outputs"]
)
def test_another_plain_weight_is_not_found(attributes):
    _, read_back = weighted(with_blocks=False)
    read_back.inputs[0].attrs = attributes
    assert find_weight(read_back) is None


def test_a_plain_weight_with_a_zero_point_is_not_found():
    _, read_back = weighted(with_blocks=False)
    read_back.inputs[0].inputs.append(gs.Constant("zero", np.zeros(5, np.int8)))
    assert find_weight(read_back) is None
