"""Linear operators with free scales against the definition: bit by bit where the definition fixes every rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import reference
from .nodes import F32, MODES, WIDEST, linear_node, one_group, random_table, random_weight, table

PROPERTY = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
GELU_ABSOLUTE, GELU_RELATIVE = 1e-6, 4e-6  # float32 erf or tanh, times a value of this size


def case(
    seed: int, mode: str, shape: tuple[int, ...], outputs: int, bits: int, count: int, int4: bool
) -> dict[str, Any]:
    """A random problem: run-time input, constants and attributes."""
    rng = np.random.default_rng(seed)
    axis, segments = MODES[mode]
    return {
        "x": (rng.normal(size=shape) * rng.uniform(0.2, 2, shape[-1])).astype(F32),
        "weight": random_weight(rng, shape[-1], outputs, int4),
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "groups": random_table(rng, mode, bits, count),
        "bias": rng.normal(size=outputs).astype(F32),
        "bits": bits,
        "axis": axis,
        "segments": segments,
    }


def split(problem: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    return problem["x"], {name: value for name, value in problem.items() if name != "x"}


@PROPERTY
@given(
    seed=st.integers(0, 2**31),
    mode=st.sampled_from(sorted(MODES)),
    leading=st.lists(st.integers(1, 3), max_size=2),
    tokens=st.integers(1, 40),
    channels=st.integers(1, 150),
    outputs=st.integers(1, 70),
    bits=st.integers(2, 8),
    count=st.integers(1, 9),
    int4=st.booleans(),
)
def test_definition(
    cpu_path: str,
    seed: int,
    mode: str,
    leading: list[int],
    tokens: int,
    channels: int,
    outputs: int,
    bits: int,
    count: int,
    int4: bool,
) -> None:
    """Any shape, width, table and weight type: the same bits as the definition."""
    bits = min(bits, WIDEST[mode])
    x, rest = split(case(seed, mode, (*leading, tokens, channels), outputs, bits, count, int4))
    y = linear_node(**rest, int4=int4, rank=x.ndim).run({"X": x})
    np.testing.assert_array_equal(y, reference.linear(x, **rest)[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("int4", [False, True])
def test_transformer_sizes(cpu_path: str, mode: str, int4: bool) -> None:
    """197 tokens, 192 -> 576: several blocks of every kernel, a last one that is not full."""
    x, rest = split(case(1, mode, (2, 197, 192), 576, 4, 8, int4))
    y = linear_node(**rest, int4=int4).run({"X": x})
    np.testing.assert_array_equal(y, reference.linear(x, **rest)[0])


@pytest.mark.parametrize("mode", MODES)
def test_residual(cpu_path: str, mode: str) -> None:
    """The residual is added last, with a rounding of its own."""
    x, rest = split(case(2, mode, (2, 9, 24), 33, 6, 3, False))
    residual = np.random.default_rng(3).normal(size=(2, 9, 33)).astype(F32)
    y = linear_node(**rest, residual=True).run({"X": x, "residual": residual})
    np.testing.assert_array_equal(y, reference.linear(x, **rest)[0] + residual)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("mode", MODES)
def test_gelu(cpu_path: str, mode: str, approximate: str) -> None:
    x, rest = split(case(4, mode, (2, 13, 40), 50, 5, 4, True))
    y = linear_node(**rest, gelu=True, int4=True, approximate=approximate).run({"X": x})
    expected = reference.gelu(reference.linear(x, **rest)[0], approximate)
    np.testing.assert_allclose(y, expected, rtol=GELU_RELATIVE, atol=GELU_ABSOLUTE)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_over_its_range(cpu_path: str, approximate: str) -> None:
    """Where the function is curved, where it is 0 or x, and far beyond, where a polynomial would leave its interval."""
    points = np.concatenate([np.linspace(-12, 12, 481), [-1e4, -100, 100, 1e4]]).astype(F32)
    node = linear_node(
        np.zeros((4, len(points)), np.int8), one_group(), bias=points, gelu=True, approximate=approximate
    )
    y = node.run({"X": np.ones((1, 1, 4), F32)})[0, 0]
    np.testing.assert_allclose(y, reference.gelu(points, approximate), rtol=GELU_RELATIVE, atol=GELU_ABSOLUTE)


def test_layer_norm_exactly(cpu_path: str) -> None:
    """Rows of +a and -a have mean 0 and deviation a, so the normalized values are +-1 in any summation order."""
    rng = np.random.default_rng(5)
    signs = np.stack([rng.permutation(np.repeat([1, -1], 32)) for _ in range(11)]).astype(F32)
    x = signs[None] * np.array([1, 2, 4, 0.5, 8, 1, 2, 16, 32, 1, 4], F32)[:, None]
    gamma = rng.integers(1, 50, 64).astype(F32)
    beta = rng.integers(-50, 50, 64).astype(F32) + F32(0.25)
    w = random_weight(rng, 64, 20, False)
    y = linear_node(w, one_group(), norm=(gamma, beta), epsilon=0.0).run({"X": x})
    operands = np.rint(signs * gamma + beta).astype(np.int64)
    np.testing.assert_array_equal(y[0], operands @ w.astype(np.int64))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [24, 192, 250])
def test_layer_norm(cpu_path: str, mode: str, gelu: bool, channels: int) -> None:
    """Random rows with a large mean; only a code next to a rounding boundary may fall to either side."""
    rng = np.random.default_rng(channels)
    x, rest = split(case(6, mode, (2, 21, channels), 36, 6, 1, False))
    x = (x + rng.normal(size=(2, 21, 1)) * 3).astype(F32)
    gamma, beta = rng.uniform(0.5, 2, channels).astype(F32), rng.normal(size=channels).astype(F32)
    y = linear_node(**rest, norm=(gamma, beta), gelu=gelu, epsilon=1e-6).run({"X": x})
    expected, slack = reference.linear(reference.layer_norm(x, gamma, beta, 1e-6), **rest)
    if gelu:
        expected, slack = reference.gelu(expected), slack * 1.13  # the steepest slope of GELU
    assert np.mean(slack == 0) > 0.1, "the case must hold outputs that are fixed"
    assert np.all(np.abs(y - expected) <= slack + 1e-5 + 1e-5 * np.abs(expected))


@pytest.mark.parametrize("mode", MODES)
def test_batch_is_a_stack_of_single_images(cpu_path: str, mode: str) -> None:
    """An instance's groups and outputs depend on nothing else in the batch."""
    x, rest = split(case(7, mode, (8, 19, 48), 31, 4, 5, True))
    session = linear_node(**rest, int4=True).session()
    together = session.run(None, {"X": x})[0]
    for i in range(8):
        np.testing.assert_array_equal(together[i], session.run(None, {"X": x[i : i + 1]})[0][0])


def test_groups_that_no_item_takes(cpu_path: str) -> None:
    """A table with empty groups first, last and between; a segment of length 0 must add nothing."""
    x, rest = split(case(8, "segments", (1, 8, 16), 12, 4, 1, False))
    row = rest["groups"][0].copy()
    away = row.copy()
    away[:2] = (-1000, 1000)
    rest["groups"] = table([away, row, away, row, away])
    y = linear_node(**rest).run({"X": x})
    np.testing.assert_array_equal(y, reference.linear(x, **rest)[0])
