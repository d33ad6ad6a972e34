"""The attribute `normalize`: kernels against the definition, and against the function body of the same name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler import runtime_ops
from qcompiler.ir.functions import functions_for

from . import normalized, reference
from .nodes import F32, MODES, WIDEST, Node, linear_node, one_group, plain, random_table, random_weight

OPERATORS = {
    "GroupLinear": {},
    "GroupLinearGelu": {"gelu": True},
    "GroupLinearAdd": {"residual": True},
    "LayerNormGroupLinear": {"norm": True},
    "LayerNormGroupLinearGelu": {"norm": True, "gelu": True},
}
GELU_ABSOLUTE, GELU_RELATIVE = 1e-6, 4e-6  # float32 erf, times a value of this size


def constants(seed: int, mode: str, channels: int, outputs: int, bits: int, count: int, int4: bool) -> dict[str, Any]:
    """Random constants and attributes of a layer that normalises its rows."""
    rng = np.random.default_rng(seed)
    axis, segments = MODES[mode]
    return {
        "weight": random_weight(rng, channels, outputs, int4),
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "groups": random_table(rng, mode, bits, count),
        "bias": rng.normal(size=outputs).astype(F32),
        "bits": bits,
        "axis": axis,
        "segments": segments,
        "normalize": 1,
    }


def layer(rest: dict[str, Any], operator: str, *, int4: bool = False, rank: int = 3) -> tuple[Node, dict[str, Any]]:
    """The node of one operator, and its LayerNormalization: gamma, beta, epsilon."""
    parts = dict(OPERATORS[operator])
    rng = np.random.default_rng(17)
    channels = len(rest["weight"])
    norm = (rng.uniform(0.5, 2, channels).astype(F32), rng.normal(size=channels).astype(F32))
    extra: dict[str, Any] = {"epsilon": 1e-6, "norm": norm} if parts.pop("norm", False) else {}
    extra |= {"approximate": "none"} if parts.get("gelu") else {}
    return linear_node(**rest, **parts, **extra, int4=int4, rank=rank), extra


@pytest.mark.parametrize("int4", [False, True], ids=["int8", "int4"])
@pytest.mark.parametrize(
    ("shape", "outputs"), [((1, 1, 1), 1), ((7, 4), 5), ((2, 13, 37), 19), ((2, 2, 9, 64), 33), ((1, 197, 192), 80)]
)
@pytest.mark.parametrize("mode", MODES)
def test_definition(cpu_path: str, mode: str, shape: tuple[int, ...], outputs: int, int4: bool) -> None:
    """Rows with exact norms: the same bits as the definition. x / r, acc * outer * r in another order would show."""
    for bits in (4, WIDEST[mode]):
        rest = constants(shape[-1] + bits, mode, shape[-1], outputs, bits, 5, int4)
        x = normalized.exact_rows(np.random.default_rng(shape[-2]), shape)
        y = linear_node(**rest, int4=int4, rank=x.ndim).run({"X": x})
        np.testing.assert_array_equal(y, normalized.linear(x, **rest)[0])


@pytest.mark.parametrize("mode", MODES)
def test_it_is_off_by_default(cpu_path: str, mode: str) -> None:
    """0 and absent are the same, and 1 is not."""
    rest = constants(3, mode, 24, 7, 4, 3, False)
    x = normalized.exact_rows(np.random.default_rng(3), (2, 5, 24))
    on = linear_node(**rest).run({"X": x})
    off = linear_node(**{**rest, "normalize": 0}).run({"X": x})
    del rest["normalize"]
    np.testing.assert_array_equal(off, linear_node(**rest).run({"X": x}))
    np.testing.assert_array_equal(off, reference.linear(x, **rest)[0])
    assert np.any(on != off)


@pytest.mark.parametrize("value", [-1, 2])
def test_wrong_value(library: str, value: int) -> None:
    node = linear_node(np.eye(4, dtype=np.int8), one_group(), normalize=value)
    with pytest.raises(Exception, match=f"attribute 'normalize' is {value}, expected 0 or 1"):
        node.session()


@pytest.mark.parametrize("mode", MODES)
def test_operands_are_those_of_the_divided_row(cpu_path: str, mode: str) -> None:
    """Identity weights, steps of 1/5: a row 5 s (1, -1, ..) reads back as itself, whatever s is."""
    x = normalized.exact_rows(np.random.default_rng(0), (1, 6, 8), zero_rows=1)
    node = linear_node(np.eye(8, dtype=np.int8), **plain(mode, 0.2), normalize=1)
    # 1e-6: 0.2 and 1 / (5 s) are rounded; a code that is off by one would show as 0.2 of the row's norm.
    np.testing.assert_allclose(node.run({"X": x}), x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_zeros(cpu_path: str, mode: str) -> None:
    """They are divided by 1: the bias comes out, not NaN, and they count as zeros in the ranges of the channels."""
    rest = constants(5, mode, 40, 21, 4, 4, False)
    some = normalized.exact_rows(np.random.default_rng(5), (3, 11, 40), zero_rows=14)
    for x in (some, np.zeros((2, 3, 40), F32)):
        y = linear_node(**rest).run({"X": x})
        np.testing.assert_array_equal(y, normalized.linear(x, **rest)[0])
        np.testing.assert_array_equal(y[0, :3], np.broadcast_to(rest["bias"], (3, 21)))


@pytest.mark.parametrize("mode", MODES)
def test_a_factor_per_row_passes_through(cpu_path: str, mode: str) -> None:
    """Powers of two are exact everywhere: they reach the output and change no code, also in a neighbour's range."""
    rest = constants(6, mode, 48, 20, 4, 4, True) | {"bias": np.zeros(20, F32)}
    x = np.random.default_rng(6).normal(size=(2, 17, 48)).astype(F32)
    factor = np.exp2(np.random.default_rng(7).integers(-8, 9, (2, 17, 1))).astype(F32)
    session = linear_node(**rest, int4=True).session()
    y = session.run(None, {"X": x})[0]
    np.testing.assert_array_equal(session.run(None, {"X": x * factor})[0], y * factor)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch", [1, 8])
def test_operators(cpu_path: str, mode: str, operator: str, batch: int) -> None:
    """Every operator of the family, on random rows: only a code next to a rounding boundary may fall to either side."""
    rng = np.random.default_rng(8)
    rest = constants(8, mode, 50, 36, 6, 1, False)
    node, extra = layer(rest, operator)
    x = (rng.normal(size=(batch, 14, 50)) * rng.uniform(0.1, 30, (batch, 14, 1))).astype(F32)
    x[0, 0] = 0
    feeds = {"X": x}
    prepared = reference.layer_norm(x, *extra["norm"], extra["epsilon"]) if "norm" in extra else x
    expected, slack = normalized.linear(prepared, **rest)
    if "approximate" in extra:
        expected, slack = reference.gelu(expected), slack * 1.13  # the steepest slope of GELU
    if operator == "GroupLinearAdd":
        feeds["residual"] = rng.normal(size=expected.shape).astype(F32)
        expected = expected + feeds["residual"]
    y = node.run(feeds)
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    assert np.all(np.abs(y - expected) <= slack + 1e-5 + 1e-5 * np.abs(expected))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("mode", MODES)
def test_kernel_and_body_agree(cpu_path: str, mode: str, operator: str) -> None:
    """The same file without the library: standard operators of ONNX, optimisations off.

    Integers and norms are exact in both. Free scales are added per group by the kernel, per channel by the body; its
    LayerNormalization and GELU are ONNX Runtime's.
    """
    rest = constants(9, mode, 32, 20, 4, 4, True)
    node, extra = layer(rest, operator, int4=True)
    x = normalized.exact_rows(np.random.default_rng(9), (2, 9, 32), zero_rows=1)
    x[1, 0, :] = 0
    slack: Any = 0
    if "norm" in extra:
        prepared = reference.layer_norm(x, *extra["norm"], extra["epsilon"])
        divided, _ = normalized.divide_rows(prepared)
        assert not normalized.is_ambiguous(divided, rest["groups"], rest["axis"])
        slack = 1.13 * normalized.linear(prepared, **rest)[1]
    feeds = {"X": x}
    if operator == "GroupLinearAdd":
        feeds["residual"] = np.random.default_rng(10).normal(size=(2, 9, 20)).astype(F32)
    model = node.model(functions=functions_for([operator]))
    kernel = runtime_ops.session(model, threads=1, library=True).run(None, feeds)[0]
    body = runtime_ops.session(model, threads=1, library=False, optimize=False).run(None, feeds)[0]
    if mode == "segments" or "norm" in extra or "approximate" in extra:
        # 2e-5 of the largest output: sums of 32 rounded products cancel.
        assert np.all(np.abs(kernel - body) <= slack + 2e-5 * np.abs(body).max())
    else:
        np.testing.assert_array_equal(kernel, body)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("mode", MODES)
def test_batches_and_threads(cpu_path: str, mode: str, operator: str) -> None:
    """Eight images are a stack of single ones, and two threads give the same bits as one."""
    rng = np.random.default_rng(11)
    node, _ = layer(constants(11, mode, 64, 70, 4, 5, True), operator, int4=True)
    feeds = {"X": (rng.normal(size=(8, 33, 64)) * rng.uniform(0.1, 9, (8, 33, 1))).astype(F32)}
    if operator == "GroupLinearAdd":
        feeds["residual"] = rng.normal(size=(8, 33, 70)).astype(F32)
    one, two = node.session(1), node.session(2)
    together = one.run(None, feeds)[0]
    np.testing.assert_array_equal(two.run(None, feeds)[0], together)
    for i in (0, 7):
        single = {name: value[i : i + 1] for name, value in feeds.items()}
        np.testing.assert_array_equal(one.run(None, single)[0][0], together[i])
        np.testing.assert_array_equal(two.run(None, single)[0][0], together[i])
