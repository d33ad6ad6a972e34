"""One run of the data through a small model answers all requests."""

import numpy as np
import onnx
import onnx.parser
import pytest

from qcompiler.calibration.collector import activations, collect
from qcompiler.calibration.statistics import Request
from qcompiler.errors import CalibrationDataError, NonFiniteError
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.row_norm import normalize_rows

F = np.float32
MODEL = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["": 21]>
    g (float[n, 3, 4] x) => (float[n, 3, 4] z) { h = Log (x)  z = Mul (h, h) }"""
)


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


def stacked(feeds):
    return np.concatenate([feed["x"] for feed in feeds])


def test_every_request_is_answered():
    feeds = images(4)
    requests = [
        Request("x", axes=(CHANNELS, ROWS), normalize=True),
        Request("h"),
        Request("z", sample=False, axes=(ROWS,)),
    ]
    found = collect(MODEL, requests, Reader(feeds), threads=1, source={"kind": "npz"})
    assert found.images == 4
    assert found.source == {"kind": "npz"}
    held = {tensor: sorted(arrays) for tensor, arrays in found.tensors.items()}
    assert held == {"x": ["ranges-1", "ranges-2", "sample"], "h": ["sample"], "z": ["ranges-2"]}
    x = stacked(feeds)
    np.testing.assert_array_equal(found.get("x", "sample"), x)  # as it is: only ranges are of normalised rows
    unit = normalize_rows(x)
    for axis, name in ((1, "ranges-1"), (2, "ranges-2")):
        expected = np.stack([unit.min(axis).ravel(), unit.max(axis).ravel()], axis=1)
        np.testing.assert_array_equal(found.get("x", name), expected)
    np.testing.assert_allclose(found.get("h", "sample"), np.log(x), rtol=0, atol=1e-6)
    ranges = found.get("z", "ranges-2")
    np.testing.assert_allclose(ranges[:, 1], (np.log(x.astype(np.float64)) ** 2).max(2).ravel(), rtol=1e-5)


def test_batches_do_not_matter():
    feeds = images(6)
    whole = [{"x": stacked(feeds)}]
    requests = [Request("x", axes=(CHANNELS,)), Request("h", axes=(ROWS,))]
    one, all_at_once = (collect(MODEL, requests, Reader(given), threads=1) for given in (feeds, whole))
    assert one.images == all_at_once.images == 6
    for tensor, arrays in one.tensors.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, all_at_once.tensors[tensor][name])


def test_size_does_not_grow_with_the_images():
    requests = [Request("x", axes=(CHANNELS, ROWS)), Request("h", axes=(ROWS,))]
    sizes = []
    for count in (12, 24):
        found = collect(MODEL, requests, Reader(images(count, batch=500)), threads=1)
        sizes.append([array.nbytes for arrays in found.tensors.values() for array in arrays.values()])
    assert sizes[0] == sizes[1]


def test_starts_from_the_beginning():
    reader = Reader(images(3))
    reader.get_next()
    assert collect(MODEL, [Request("h")], reader, threads=1).images == 3
    assert reader.rewinds == 1


def test_a_reader_without_rewind_is_read_as_it_is():
    reader = Reader(images(3))
    once = type("Once", (), {"get_next": reader.get_next})()
    assert collect(MODEL, [Request("h")], once, threads=1).images == 3


def test_progress():
    told = []
    collect(MODEL, [Request("h")], Reader(images(3, batch=2)), threads=1, progress=told.append)
    assert told == [2, 4, 6]


@pytest.mark.parametrize("value", [-1.0, 0.0], ids=["nan", "infinity"])
def test_non_finite_activation_names_tensor_and_image(value):
    feeds = images(4)
    feeds[2]["x"][0, 1, 2] = value
    with pytest.raises(NonFiniteError, match=r"activation 'h'.* image 3:"):
        collect(MODEL, [Request("x"), Request("h"), Request("z")], Reader(feeds), threads=1)


def test_both_infinities_do_not_cancel():
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> g (float[n, 3, 4] x) => (float[n, 3, 4] z) {
        h = Reciprocal (x)  z = Identity (h) }"""
    )
    feed = np.ones((1, 3, 4), F)
    feed[0, 0, 0], feed[0, 0, 1] = 0.0, -0.0
    with pytest.raises(NonFiniteError, match="'h'"):
        collect(model, [Request("h")], Reader([{"x": feed}]), threads=1)


def test_the_image_within_a_batch():
    feeds = images(2, batch=4)
    feeds[1]["x"][2, 0, 0] = -1
    with pytest.raises(NonFiniteError, match="image 7:"):
        collect(MODEL, [Request("h")], Reader(feeds), threads=1)


def test_no_images():
    with pytest.raises(CalibrationDataError, match="empty"):
        collect(MODEL, [Request("h")], Reader([]), threads=1)


def test_the_model_is_not_changed():
    before = MODEL.SerializeToString()
    collect(MODEL, [Request("h")], Reader(images(1)), threads=1)
    assert MODEL.SerializeToString() == before


def test_activations_feed_by_feed():
    """In the order of the tensors asked for, each as it comes: nothing is gathered."""
    feeds = images(3, batch=2)
    reader = Reader(feeds)
    for number, (count, values) in enumerate(activations(MODEL, ["z", "x"], reader, threads=1)):
        assert reader.place == number + 1
        assert count == 2 * (number + 1)
        assert list(values) == ["z", "x"]
        np.testing.assert_array_equal(values["x"], feeds[number]["x"])
        np.testing.assert_allclose(values["z"], np.log(feeds[number]["x"]) ** 2, rtol=0, atol=1e-6)
    assert number == 2


def test_activations_of_an_empty_reader():
    with pytest.raises(CalibrationDataError, match="empty"):
        list(activations(MODEL, ["x"], Reader([]), threads=1))
