"""Which operators share one measurement."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.latency.kinds import AttentionKind, LinearKind, attention_kind, linear_kind, representative
from qcompiler.latency.shapes import AttentionShape, LinearShape
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.groups import CHANNELS, ROWS, GroupTable
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan

SHAPE = LinearShape(1, 10, 64, 32)
BLOCKS = LinearKind(SHAPE, "blocks", 4, 1, True, True, False, 4, False)
ROW_GROUPS = LinearKind(SHAPE, "rows", 4, 8, False, False, True, 4, False)
HEADS = AttentionShape(1, 10, 2, 8)
KINDS = st.sampled_from([BLOCKS, ROW_GROUPS]).flatmap(
    lambda kind: st.builds(
        replace,
        st.just(kind),
        activation_bits=st.integers(2, 7),
        weight_bits=st.integers(2, 8),
        weight_blocks=st.booleans(),
    )
)
PATHS = st.sampled_from(["avx2", "portable", "avxvnni", "avx512vnni", "amx", "reference"])


def table(count, axis, bits=4, outer=0.1, multiplier=1.0):
    column = np.ones(count, np.float32)
    return GroupTable(-column, column, outer * multiplier * column, 8 * column, multiplier * column, outer * column,
                      axis, bits)  # fmt: skip


@given(KINDS, PATHS)
def test_a_representative_stands_for_itself(kind, path):
    found = representative(kind, path)
    assert representative(found, path) == found


@given(KINDS, PATHS)
def test_only_widths_are_replaced(kind, path):
    found = representative(kind, path)
    same = replace(found, activation_bits=kind.activation_bits, weight_bits=kind.weight_bits)
    assert same == kind
    assert (found.weight_bits <= 4) == (kind.weight_bits <= 4)  # int4 in the file stays int4


@pytest.mark.parametrize("path", ["avxvnni", "avx512vnni", "amx"])
def test_widths_do_not_matter_where_bytes_are_multiplied(path):
    kinds = {
        representative(replace(ROW_GROUPS, weight_bits=w, activation_bits=a), path) for w in (5, 8) for a in (4, 8)
    }
    assert len(kinds) == 1


def test_widths_matter_where_pairs_add_up_in_16_bits():
    def classes(**changes):
        return {representative(replace(BLOCKS, **change), "avx2") for change in changes["of"]}

    assert len(classes(of=[{"weight_bits": bits} for bits in (2, 3, 4, 5, 6, 8)])) == 6
    assert len(classes(of=[{"weight_bits": bits, "weight_blocks": True} for bits in (2, 3, 4)])) == 1
    assert len(classes(of=[{"activation_bits": bits} for bits in (2, 3, 4, 5, 6)])) == 1
    assert len(classes(of=[{"activation_bits": bits} for bits in (6, 7)])) == 2
    groups = {representative(replace(ROW_GROUPS, activation_bits=bits), "avx2") for bits in (4, 6, 8)}
    assert len(groups) == 3


def test_of_a_planned_layer():
    cut = linear_kind(SHAPE, 4, True, BlockQuantizer(4, 16, rotate=16), False)
    assert cut == LinearKind(SHAPE, "blocks", 4, 1, True, True, False, 4, True)
    whole = linear_kind(SHAPE, 5, False, BlockQuantizer(6, 64), False)
    assert whole == LinearKind(SHAPE, "blocks", 6, 1, False, False, False, 5, False)
    rows = linear_kind(SHAPE, 8, False, table(8, ROWS, bits=8), True)
    assert rows == LinearKind(SHAPE, "rows", 8, 8, False, False, True, 8, False)
    multiples = linear_kind(SHAPE, 8, False, table(4, CHANNELS, multiplier=2.0), True)
    assert (multiples.scheme, multiples.groups) == ("channels", 4)
    exact = linear_kind(SHAPE, 8, False, table(4, CHANNELS, outer=1.0, multiplier=0.3), True)
    assert exact.scheme == "segments"


def test_of_a_planned_attention():
    rows, levels = table(4, ROWS), np.array([0, 3, 127], np.uint8)
    blocks = BlockAttentionPlan("a", BlockQuantizer(3, 8), BlockQuantizer(5, 8), rows, levels)
    assert attention_kind(HEADS, blocks) == AttentionKind(HEADS, True, 3, 5, 4, True)
    groups = AttentionPlan("a", rows, rows, rows, rows, np.arange(16, dtype=np.uint8))
    assert attention_kind(HEADS, groups) == AttentionKind(HEADS, False, 4, 4, 4, False)
    assert representative(attention_kind(HEADS, blocks), "avx2").value_bits == 5
    assert representative(attention_kind(HEADS, blocks), "amx") == AttentionKind(HEADS, True, 4, 4, 4, True)
