import numpy as np
import pytest

from qcompiler.passes.pad_tokens import PadTokens

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

EXPAND = "shape = Shape <start = 0, end = 1> (x)  target = Concat <axis = 0> (shape, ones)  c = Expand (cls, target)"
BODIES = {
    "class token and position": EXPAND + "  t = Concat <axis = 1> (c, x)  y = Add (t, pos)",
    "position first": EXPAND + "  t = Concat <axis = 1> (c, x)  y = Add (pos, t)",
    "no position": EXPAND + "  y = Concat <axis = 1> (c, x)",
    "token after": EXPAND + "  t = Concat <axis = 1> (x, c)  y = Add (t, pos)",
    "two tokens": EXPAND + "  d = Expand (other, target)  t = Concat <axis = 1> (c, d, x)  y = Add (t, pos)",
}


def graph(case="class token and position"):
    body = BODIES[case]
    tokens = 6 if case == "two tokens" else 5
    values = {
        "ones": np.array([1, 8]),
        "cls": weight(1, 1, 8),
        "other": weight(1, 1, 8, seed=5),
        "pos": weight(1, tokens, 8, seed=1),
    }
    text = f"agraph (float[batch, 4, 8] x) => (float[batch, {tokens}, 8] y) {{ {body} }}"
    return model_of(text, **values)


def test_golden():
    check_golden(
        PadTokens,
        graph(),
        """
        x = input [batch, 4, 8]
        %0 [batch, 5, 8] = Pad(x, [0, 1, 0, 0, 0, 0]; mode=constant)  # /tokens/Pad
        %1 [batch, 5, 8] = Add(%0, tokens/embedding:float32[1, 5, 8])  # /tokens/Add
        y = output %1
        """,
    )


def test_not_applicable():
    text = "agraph (float[batch, 4, 8] x) => (float[batch, 8, 8] y) { r = Relu (x)  y = Concat <axis = 1> (x, r) }"
    check_unchanged(PadTokens, model_of(text))


def test_other_uses_of_the_batch_stay():
    other_axis = EXPAND.replace("ones", "four") + "  y = Concat <axis = 2> (c, x)"
    text = f"agraph (float[batch, 4, 8] x) => (float[batch, 4, 16] y) {{ {other_axis} }}"
    model = model_of(text, four=np.array([4, 8]), cls=weight(1, 1, 8))
    check_unchanged(PadTokens, model, reason="not a join of tokens")


@pytest.mark.parametrize("case", BODIES)
def test_idempotent(case):
    check_idempotent(PadTokens, graph(case))


@pytest.mark.parametrize("case", BODIES)
def test_numerical_oracle(case):
    check_equal(PadTokens, graph(case), 0.0, x=weight(3, 4, 8, seed=2))


@pytest.mark.parametrize("case", BODIES)
def test_batch_is_not_asked_for(case):
    graph_, _ = applied(PadTokens, graph(case))
    assert [node.op for node in graph_.nodes] == ["Pad", "Add"]
