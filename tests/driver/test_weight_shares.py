"""Shares of layers: those of their inputs' moments, however many runs over the images they take."""

import numpy as np
import onnx.parser
import pytest

from qcompiler.driver import weight_shares as module
from qcompiler.driver.weight_shares import weight_shares
from qcompiler.quant.rounding_share import rounding_share
from qcompiler.quant.weights import damping_for

MODEL = onnx.parser.parse_model(
    """<ir_version: 10, opset_import: ["": 21]>
    g (float[n, 9, 4] x) => (float[n, 9, 4] z) { h = Exp (x)  z = Mul (h, h) }"""
)
INPUTS = {"first": ("x", 4), "second": ("h", 4), "third": ("x", 4)}


@pytest.fixture(scope="module")
def feeds():
    draw = np.random.default_rng(0)
    mix = draw.standard_normal((4, 4))
    return [{"x": (draw.standard_normal((1, 9, 4)) @ mix).astype(np.float32)} for _ in range(16)]


def moment(feeds, function):
    rows = np.concatenate([function(feed["x"]).reshape(-1, 4) for feed in feeds]).astype(np.float64)
    rows /= np.sqrt(np.square(rows).mean(axis=1, keepdims=True))
    return rows.T @ rows


def test_of_every_layer(feeds):
    found = weight_shares(MODEL, INPUTS, feeds, threads=1)
    kept = [feed for index, feed in enumerate(feeds) if index % 4 != 3]
    for name, function in (("first", lambda x: x), ("second", np.exp)):
        damping = damping_for(sum(feed["x"].size // 4 for feed in kept), 4)
        expected = rounding_share(moment(kept, function), moment(feeds[3::4], function), damping)
        assert found[name] == pytest.approx(expected, rel=1e-4)
        assert 0 < found[name] < 0.99
    assert list(found) == list(INPUTS)
    assert found["third"] == found["first"] != found["second"]


@pytest.mark.parametrize("held", [0, 300])
def test_in_parts(feeds, held, monkeypatch):
    whole = weight_shares(MODEL, INPUTS, feeds, threads=2)
    monkeypatch.setattr(module, "HELD_BYTES", held)  # one layer of 128 bytes at a time, or two
    assert weight_shares(MODEL, INPUTS, feeds, threads=1) == whole
