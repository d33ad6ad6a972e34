"""What is kept of streamed tensors: bounded, fair, the same whatever the batches, and equal to the direct formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qcompiler.calibration.accumulators import InstanceSample, ItemRanges, Normalized, Reservoir, as_instances
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.row_norm import normalize_rows

F = np.float32


def numbered(count):
    """One row per number."""
    return np.arange(count, dtype=F)[:, None]


def streamed(accumulator, x, sizes):
    """Everything of `x` in batches of the given sizes, then of one."""
    begin = 0
    for size in [*sizes, *[1] * len(x)]:
        if begin < len(x):
            accumulator.add(x[begin : begin + size])
            begin += size
    return accumulator.result()


def kept_bytes(result):
    return sum(array.nbytes for array in result.values())


def test_as_instances():
    x = np.arange(24, dtype=F)
    assert as_instances(x.reshape(2, 3, 4)).shape == (2, 3, 4)
    assert as_instances(x.reshape(2, 3, 2, 2)).shape == (6, 2, 2)
    matrix = as_instances(x.reshape(6, 4))
    assert matrix.shape == (6, 1, 4)  # pooled: every image is an instance of one row
    np.testing.assert_array_equal(matrix[:, 0], x.reshape(6, 4))


def test_reservoir_keeps_everything_that_fits():
    np.testing.assert_array_equal(streamed(Reservoir(10), numbered(7), [3]), numbered(7))
    np.testing.assert_array_equal(streamed(Reservoir(7), numbered(7), [3]), numbered(7))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 60), st.lists(st.integers(1, 20), max_size=6))
def test_reservoir_is_a_sample_whatever_the_batches(capacity, count, sizes):
    found = streamed(Reservoir(capacity), numbered(count), sizes)
    assert found.shape == (min(capacity, count), 1)
    assert len(set(found.ravel().tolist())) == len(found)  # without replacement
    assert set(found.ravel().tolist()) <= set(range(count))
    np.testing.assert_array_equal(found, streamed(Reservoir(capacity), numbered(count), [count]))


def test_reservoir_is_uniform():
    """How often each of 40 rows is among 8 kept ones over 4000 seeds, against equal frequencies."""
    runs, count, capacity = 4000, 40, 8
    kept = np.zeros(count)
    for seed in range(runs):
        reservoir = Reservoir(capacity, seed)
        for begin in (0, 5, 23):
            reservoir.add(numbered(count)[begin : {0: 5, 5: 23, 23: 40}[begin]])
        kept[reservoir.result().ravel().astype(int)] += 1
    assert kept.sum() == runs * capacity
    # Draws without replacement vary less than a multinomial: the statistic is scaled to its true variance.
    scale = (count - capacity) / (count - 1)
    statistic = ((kept - kept.mean()) ** 2 / kept.mean()).sum() / scale
    assert 1e-3 < stats.chi2.sf(statistic, count - 1) < 1 - 1e-3


def test_reservoir_seeds():
    first, again, other = (streamed(Reservoir(5, seed), numbered(100), [9]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_reservoir_result_is_a_copy():
    reservoir = Reservoir(3)
    reservoir.add(numbered(3))
    reservoir.result()[:] = -1
    np.testing.assert_array_equal(reservoir.result(), numbered(3))


def test_empty_reservoir():
    with pytest.raises(ValueError, match="nothing"):
        Reservoir(3).result()


@pytest.mark.parametrize(("shape", "kept"), [((197, 192), 16), ((1, 192), 341), ((3136, 96), 6), ((49, 32), 41)])
def test_instance_sample_is_bounded(shape, kept):
    """ViT tokens, a pooled row, early Swin tokens, one window: by number, by bytes, or by both."""
    sample = InstanceSample()
    x = np.ones((50, *shape), F)
    sizes = []
    for _ in range(max(2 * kept // 50, 2)):
        sample.add(x)
        sizes.append(sample.result()["sample"].shape)
    assert sizes[-1] == (kept, *shape)
    assert kept_bytes(sample.result()) <= InstanceSample.MOST_BYTES


def test_instance_sample_of_heads():
    sample = InstanceSample()
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(F)
    sample.add(x)
    np.testing.assert_array_equal(sample.result()["sample"], x.reshape(6, 5, 4))


def test_nothing_was_added():
    assert InstanceSample().result() == {}


@pytest.mark.parametrize(("axis", "reduced"), [(CHANNELS, 1), (ROWS, 2)])
def test_item_ranges(axis, reduced):
    x = np.random.default_rng(1).standard_normal((6, 5, 4)).astype(F)
    ranges = ItemRanges(axis)
    found = streamed(ranges, x, [4])[f"ranges{axis}"]
    np.testing.assert_array_equal(found, np.stack([x.min(reduced).ravel(), x.max(reduced).ravel()], axis=1))


def test_item_ranges_are_bounded():
    ranges = ItemRanges(ROWS)
    for _ in range(3):
        ranges.add(np.zeros((10, 1000, 2), F))
    assert ranges.result()["ranges-2"].shape == (ItemRanges.CAPACITY, 2)


def test_normalized():
    x = np.random.default_rng(2).standard_normal((6, 5, 4)).astype(F)
    both = Normalized(ItemRanges(ROWS), InstanceSample())
    both.add(x)
    found = both.result()
    assert sorted(found) == ["ranges-2", "sample"]
    np.testing.assert_array_equal(found["sample"], normalize_rows(x))
    np.testing.assert_array_equal(found["ranges-2"][:, 1], normalize_rows(x).max(2).ravel())
