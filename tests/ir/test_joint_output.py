import numpy as np
import pytest

from qcompiler.ir.joint_output import JOINT, with_joint_output
from tests.passes.helpers import model_of, run, weight

TEXT = """agraph (float[BATCH, 4] x) => (float[BATCH, 3] y, float[BATCH, 2, 2] z, int64[BATCH] top, float[1, 4] one) {
    y = MatMul (x, w)  z = Reshape (x, square)  top = ArgMax <axis = 1, keepdims = 0> (x)  one = Tanh (constant) }"""
CONSTANTS = {"w": weight(4, 3), "square": np.array([-1, 2, 2]), "constant": weight(1, 4, seed=1)}


def divergence(logits, others):
    """Mean over rows of KL(softmax(logits) || softmax(others)), from the definition in double precision."""
    p, q = (np.exp(rows.reshape(len(rows), -1).astype(np.float64)) for rows in (logits, others))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return float((p * np.log(p / q)).sum(axis=1).mean())


@pytest.mark.parametrize("batch", ["batch", "3"])
def test_its_divergence_is_the_mean_of_those_of_the_outputs(batch):
    model = with_joint_output(model_of(TEXT.replace("BATCH", batch), **CONSTANTS))
    assert [output.name for output in model.graph.output] == [JOINT, "y", "z", "top", "one"]
    first, second = (run(model, {"x": weight(3, 4, seed=seed)}) for seed in (2, 3))
    assert first[0].shape == (3, 7)  # the integers, and what no image has a row of, do not count
    parts = [divergence(first[index], second[index]) for index in (1, 2)]
    assert divergence(first[0], second[0]) == pytest.approx(np.mean(parts), rel=1e-5)  # float32 logarithms


def test_one_output_stays_alone():
    model = model_of("agraph (float[batch, 4] x) => (float[batch, 4] y) { y = Tanh (x) }")
    assert with_joint_output(model) is model


def test_the_model_is_not_changed():
    model = model_of(TEXT.replace("BATCH", "batch"), **CONSTANTS)
    before = model.SerializeToString(deterministic=True)
    with_joint_output(model)
    assert model.SerializeToString(deterministic=True) == before
