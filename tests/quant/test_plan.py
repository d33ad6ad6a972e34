"""Plans as values: what reports read off them."""

import numpy as np
import pytest

from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.levels import uniform_levels
from qcompiler.quant.plan import AttentionPlan, LinearPlan, Widths
from qcompiler.quant.weights import QuantizedWeight

from .layers import table


def test_widths_as_text():
    assert str(Widths(4, 8)) == "w4a8"


@pytest.mark.parametrize(
    ("found", "scheme"),
    [
        (table(4, ROWS), "rows"),
        (table(4, CHANNELS), "channels"),
        (table(4, CHANNELS, exact=True), "segments"),
    ],
)
def test_linear_plan(found, scheme):
    weight = QuantizedWeight(np.zeros((3, 2), np.int8), np.ones(2, np.float32), 3)
    plan = LinearPlan("fc", weight, found)
    assert plan.scheme == scheme
    assert plan.widths == Widths(3, 4)
    assert plan.normalize


def test_attention_plan():
    rows, channels = table(2, ROWS), table(2, CHANNELS)
    uniform = AttentionPlan("a", rows, rows, channels, rows, uniform_levels(4))
    assert uniform.bits == 4
    assert not uniform.codebook
    levels = np.repeat(np.arange(16, dtype=np.uint8) * 8, 8)
    assert AttentionPlan("a", rows, rows, channels, rows, levels).codebook
