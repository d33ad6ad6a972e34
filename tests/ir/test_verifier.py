import numpy as np
import pytest

from qcompiler.errors import VerificationError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.verifier import verify
from tests.passes.helpers import model_of, weight

HEAD = "agraph (float[batch, 4] x) => (float[batch, 4] y) "
CANONICAL = HEAD + "{ m = MatMul (x, w)  y = Add (m, b) }"
CONSTANTS = {"w": weight(4, 4), "b": weight(4), "s": np.array([0, 4])}
BROKEN = {
    "forbidden operator": ("{ y = Gemm (x, w, b) }", r"'Gemm_0' \(Gemm\) is left: a linear layer is MatMul and Add"),
    "shape computed": ("{ a = Abs (s)  y = Reshape (x, a) }", r"input 1 of node 'Reshape_1' .* is not constant"),
    "quantized too early": ("{ y = QuantizeLinear (x, b) }", "the graph is float"),
}


def graph(text, **changes):
    return to_graph(model_of(text, **(CONSTANTS | changes)))


def test_canonical_graph_passes():
    verify(graph(CANONICAL), "canonical")


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rules(case):
    body, message = BROKEN[case]
    with pytest.raises(VerificationError, match=message):
        verify(graph(HEAD + body), "canonical")


def test_opset():
    broken = graph(CANONICAL)
    broken.opset = 17
    with pytest.raises(VerificationError, match="opset is 17"):
        verify(broken, "canonical")


def test_own_operators_belong_to_later_stages():
    quantized = graph(CANONICAL)
    quantized.nodes[0].op, quantized.nodes[0].domain = "GroupLinear", "qcompiler"
    for stage in ("canonical", "quantized"):
        with pytest.raises(VerificationError, match="does not belong here"):
            verify(quantized, stage)
    verify(quantized, "lowered")


def test_weight_types():
    broken = graph(CANONICAL, w=weight(4, 4).astype(np.float16))
    with pytest.raises(VerificationError, match="'w' of node 'MatMul_0' has type float16"):
        verify(broken, "canonical")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda graph: graph.nodes.reverse(), "before it is computed"),
        (lambda graph: setattr(graph.nodes[1], "name", "MatMul_0"), "used twice"),
        (lambda graph: graph.nodes.pop(), "output 'y' is not computed"),
    ],
)
def test_wiring(damage, message):
    broken = graph(CANONICAL)
    damage(broken)
    with pytest.raises(VerificationError, match=message):
        verify(broken, "canonical")
