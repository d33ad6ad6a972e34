"""Every choice gives the quantizer that it names, and choices that do not fit a layer are refused."""

import numpy as np
import pytest

from qcompiler.errors import OptionError
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.channelwise import choose_quantizer, fold
from qcompiler.quant.choices import LinearChoice
from qcompiler.quant.fit_inputs import InputSamples, fit_input
from qcompiler.quant.groups import CHANNELS, ROWS, GroupTable, item_ranges
from qcompiler.quant.inputs import input_error

from .fitting import spread_channels, weights

F = np.float32


def samples(factor=100, instances=4, tokens=12, channels=32):
    x = spread_channels(0, instances=instances, tokens=tokens, channels=channels, factor=factor)
    x = x * np.exp2(np.random.default_rng(1).integers(-2, 3, (instances, tokens, 1))).astype(F)
    unit = (x / np.sqrt(np.mean(x.astype(float) ** 2, -1, keepdims=True))).astype(F)
    ranges = {axis: np.stack([side.ravel() for side in item_ranges(unit, axis)], axis=1) for axis in (CHANNELS, ROWS)}
    return InputSamples(x, ranges)


@pytest.mark.parametrize(("block", "expected"), [(0, 32), (8, 8), (32, 32)])
@pytest.mark.parametrize("rotate", [1, 16])
def test_blocks(block, expected, rotate):
    choice = LinearChoice(4, 5, scheme="blocks", block=block, rotate=rotate)
    found = fit_input(choice, samples(), weights(32), norm="norm")
    assert isinstance(found.quantizer, BlockQuantizer)
    assert (found.quantizer.bits, found.quantizer.block, found.quantizer.rotate) == (5, expected, rotate)
    assert 0.5 < found.quantizer.clip <= 1
    assert 0 <= found.quantizer.slack <= 0.5
    assert found.fold is None


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("integer", "inside"), [(True, True), (False, False)])
def test_groups(groups, integer, inside):
    """Channels of different sizes are grouped as channels, on multiples of a base scale if that is wanted."""
    found = fit_input(LinearChoice(4, 4, groups=groups), samples(), weights(32), norm="norm", integer=integer)
    table = found.quantizer
    assert isinstance(table, GroupTable)
    assert (found.normalize, found.fold, table.bits) == (True, None, 4)
    assert table.count <= groups
    if groups > 1:
        assert table.axis == CHANNELS
        assert (len(set(table.outer.tolist())) == 1 and (table.multiplier == np.rint(table.multiplier)).all()) == inside


def test_groups_are_fitted_to_normalised_rows():
    """Rows a thousand times larger get the same table."""
    given = samples()
    larger = InputSamples(given.sample * F(1024), given.ranges)
    one, two = (fit_input(LinearChoice(4, 4), item, weights(32)).quantizer.to_array() for item in (given, larger))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_pooled_rows_are_grouped_as_rows():
    found = fit_input(LinearChoice(8, 8), samples(instances=64, tokens=1), weights(32))
    assert found.quantizer.axis == ROWS


def test_folded():
    given, weight = samples(factor=5), weights(32)
    found = fit_input(LinearChoice(3, 5, scheme="folded"), given, weight, norm="blocks.0.norm1")
    moved, table = fold(choose_quantizer(given.sample, weight, 5, 3), 5, "blocks.0.norm1")
    assert found.fold.norm == "blocks.0.norm1"
    np.testing.assert_array_equal(found.fold.scale, moved.scale)
    np.testing.assert_array_equal(found.fold.shift, moved.shift)
    np.testing.assert_array_equal(found.quantizer.to_array(), table.to_array())
    assert (found.normalize, found.bits, found.quantizer.count) == (False, 5, 1)


@pytest.mark.parametrize("scheme", ["groups", "blocks", "folded"])
def test_wider_codes_lose_less(scheme):
    given, weight = samples(factor=5), weights(32)
    errors = [
        input_error(fit_input(LinearChoice(4, bits, scheme=scheme), given, weight, norm="n"), given.sample, weight)
        for bits in (3, 5, 7)
    ]
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4
    assert errors[2] < 1e-2


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (LinearChoice(4, 4, scheme="blocks", block=12), "blocks of 12 rotated by 1 do not divide 32 channels"),
        (LinearChoice(4, 4, scheme="blocks", block=64), "blocks of 64 rotated by 1 do not divide 32 channels"),
        (LinearChoice(4, 4, scheme="blocks", rotate=64), "blocks of 32 rotated by 64 do not divide 32 channels"),
        (LinearChoice(4, 4, scheme="folded"), "scheme 'folded' needs a LayerNormalization in front"),
        (LinearChoice(4, 4, weight_block=12), "weight_block 12 does not divide 32 channels"),
        (LinearChoice(4, 4, weight_block=64), "weight_block 64 does not divide 32 channels"),
    ],
)
def test_choices_that_do_not_fit(choice, message):
    with pytest.raises(OptionError, match=message):
        fit_input(choice, samples(), weights(32))
