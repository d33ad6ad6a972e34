import numpy as np
import onnx
import pytest

from qcompiler.errors import UnsupportedModelError
from qcompiler.passes.upgrade_opset import UpgradeOpset

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

OLD = """agraph (float[batch, 4, 6] x) => (float[batch, 4, 1] y, float[batch, 4, 3] a, float[batch, 4, 3] b) {
    y = ReduceMean <axes = [-1], keepdims = 1> (x)
    a, b = Split <axis = -1> (x)
}"""
NEW = """agraph (float[batch, 4, 6] x) => (float[batch, 4, 6] y) { y = Gelu (x) }"""


def test_golden():
    check_golden(
        UpgradeOpset,
        model_of(OLD, opset=17),
        """
        x = input [batch, 4, 6]
        %0 [batch, 4, 1] = ReduceMean(x, [-1]; keepdims=1)  # ReduceMean_0
        %1 [batch, 4, 3], %2 [batch, 4, 3] = Split(x; axis=-1, num_outputs=2)  # Split_1
        y = output %0
        a = output %1
        b = output %2
        """,
    )


def test_not_applicable():
    check_unchanged(UpgradeOpset, model_of(NEW))


def test_idempotent():
    check_idempotent(UpgradeOpset, model_of(OLD, opset=17))


def test_numerical_oracle():
    check_equal(UpgradeOpset, model_of(OLD, opset=17), 0.0, x=weight(2, 4, 6))


def test_opset_is_set():
    graph, _ = applied(UpgradeOpset, model_of(NEW, opset=20))
    assert graph.opset == 21


def test_old_opset_is_refused():
    text = "agraph (float[batch, 4] x) => (float[batch, 4] y) { y = Relu (x) }"
    with pytest.raises(UnsupportedModelError, match="opset 11; export it again"):
        applied(UpgradeOpset, model_of(text, opset=11))


def test_operator_of_another_domain_is_refused():
    model = model_of(NEW)
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedModelError, match=r"'Gelu' of domain 'com\.microsoft'"):
        applied(UpgradeOpset, model)


def test_operator_newer_than_the_opset_is_refused():
    text = """agraph (float[batch, 2, 4, 8] q, float[batch, 2, 4, 8] k, float[batch, 2, 4, 8] v)
    => (float[batch, 2, 4, 8] y) { y = Attention (q, k, v) }"""
    with pytest.raises(UnsupportedModelError, match="'Attention', which opset 21 does not have"):
        applied(UpgradeOpset, model_of(text, opset=23))


def test_axes_keep_their_type():
    graph, _ = applied(UpgradeOpset, model_of(OLD, opset=17))
    assert graph.nodes[0].inputs[1].values.dtype == np.int64
