import numpy as np
import pytest

from qcompiler.passes.copy_tokens import CopyTokens

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

TARGET = "shape = Shape <start = 0, end = 1> (x)  target = Concat <axis = 0> (shape, rest)"
BODIES = {
    "constant": f"{TARGET}  y = Expand (queries, target)",
    "constant that spreads": f"{TARGET}  y = Expand (row, target)",
    "computed": f"""r = ReduceMean <keepdims = 1> (x, zero)  q = Slice (r, zero, five, one)
        {TARGET}  y = Expand (q, target)""",
    "tile": f"{TARGET.replace('rest', 'ones')}  y = Tile (queries, target)",
    "batch in the middle": """shape = Shape <start = 0, end = 1> (x)  target = Concat <axis = 0> (five, shape, eight)
        t = Expand (first, target)  y = Transpose <perm = [1, 0, 2]> (t)""",
}


def graph(case="constant"):
    values = {
        "rest": np.array([5, 8]),
        "ones": np.array([1, 1]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "five": np.array([5]),
        "eight": np.array([8]),
        "queries": weight(1, 5, 8),
        "first": weight(5, 1, 8),
        "row": weight(8),
    }
    return model_of(f"agraph (float[batch, 6, 8] x) => (float[batch, 5, 8] y) {{ {BODIES[case]} }}", **values)


def test_golden():
    check_golden(
        CopyTokens,
        graph("constant that spreads"),
        """
        x = input [batch, 6, 8]
        %0 [batch, 1, 1] = Slice(x, [0, 0], [1, 1], [1, 2])  # Expand_2/first
        %1 [batch, 1, 1] = Mul(%0, 0)  # Expand_2/none
        %2 [batch, 1, 1] = Reshape(%1, [-1, 1, 1])  # Expand_2/Reshape
        %3 [batch, 5, 8] = Add(Expand_2/once:float32[1, 5, 8], %2)  # Expand_2/copies
        y = output %3
        """,
    )


@pytest.mark.parametrize("op", ["Expand", "Tile"])
def test_not_applicable(op):
    text = f"agraph (float[batch, 1, 8] x) => (float[batch, 5, 8] y) {{ y = {op} (x, to) }}"
    check_unchanged(CopyTokens, model_of(text, to=np.array([1, 5, 8 if op == "Expand" else 1])))


REFUSED = {
    "several copies per image": (
        """shape = Shape <start = 0, end = 1> (x)  more = Mul (shape, four)
        target = Concat <axis = 0> (more, rest)  y = Expand (queries, target)""",
        "not one copy per image",
    ),
    "computed, spreads": (
        f"r = ReduceMean <keepdims = 1> (x, both)  {TARGET}  y = Expand (r, target)",
        "not copied along the batch alone",
    ),
    "integers": (f"{TARGET}  i = Expand (numbers, target)  y = Cast <to = 1> (i)", "not float"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_applicable_to_other_copies(case):
    body, reason = REFUSED[case]
    text = f"agraph (float[batch, 6, 8] x) => (float[copies, 5, 8] y) {{ {body} }}"
    constants = {"four": np.array([4]), "rest": np.array([5, 8]), "both": np.array([0, 1]), "numbers": np.arange(8)}
    check_unchanged(CopyTokens, model_of(text, queries=weight(1, 5, 8), **constants), reason=reason)


@pytest.mark.parametrize("case", BODIES)
def test_idempotent(case):
    check_idempotent(CopyTokens, graph(case))


@pytest.mark.parametrize("case", BODIES)
def test_numerical_oracle(case):
    check_equal(CopyTokens, graph(case), 0.0, x=weight(3, 6, 8, seed=2))


@pytest.mark.parametrize("case", BODIES)
def test_the_batch_is_not_asked_for(case):
    graph_, _ = applied(CopyTokens, graph(case))
    assert not {"Shape", "Expand", "Tile"} & {node.op for node in graph_.nodes}
