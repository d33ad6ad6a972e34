"""Attributes that no operator accepts: the layer is not counted, and nothing fails or takes for ever."""

import pytest
from onnx import helper

from qcompiler.report.reading.wiring import whole_numbers


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("bits", (1, 8), (0, 9, -1, 2**63 - 1)),
        ("qk_bits", (2, 7), (0, 2**31)),
        ("v_bits", (2, 7), (-(2**63),)),
        ("block", (1, 768), (0, -32)),
        ("rotate", (1, 128), (0, 256)),
        ("num_heads", (1, 12), (0, -1, 2**62)),
        ("axis", (-1, -2), ()),
    ],
)
def test_whole_numbers(name, good, bad):
    for value in good:
        assert whole_numbers(helper.make_node("Any", [], [], **{name: value}), name) == (value,)
    for value in (*bad, 1.0, "1"):
        assert whole_numbers(helper.make_node("Any", [], [], **{name: value}), name) is None
    assert whole_numbers(helper.make_node("Any", [], []), name) is None
