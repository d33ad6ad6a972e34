"""Plans as values: what reports read off them."""

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.groups import CHANNELS, ROWS
from qcompiler.quant.levels import uniform_levels
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan, LinearPlan, QuantPlan, Widths
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
        (BlockQuantizer(4, 3), "blocks"),
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
    assert (uniform.bits, uniform.qk_bits, uniform.v_bits) == (4, 4, 4)
    assert not uniform.codebook
    levels = np.repeat(np.arange(16, dtype=np.uint8) * 8, 8)
    assert AttentionPlan("a", rows, rows, channels, rows, levels).codebook


def test_attention_plan_with_another_width_of_values():
    rows, channels = table(2, ROWS), replace(table(2, CHANNELS), bits=6)
    plan = AttentionPlan("a", rows, rows, channels, rows, uniform_levels(4))
    assert (plan.bits, plan.qk_bits, plan.v_bits) == (4, 4, 6)


def test_block_attention_plan():
    uniform = BlockAttentionPlan("a", BlockQuantizer(4, 32), BlockQuantizer(6, 32), table(2, ROWS), uniform_levels(4))
    assert (uniform.qk_bits, uniform.v_bits) == (4, 6)
    assert not uniform.codebook
    assert replace(uniform, levels=np.repeat(np.arange(16, dtype=np.uint8) * 8, 8)).codebook


def test_channels_with_whole_steps_are_multiples():
    """Free scales that happen to be whole numbers whose operands fit a signed byte run as one product."""
    found = table(4, CHANNELS, exact=True)
    weight = QuantizedWeight(np.zeros((3, 2), np.int8), np.ones(2, np.float32), 3)
    whole = replace(found, multiplier=np.array([1, 2, 3, 4], np.float32), scale=np.array([1, 2, 3, 4], np.float32))
    assert LinearPlan("fc", weight, whole).scheme == "channels"
    assert LinearPlan("fc", weight, replace(whole, multiplier=whole.multiplier * 16)).scheme == "segments"


def test_a_plan_without_folds():
    first, second = QuantPlan({}, {}), QuantPlan({}, {})
    assert first.folds == {}
    assert first.folds is not second.folds
