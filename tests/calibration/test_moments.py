"""Streamed moments against sums over all rows at once, and which images they are taken over."""

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.calibration.collector import activations
from qcompiler.calibration.moments import MomentAccumulator, channel_energy, collect_moments
from qcompiler.errors import CalibrationDataError, NonFiniteError
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.groups import CHANNELS, ROWS, GroupTable
from qcompiler.quant.inputs import LinearInput

F = np.float32
MODEL = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["": 21]>
    g (float[n, 3, 4] x) => (float[n, 3, 4] z) { h = Log (x)  z = Mul (h, h) }"""
)
BLOCKS = LinearInput(BlockQuantizer(4, 2, rotate=2))


def table(step):
    one = np.ones(1, F)
    return LinearInput(GroupTable(-one, one, one * F(step), one * 8, one, one * F(step), ROWS, 4))


ITEMS = {"blocks": BLOCKS, "rows": table(0.2), "plain": LinearInput(table(0.5).quantizer, normalize=False)}


class Reader:
    """Feeds from a list; counts the rewinds."""

    def __init__(self, feeds):
        self.feeds, self.place, self.rewinds = feeds, 0, 0

    def get_next(self):
        self.place += 1
        return self.feeds[self.place - 1] if self.place <= len(self.feeds) else None

    def rewind(self):
        self.place, self.rewinds = 0, self.rewinds + 1


def images(count, batch=1, seed=0):
    draw = np.random.default_rng(seed)
    return [{"x": draw.uniform(0.5, 3, (batch, 3, 4)).astype(F)} for _ in range(count)]


def check(found, item, x):
    """Moments of all tokens of `x`, summed one by one in float64."""
    rows = [item.rows(token.reshape(1, 1, -1)) for token in x.reshape(-1, x.shape[-1])]
    seen, quantized = (np.concatenate([pair[i] for pair in rows]).astype(np.float64) for i in (0, 1))
    assert found.rows == len(seen)
    for moment, left, right in (
        (found.gram, quantized, quantized),
        (found.cross, quantized, seen),
    ):
        expected = sum(np.outer(a, b) for a, b in zip(left, right, strict=True))
        np.testing.assert_allclose(moment, expected, rtol=1e-5, atol=1e-5 * len(seen))


@pytest.mark.parametrize("kind", ITEMS)
@pytest.mark.parametrize(
    "shape", [(5, 3, 4), (2, 3, 5, 4), (7, 4), (1, 1, 4)], ids=["tokens", "heads", "pooled", "one"]
)
def test_sums_over_all_rows(kind, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(F)
    accumulator = MomentAccumulator(ITEMS[kind])
    accumulator.add(x, held_out=False)
    found, held_out = accumulator.result()
    check(found, ITEMS[kind], x)
    assert held_out is None
    np.testing.assert_allclose(channel_energy(ITEMS[kind], x), np.diag(found.gram), rtol=1e-5)


def test_pooled_images_do_not_share_their_channels():
    """Two groups of channels: every image of one row has ranges, and hence an assignment, of its own."""
    one = np.ones(2, F)
    bound = np.array([0.5, 4], F)
    item = LinearInput(GroupTable(-bound, bound, bound / 8, one * 8, bound / 8, one, CHANNELS, 4))
    x = (np.random.default_rng(0).standard_normal((40, 6)) ** 3).astype(F)
    accumulator = MomentAccumulator(item)
    accumulator.add(x, held_out=False)
    found, _ = accumulator.result()
    check(found, item, x)
    np.testing.assert_allclose(channel_energy(item, x), np.diag(found.gram), rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=6), st.integers(0, 999))
def test_batches_and_the_two_shares(batches, seed):
    """Whatever the batches; held-out ones apart, unless there is nothing else."""
    draw = np.random.default_rng(seed)
    given = [(draw.standard_normal((size, 3, 4)).astype(F), held_out) for size, held_out in batches]
    accumulator = MomentAccumulator(BLOCKS)
    for x, held_out in given:
        accumulator.add(x, held_out)
    share = {
        held_out: np.concatenate([x for x, other in given if other == held_out])
        for held_out in {held_out for _, held_out in given}
    }
    found, other = accumulator.result()
    check(found, BLOCKS, share.get(False, share.get(True)))
    if len(share) == 2:
        check(other, BLOCKS, share[True])
    else:
        assert other is None


def test_memory_does_not_grow():
    accumulator = MomentAccumulator(BLOCKS)
    for _ in range(3):
        accumulator.add(np.ones((4, 50, 6), F), held_out=False)
    found, _ = accumulator.result()
    assert {part.shape for part in (found.gram, found.cross)} == {(6, 6)}
    assert {part.dtype for part in (found.gram, found.cross)} == {np.dtype(F)}


def test_collected_over_every_image():
    """Two layers that read one tensor, and one that reads another; every fourth feed is held out."""
    inputs = {"a": ("h", BLOCKS), "b": ("h", ITEMS["rows"]), "c": ("x", ITEMS["plain"])}
    feeds, told = images(9, batch=2), []
    reader = Reader(feeds)
    reader.get_next()
    found = collect_moments(MODEL, inputs, reader, threads=1, progress=told.append)
    assert reader.rewinds == 1
    assert told == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert list(found) == ["a", "b", "c"]
    seen = [values for _, values in activations(MODEL, ["x", "h"], Reader(feeds), 1)]
    for name, (tensor, item) in inputs.items():
        values = [feed[tensor] for feed in seen]
        fitting, held_out = found[name]
        check(fitting, item, np.concatenate([x for number, x in enumerate(values) if number not in (3, 7)]))
        check(held_out, item, np.concatenate([values[3], values[7]]))


@pytest.mark.parametrize("count", [1, 3])
def test_few_feeds_are_all_for_fitting(count):
    fitting, held_out = collect_moments(MODEL, {"a": ("x", BLOCKS)}, Reader(images(count)), threads=1)["a"]
    assert fitting.rows == 3 * count
    assert held_out is None


@pytest.mark.parametrize("threads", [0, 2])
def test_threads_do_not_matter(threads):
    inputs = {f"layer{i}": ("x", ITEMS[kind]) for i, kind in enumerate([*ITEMS, *ITEMS])}
    one, many = (collect_moments(MODEL, inputs, Reader(images(5)), threads=n) for n in (1, threads))
    for name, moments in one.items():
        for left, right in zip(moments, many[name], strict=True):
            np.testing.assert_array_equal(left.gram, right.gram)
            np.testing.assert_array_equal(left.cross, right.cross)


def test_no_images():
    with pytest.raises(CalibrationDataError, match="empty"):
        collect_moments(MODEL, {"a": ("x", BLOCKS)}, Reader([]), threads=1)


def test_non_finite_activation():
    feeds = images(3)
    feeds[1]["x"][0, 1, 2] = -1
    with pytest.raises(NonFiniteError, match=r"activation 'h'.* image 2:"):
        collect_moments(MODEL, {"a": ("h", BLOCKS)}, Reader(feeds), threads=1)
