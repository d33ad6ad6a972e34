"""Candidates: which there are, the error that each leaves, and what it costs, from the definitions."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from qcompiler.allocation.attention_candidates import attention_candidates
from qcompiler.allocation.candidates import linear_candidates, weight_error
from qcompiler.allocation.space import InputScheme, SearchSpace
from qcompiler.quant.choices import BLOCKS, FOLDED, GROUPS

from .layers import CHANNELS, OUTPUTS, TOKENS, attention, attention_samples, input_samples, linear, weight

F = np.float32
FINEST, BLOCK, TOKEN = InputScheme(BLOCKS, 1, 16, 16), InputScheme(BLOCKS, 1, 32, 1), InputScheme(BLOCKS)
ONE, EIGHT = InputScheme(GROUPS, 1), InputScheme(GROUPS, 8)
SCHEMES = (FINEST, BLOCK, TOKEN, ONE, EIGHT)
SPACE = SearchSpace((3, 4, 6), (3, 5, 8), SCHEMES, weight_blocks=(0, 32))


@pytest.fixture(scope="module")
def found():
    return linear_candidates(linear(), input_samples(), weight(), SPACE, norm=None, integer=True)


def test_every_width_with_every_scheme(found):
    inputs = [(item.bits, item.scheme) for item in found.inputs]
    assert inputs == [*product((3, 5), SCHEMES), (8, ONE), (8, EIGHT)]
    assert [(item.bits, item.block) for item in found.weights] == [(3, 0), (3, 32), (4, 0), (4, 32), (6, 0), (6, 32)]


def test_folding_takes_the_place_of_the_schemes():
    space = SearchSpace((4,), (3, 4), (ONE,), folded=True)
    folded = linear_candidates(linear(), input_samples(), weight(), space, norm="norm", integer=True)
    assert [(item.bits, item.scheme.scheme, item.item.fold.norm) for item in folded.inputs] == [
        (3, FOLDED, "norm"),
        (4, FOLDED, "norm"),
    ]
    plain = linear_candidates(linear(), input_samples(), weight(), space, norm=None, integer=True)
    assert [item.scheme.scheme for item in plain.inputs] == [GROUPS, GROUPS]


def test_weights_behind_a_fold_are_rounded_with_its_factors():
    """A few loud channels: their factors spread the rows of the weight, and rounding it costs more than without."""
    given = input_samples()
    loud = np.ones(CHANNELS, F)
    loud[::16] = 12
    given = replace(given, sample=given.sample * loud)
    space = SearchSpace((3, 4), (3, 4), (TOKEN,), folded=True)
    folded, plain = (
        linear_candidates(linear(), given, weight(), space, norm=norm, integer=True) for norm in ("norm", None)
    )
    rows, w = given.sample.reshape(-1, CHANNELS).astype(np.float64), weight().astype(np.float64)
    for item, unfolded, near in zip(folded.weights, plain.weights, folded.inputs, strict=True):
        fold = near.item.fold
        assert fold.scale.max() > 2 * fold.scale.min()
        moved = w * fold.scale[:, None]
        # Still on a grid of 2**bits codes per output after the factors are put back.
        found = folded.rounded(item).astype(np.float64) * fold.scale[:, None]
        assert all(len(np.unique(column.round(6))) <= 2**item.bits for column in found.T)
        assert np.abs(found - moved).max() < np.abs(moved).max()
        lost = np.square(rows @ (folded.rounded(item) - w)).sum(1) / np.square(rows @ w).sum(1)
        assert item.error == pytest.approx(lost.mean(), rel=1e-3)
        assert folded.rounded(item).shape == plain.rounded(unfolded).shape
        assert not np.allclose(folded.rounded(item), plain.rounded(unfolded))


def test_errors_of_inputs_are_those_of_the_output(found):
    """The quantized input as the network sees it, times the float weight; tokens weighted alike by their own size."""
    x, w = input_samples().sample.astype(np.float64), weight().astype(np.float64)
    size = np.sqrt((x**2).mean(axis=-1, keepdims=True))
    for item in found.inputs:
        noise = (item.item(input_samples().sample) - x) / size @ w
        wanted = x / size @ w
        assert item.error == pytest.approx((noise**2).sum() / (wanted**2).sum(), rel=1e-3)


def test_errors_of_weights_are_those_of_the_output(found):
    rows, w = input_samples().sample.reshape(-1, CHANNELS).astype(np.float64), weight().astype(np.float64)
    wanted = (rows @ w) ** 2
    for item in found.weights:
        difference = (rows @ (found.rounded(item) - w)) ** 2
        by_token = difference.sum(axis=1) / wanted.sum(axis=1)
        assert item.error == pytest.approx(by_token.mean(), rel=1e-3)


def test_a_token_without_output_is_no_division_by_zero():
    rows = np.zeros((2, 4), F)
    rows[1] = 1
    assert weight_error(rows, np.ones((4, 3), F), np.full((4, 3), 0.5, F)) == pytest.approx(0.25 / 2)


def test_more_bits_leave_less_error(found):
    def errors(items, key):
        by_key = {}
        for item in items:
            by_key.setdefault(key(item), []).append((item.bits, item.error))
        return [values for values in by_key.values() if len(values) > 1]

    for series in errors(found.inputs, lambda item: item.scheme) + errors(found.weights, lambda item: item.block):
        assert [error for _, error in sorted(series)] == sorted((error for _, error in series), reverse=True)


def test_cost_of_inputs(found):
    """32 bits for every number that is looked at or rescaled: see the budget's definition."""
    n, c, d = TOKENS, CHANNELS, OUTPUTS
    by_scheme = {(item.bits, item.scheme): item for item in found.inputs}
    finest, token = by_scheme[3, FINEST], by_scheme[3, TOKEN]
    # Ranges, a step for each of the blocks of 16, four stages of rotation, one scale per output and block.
    assert finest.bookkeeping == 32 * (n * c + n * c // 16 + 4 * n * c + n * d * c // 16)
    assert token.bookkeeping == 32 * (n * c + n)
    groups = by_scheme[3, EIGHT]
    table = groups.item.quantizer
    ranges = 32 * n * c  # of rows, for their norm; and once more of the normalised items
    assert groups.bookkeeping in {2 * ranges + 32 * count * table.count for count in (n, c)}
    assert by_scheme[8, ONE].bookkeeping == ranges  # one group: the norm alone


def test_cost_of_weights(found):
    n, c, d = TOKENS, CHANNELS, OUTPUTS
    by_key = {(item.bits, item.block): item for item in found.weights}
    assert by_key[4, 0].bookkeeping == 0
    assert by_key[4, 32].bookkeeping == 32 * n * d * c // 32
    # Two codes in a byte up to 4 bits; a float scale per output; one byte for each block.
    assert by_key[4, 0].bytes == by_key[3, 0].bytes == c * d // 2 + 4 * d + d
    assert by_key[6, 0].bytes == c * d + 4 * d + d
    assert by_key[4, 32].bytes == c * d // 2 + 4 * d + 2 * d


def test_decisions_and_products(found):
    n, c, d = TOKENS, CHANNELS, OUTPUTS
    for weights, inputs in product(found.weights, found.inputs):
        choice = found.choice(weights, inputs)
        assert (choice.weight_bits, choice.weight_block) == (weights.bits, weights.block)
        assert choice.activation_bits == inputs.bits
        scheme = inputs.scheme
        assert (choice.scheme, choice.groups, choice.block, choice.rotate) == (
            scheme.scheme,
            scheme.groups,
            scheme.block,
            scheme.rotate,
        )
        assert found.products(weights, inputs) == n * c * d * weights.bits * inputs.bits


@pytest.fixture(scope="module")
def blocks():
    space = SearchSpace((4,), (3, 5, 8), SCHEMES, attention=BLOCKS, attention_groups=(2,))
    return attention_candidates(attention(), attention_samples(), space)


def test_both_products_of_attention_choose_their_width(blocks):
    """Except at 8 bits, where groups have one width for both."""
    widths = {(item.choice.qk_bits, item.choice.value_bits): item.choice.scheme for item in blocks}
    assert widths == {(3, 3): BLOCKS, (3, 5): BLOCKS, (5, 3): BLOCKS, (5, 5): BLOCKS, (8, 8): GROUPS}
    assert len(blocks) == 5
    assert {item.choice.groups for item in blocks} == {2}
    for item in blocks:
        assert (item.plan.qk_bits, item.plan.v_bits) == (item.choice.qk_bits, item.choice.value_bits)


def test_groups_of_attention():
    space = SearchSpace((4,), (3, 5), SCHEMES, attention=GROUPS, attention_groups=(1, 2))
    found = attention_candidates(attention(), attention_samples(), space)
    assert [(item.choice.qk_bits, item.choice.groups) for item in found] == [(3, 1), (3, 2), (5, 1), (5, 2)]
    assert {item.choice.scheme for item in found} == {GROUPS}


def test_errors_of_attention_belong_to_one_operand(blocks):
    """Errors of a product do not depend on the width of the other one; they fall with their own."""
    by_width = {(item.choice.qk_bits, item.choice.value_bits): item for item in blocks}
    assert by_width[3, 5].scores == by_width[3, 3].scores
    assert by_width[3, 5].mixing == by_width[5, 5].mixing
    for operand in ("left", "right"):
        narrow, wide, widest = (
            [getattr(getattr(by_width[bits, bits], part), operand) for part in ("scores", "mixing")]
            for bits in (3, 5, 8)
        )
        for series in zip(narrow, wide, widest, strict=True):
            assert series[0] > series[1] > series[2] > 0


def test_cost_of_attention(blocks):
    n, d, heads = TOKENS, 16, 2
    by_width = {(item.choice.qk_bits, item.choice.value_bits): item for item in blocks}
    assert by_width[3, 5].products == heads * n * n * d * (9 + 25)
    # Queries, keys and values: ranges and one step per row; probabilities: ranges and two groups of rows.
    rows = 3 * 32 * heads * (n * d + n)
    assert by_width[3, 5].bookkeeping == rows + 32 * heads * (n * n + 2 * n)
