"""Linear operators where every output is an exact integer: scales 1, bias 0, so that Y is the accumulator itself."""

from __future__ import annotations

import numpy as np
import pytest

from .nodes import F32, MODES, linear_node, one_group, one_segment, plain, table


def identity(channels: int) -> np.ndarray:
    """With these weights the outputs are the operands."""
    return np.eye(channels, dtype=np.int8)


def rows_of(values: list[float], width: int = 4) -> np.ndarray:
    """One token per value, all its channels the same: `[1, len(values), width]`."""
    return np.repeat(np.asarray(values, F32)[None, :, None], width, axis=2)


@pytest.mark.parametrize("mode", MODES)
def test_rounding_is_half_to_even(cpu_path: str, mode: str) -> None:
    """0.5, 2.5 tell half-to-even from half-up, -0.5, -1.5 from half-away, 1.5 from truncation, -0.6 from floor."""
    values = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, -0.6, 3.4999998]
    expected = [0, 2, 2, 0, -2, -2, 0, -1, 3]
    y = linear_node(identity(4), **plain(mode)).run({"X": rows_of(values)})
    np.testing.assert_array_equal(y[0, :, 0], expected)


@pytest.mark.parametrize("mode", MODES)
def test_codes_clip_in_float(cpu_path: str, mode: str) -> None:
    """1e30 and infinity tell clipping in float from a conversion that overflows."""
    half = 2 ** (plain(mode)["bits"] - 1)
    most, least = half - 1, -half
    values = [most - 0.4, most + 0.6, 1000, 1e30, np.inf, least + 0.6, least + 0.4, least, least - 1, -1e30, -np.inf]
    expected = [most, most, most, most, most, least + 1, least, least, least, least, least]
    y = linear_node(identity(4), **plain(mode)).run({"X": rows_of(values)})
    np.testing.assert_array_equal(y[0, :, 0], expected)


def test_codes_clip_at_their_width(cpu_path: str) -> None:
    """4 bits, zero point 3: codes 0..15 are operands -3..12; anything wider than the codes shows as -4 or 13."""
    y = linear_node(identity(4), one_group(1.0, 3), bits=4).run({"X": rows_of([-3, -4, -100, 12, 13, 100])})
    np.testing.assert_array_equal(y[0, :, 0], [-3, -3, -3, 12, 12, 12])


@pytest.mark.parametrize(("zero_point", "least", "most"), [(0, 0, 255), (255, -255, 0), (3, -3, 252)])
@pytest.mark.parametrize(("axis", "segments"), [(-2, 0), (-1, 1)])
def test_operands_wider_than_a_signed_byte(
    cpu_path: str, axis: int, segments: int, zero_point: int, least: int, most: int
) -> None:
    """8-bit codes with an uncentred zero point: operands of 9 bits, in rows and in segments."""
    groups = one_segment(1.0, zero_point) if segments else one_group(1.0, zero_point)
    y = linear_node(identity(4), groups, axis=axis, segments=segments).run(
        {"X": rows_of([least - 1, least, 0, most, most + 1])}
    )
    np.testing.assert_array_equal(y[0, :, 0], [least, least, 0, most, most])


def test_inverse_of_the_scale_is_rounded_first(cpu_path: str) -> None:
    """The code is rint(x * float32(1 / scale)); x / scale rounds to the other neighbour for these pairs."""
    rng = np.random.default_rng(0)
    scale = F32(0.3)
    steps = rng.integers(-120, 120, 4000).astype(F32) + F32(0.5)
    x = (steps * scale).astype(F32)
    multiplied, divided = np.rint(x * (F32(1) / scale)), np.rint(x / scale)
    telling = np.flatnonzero(multiplied != divided)[:16]
    assert len(telling) == 16
    groups = table([(-1, 1, scale, 128, 1, scale)])
    y = linear_node(identity(4), groups).run({"X": rows_of(list(x[telling]))})
    np.testing.assert_array_equal(np.rint(y[0, :, 0] / scale), multiplied[telling])


def test_ties_of_the_assignment_take_the_lowest_group(cpu_path: str) -> None:
    """The range (-2, 2) lies as near to (-1, 1) as to (-3, 3); steps of 1 and 2 tell which group was taken."""
    x = rows_of([-2, 2, 1, -1])
    near, far = (-1, 1, 1, 8, 1, 1), (-3, 3, 2, 8, 2, 1)
    taken_near = linear_node(identity(4), table([near, far]), bits=4, axis=-1).run({"X": x})
    taken_far = linear_node(identity(4), table([far, near]), bits=4, axis=-1).run({"X": x})
    np.testing.assert_array_equal(taken_near[0, :, 0], [-2, 2, 1, -1])
    np.testing.assert_array_equal(taken_far[0, :, 0], [-2, 2, 0, 0])  # 1 in steps of 2 is rint(0.5) = 0


def test_assignment_is_per_instance(cpu_path: str) -> None:
    """The same channel goes to another group in another instance; sharing the first instance's groups would show."""
    groups = table([(-1, 1, 1, 8, 1, 1), (-8, 8, 2, 8, 2, 1)])
    x = np.zeros((2, 2, 4), F32)
    x[0, :, 0], x[1, :, 0] = (1, -1), (7, -7)
    y = linear_node(identity(4), groups, bits=4, axis=-1).run({"X": x})
    np.testing.assert_array_equal(y[:, :, 0], [[1, -1], [8, -8]])  # 7 in steps of 2 is rint(3.5) = 4


@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 2), (197, 192, 40), (1, 64, 1), (33, 257, 17)])
def test_accumulators_at_the_extremes(cpu_path: str, shape: tuple[int, int, int], int4: bool) -> None:
    """Every product has the largest magnitude; an accumulator or a pair sum of 16 bits overflows here."""
    tokens, channels, outputs = shape
    low, high = (-8, 7) if int4 else (-127, 127)
    for zero_point, operand in ((128, 127), (128, -127), (0, 255), (255, -255)):
        for weight in (low, high):
            x = np.full((1, tokens, channels), operand, F32)
            w = np.full((channels, outputs), weight, np.int8)
            y = linear_node(w, one_group(1.0, zero_point), int4=int4).run({"X": x})
            np.testing.assert_array_equal(y, np.full((1, tokens, outputs), operand * weight * channels, F32))


@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 6), (2, 3, 4, 6)])
@pytest.mark.parametrize("mode", MODES)
def test_ranks(cpu_path: str, shape: tuple[int, ...], mode: str) -> None:
    """Leading axes are instances, whatever their number."""
    rng = np.random.default_rng(len(shape))
    x = rng.integers(-5, 6, shape).astype(F32)
    w = rng.integers(-127, 128, (6, 5)).astype(np.int8)
    y = linear_node(w, **plain(mode), rank=len(shape)).run({"X": x})
    np.testing.assert_array_equal(y, x @ w.astype(F32))


def test_empty_batch(cpu_path: str) -> None:
    y = linear_node(identity(4), one_group()).run({"X": np.zeros((0, 7, 4), F32)})
    assert y.shape == (0, 7, 4)
