import numpy as np
import pytest

from qcompiler.errors import VerificationError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.ir.saving import to_model
from qcompiler.passes import CANONICALISE
from qcompiler.passes.correct_bias import CorrectBias

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, run, weight
from .small_models import small_vit

F32 = np.float32
OUT = "float[batch, 5, 2] y"
LAYER = "[fc] m = MatMul (x, w)  y = Add (m, b)"
SHIFT = np.array([0.5, -2], F32)


def model(body=LAYER, outputs=OUT, **extra):
    constants = {"w": np.array([(1, 0), (0, 1), (1, 1), (2, 1)], F32), "b": np.array([10, 20], F32)}
    return model_of(f"agraph (float[batch, 5, 4] x) => ({outputs}) {{ {body} }}", **{**constants, **extra})


def passes(name="fc", shift=SHIFT):
    return lambda: CorrectBias({name: shift})


def test_golden():
    """Case 1."""
    check_golden(
        passes(),
        model(),
        """
        x = input [batch, 5, 4]
        %0 [batch, 5, 2] = MatMul(x, [[1, 0], [0, 1], [1, 1], [2, 1]])  # fc
        %1 [batch, 5, 2] = Add(%0, [10.5, 18])  # Add_1
        y = output %1
        """,
    )


def test_golden_without_bias():
    """Case 2, an output of the graph."""
    check_golden(
        passes(),
        model("[fc] y = MatMul (x, w)"),
        """
        x = input [batch, 5, 4]
        %0 [batch, 5, 2] = MatMul(x, [[1, 0], [0, 1], [1, 1], [2, 1]])  # fc
        %1 [batch, 5, 2] = Add(%0, [0.5, -2])  # fc/Add
        y = output %1
        """,
    )


APPLICABLE = {
    "bias": model(),
    "no bias": model("[fc] y = MatMul (x, w)"),
    "a bias that two layers share": model(
        "[fc] m = MatMul (x, w)  a = Add (m, b)  [fc2] k = MatMul (x, w)  c = Add (k, b)  y = Mul (a, c)"
    ),
    "a result read twice": model("[fc] m = MatMul (x, w)  a = Relu (m)  e = Add (m, b)  y = Add (a, e)"),
    "a bias for every token": model(b=weight(5, 2)),
}


def test_not_applicable():
    """Case 3: layers that the plan does not name."""
    check_unchanged(lambda: CorrectBias({}), model())
    graph, _ = applied(passes(), APPLICABLE["a bias that two layers share"])
    biases = {node.name: node.inputs[1].values.tolist() for node in graph.nodes if node.op == "Add"}
    assert biases == {"Add_1": [10.5, 18], "Add_3": [10, 20]}


@pytest.mark.parametrize("case", ["bias", "no bias", "a bias that two layers share"])
def test_idempotent(case):
    check_idempotent(passes(), APPLICABLE[case])


def test_idempotent_where_both_readers_of_a_bias_are_corrected():
    check_idempotent(lambda: CorrectBias({"fc": SHIFT, "fc2": -SHIFT}), APPLICABLE["a bias that two layers share"])


def test_idempotent_in_a_file():
    """The mark is a name: it survives writing and reading."""
    graph, _ = applied(passes(), model())
    (report,) = run_passes(to_graph(to_model(graph)), [passes()()])
    assert report.applied == 0


def test_a_plan_for_another_graph():
    for name in ("fc9", "Add_1"):
        with pytest.raises(VerificationError, match=f"the plan names '{name}', which is no linear layer of the graph"):
            applied(passes(name), model())
    with pytest.raises(VerificationError, match=r"the correction of 'fc' is for \(3,\), not \(2,\)"):
        applied(passes(shift=np.ones(3, F32)), model())


@pytest.mark.parametrize("case", APPLICABLE)
def test_numerical_oracle(case):
    """The correction of a layer moves what it moves in NumPy, and a correction of nothing moves nothing."""
    check_equal(passes(shift=np.zeros(2, F32)), APPLICABLE[case], 0, x=weight(3, 5, 4))
    if case in ("bias", "no bias", "a bias for every token"):
        x = weight(3, 5, 4, seed=1)
        graph, _ = applied(passes(), APPLICABLE[case])
        (before,), (after,) = run(APPLICABLE[case], {"x": x}), run(to_model(graph), {"x": x})
        np.testing.assert_allclose(after, before + SHIFT, rtol=1e-6, atol=1e-5)


def test_numerical_oracle_of_a_transformer():
    """The head of a small model: all its outputs move by the correction."""
    graph = to_graph(small_vit())
    run_passes(graph, [item() for item in CANONICALISE])
    made = to_model(graph)
    names = [node.name for node in graph.nodes if node.op == "MatMul"]
    head = names[-1]
    width = next(node for node in graph.nodes if node.name == head).inputs[1].shape[1]
    shift = weight(width, seed=2)
    x = weight(3, 3, 4, 4, seed=4)
    corrected, report = applied(lambda: CorrectBias({head: shift}), made)
    assert report.applied == 1
    (before,), (after,) = run(made, {"x": x}), run(to_model(corrected), {"x": x})
    np.testing.assert_allclose(after, before + shift, rtol=1e-5, atol=1e-5)
