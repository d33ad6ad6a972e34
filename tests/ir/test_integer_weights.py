import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from qcompiler.ir.integer_weights import WIDEST_INT4, integer_constant, integer_values, packed_int4
from qcompiler.ir.printer import print_graph
from qcompiler.ir.saving import to_model
from qcompiler.ir.shapes import annotate


def codes_of(bits, shape, seed=0):
    codes = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)
    codes.flat[:2] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return codes


def graph_with(constant):
    """A graph that reads the weight the way a quantized layer does."""
    x = gs.Variable("x", np.float32, ["batch", constant.shape[0]])
    read, y = gs.Variable("read", np.float32), gs.Variable("y", np.float32)
    scale = gs.Constant("scale", np.ones(constant.shape[1], np.float32))
    nodes = [
        gs.Node("DequantizeLinear", "read", {"axis": 1}, [constant, scale], [read]),
        gs.Node("MatMul", "product", inputs=[x, read], outputs=[y]),
    ]
    return gs.Graph(nodes, inputs=[x], outputs=[y], opset=21)


def stored(graph):
    return {item.name: item for item in to_model(graph).graph.initializer}["w"]


def test_packing():
    """The earlier code in the low nibble, two's complement, a zero nibble behind an odd count."""
    assert packed_int4(np.array([[1, -1], [-8, 7]], np.int8)) == bytes([0xF1, 0x78])
    assert packed_int4(np.array([3, 2, -2], np.int8)) == bytes([0x23, 0x0E])
    assert packed_int4(np.zeros(0, np.int8)) == b""


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_packing_is_that_of_onnx(count):
    codes = codes_of(4, count + 1)
    theirs = onnx.helper.make_tensor("t", onnx.TensorProto.INT4, codes.shape, codes)
    values = theirs.raw_data or bytes(value & 0xFF for value in theirs.int32_data)
    assert packed_int4(codes) == values


@pytest.mark.parametrize("shape", [(2, 2), (5, 3), (40, 30)], ids=["shown", "odd", "large"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_what_reaches_the_file(bits, shape):
    """int4 up to 4 bits in half the bytes, int8 above; also after the graph was annotated and printed."""
    codes = codes_of(bits, shape)
    graph = graph_with(integer_constant("w", codes, bits))
    annotate(graph)
    print_graph(graph)
    tensor = stored(graph)
    assert tensor.data_type == (onnx.TensorProto.INT4 if bits <= WIDEST_INT4 else onnx.TensorProto.INT8)
    assert list(tensor.dims) == list(shape)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor).astype(np.int8), codes)
    bytes_per_code = 0.5 if bits <= WIDEST_INT4 else 1
    assert len(tensor.raw_data) == int(np.ceil(codes.size * bytes_per_code))
    onnx.checker.check_model(to_model(graph))


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_need_not_be_contiguous(bits):
    codes = codes_of(bits, (6, 10)).T[::2]
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(stored(graph_with(integer_constant("w", codes, bits)))).astype(np.int8), codes
    )


@pytest.mark.parametrize("bits", [2, 4, 5, 8])
def test_reading_the_codes_does_not_change_the_file(bits):
    codes = codes_of(bits, (5, 3))
    graph = graph_with(integer_constant("w", codes, bits))
    before = stored(graph).SerializeToString()
    values = integer_values(graph.nodes[0].inputs[0])
    assert values.dtype == np.int8
    np.testing.assert_array_equal(values, codes)
    assert stored(graph).SerializeToString() == before


def test_later_changes_of_the_codes_do_not_reach_a_packed_weight():
    codes = codes_of(4, (4, 6))
    before = codes.copy()
    graph = graph_with(integer_constant("w", codes, 4))
    codes[:] = 0
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored(graph)).astype(np.int8), before)
