"""Second moments of float inputs against sums over all rows at once, and which images they are taken over."""

import numpy as np
import onnx.parser
import pytest

from qcompiler.calibration.input_powers import collect_powers, matrix_bytes
from qcompiler.errors import CalibrationDataError

F = np.float32
MODEL = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["": 21]>
    g (float[n, 3, 4] x) => (float[n, 3, 4] z) { h = Log (x)  z = Mul (h, h) }"""
)


def images(count, batch=1, seed=0):
    draw = np.random.default_rng(seed)
    return [{"x": draw.uniform(0.5, 3, (batch, 3, 4)).astype(F)} for _ in range(count)]


def expected(feeds, function):
    rows = np.concatenate([function(feed["x"].astype(np.float64)).reshape(-1, 4) for feed in feeds])
    rows /= np.sqrt(np.square(rows).mean(axis=1, keepdims=True))
    return rows.T @ rows


@pytest.mark.parametrize(("count", "batch"), [(4, 1), (9, 3)])
def test_every_fourth_feed_is_held_out(count, batch):
    feeds = images(count, batch)
    found = collect_powers(MODEL, ["h", "x"], feeds, threads=1)
    held = [feed for index, feed in enumerate(feeds) if index % 4 == 3]
    kept = [feed for index, feed in enumerate(feeds) if index % 4 != 3]
    for name, function in (("h", np.log), ("x", lambda x: x)):
        fitted, held_out = found[name]
        np.testing.assert_allclose(fitted, expected(kept, function), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(held_out, expected(held, function), rtol=1e-5, atol=1e-4)
        assert fitted.dtype == held_out.dtype == F


def test_few_feeds_serve_for_both():
    feeds = images(3)
    fitted, held_out = collect_powers(MODEL, ["h"], feeds, threads=1)["h"]
    np.testing.assert_array_equal(fitted, held_out)
    np.testing.assert_allclose(fitted, expected(feeds, np.log), rtol=1e-5, atol=1e-4)


def test_any_number_of_threads():
    feeds = images(8, 2)
    one, two = (collect_powers(MODEL, ["h", "x"], feeds, threads) for threads in (1, 2))
    for name in one:
        for left, right in zip(one[name], two[name], strict=True):
            np.testing.assert_array_equal(left, right)


def test_no_images():
    with pytest.raises(CalibrationDataError, match="empty"):
        collect_powers(MODEL, ["h"], [])


def test_bytes():
    fitted, held_out = collect_powers(MODEL, ["x"], images(4), threads=1)["x"]
    assert matrix_bytes(4) == fitted.nbytes + held_out.nbytes
