"""Which widths, schemes and blocks a layer may choose from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.allocation.space import (
    ALL_WIDTHS,
    BLOCK_SCHEMES,
    GROUP_SCHEMES,
    TOKEN_SCHEMES,
    WHOLE_TOKENS,
    WIDE_SCHEMES,
    InputScheme,
    SearchSpace,
    widths_around,
)
from qcompiler.quant.choices import BLOCKS, FOLDED, GROUPS, LinearChoice


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0.01, (2, 3, 4)),
        (4 / 64, (2, 3, 4)),
        (9 / 64, (2, 3, 4, 5)),
        (0.1407, (2, 3, 4, 5)),
        (0.25, (3, 4, 5, 6)),
        (0.2499, (2, 3, 4, 5)),
        (0.5625, (5, 6, 8)),
        (1.0, (6, 8)),
    ],
)
def test_widths_around_what_a_budget_pays_for(budget, expected):
    assert widths_around(budget) == expected


@given(st.floats(0.0625, 1.0))
def test_the_uniform_width_is_among_them(budget):
    affordable = max(bits for bits in range(2, 9) if bits in ALL_WIDTHS and bits * bits / 64 <= budget * (1 + 1e-9))
    assert affordable in widths_around(budget)


@given(st.floats(0.01, 1.0))
def test_fewer_neighbours_are_a_subset(budget):
    assert set(widths_around(budget, 1)) <= set(widths_around(budget, 2))
    assert len(widths_around(budget, 1)) <= 3


SPACE = SearchSpace((3, 4, 8), (3, 4, 8), BLOCK_SCHEMES + TOKEN_SCHEMES + GROUP_SCHEMES, weight_blocks=(0, 32))


@pytest.mark.parametrize("channels", [16, 32, 48, 64, 96, 192, 768, 3072])
@pytest.mark.parametrize("bits", [3, 4, 7])
def test_every_scheme_is_a_choice_that_can_be_made(channels, bits):
    """What the space yields passes the checks of a decision and divides the channels."""
    for scheme in SPACE.inputs(channels, bits, foldable=False):
        LinearChoice(4, bits, 0, scheme.scheme, scheme.groups, scheme.block, scheme.rotate)
        assert channels % (scheme.block or channels) == 0
        assert channels % scheme.rotate == 0
        assert scheme.scheme == GROUPS or scheme.block < channels


def test_schemes_of_192_channels():
    assert list(SPACE.inputs(192, 4, foldable=True)) == [*BLOCK_SCHEMES, *TOKEN_SCHEMES, *GROUP_SCHEMES]


def test_schemes_that_do_not_fit_are_left_out():
    assert list(SPACE.inputs(48, 4, foldable=False)) == [BLOCK_SCHEMES[0], InputScheme(BLOCKS), *GROUP_SCHEMES]
    only_blocks = SearchSpace((4,), (4,), BLOCK_SCHEMES)
    assert list(only_blocks.inputs(24, 4, foldable=False)) == list(WIDE_SCHEMES)  # something must remain


def test_8_bits_leave_no_room_for_blocks():
    assert list(SPACE.inputs(192, 8, foldable=False)) == list(GROUP_SCHEMES)
    assert list(SearchSpace((4,), (8,), BLOCK_SCHEMES).inputs(192, 8, foldable=False)) == list(WIDE_SCHEMES)
    assert all(scheme.fits(channels, 8) for scheme in WIDE_SCHEMES for channels in (7, 192))


def test_folding_where_the_layer_allows_it():
    space = SearchSpace((4,), (4,), WHOLE_TOKENS, folded=True)
    assert list(space.inputs(192, 4, foldable=True)) == [InputScheme(FOLDED)]
    assert list(space.inputs(192, 4, foldable=False)) == list(WHOLE_TOKENS)


@pytest.mark.parametrize(
    ("channels", "bits", "expected"),
    [(192, 4, [0, 32]), (192, 6, [0, 32]), (192, 8, [0]), (48, 4, [0]), (32, 4, [0]), (64, 3, [0, 32])],
)
def test_blocks_of_weights(channels, bits, expected):
    assert list(SPACE.weights(channels, bits)) == expected
