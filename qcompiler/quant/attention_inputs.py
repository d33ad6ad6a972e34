"""From a choice to the quantizers of an attention block, fitted to calibration samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.choices import BLOCKS, AttentionChoice
from qcompiler.quant.fit_blocks import fit_block_quantizer
from qcompiler.quant.groups import CHANNELS, F32, ROWS
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan
from qcompiler.quant.planner import attention_table, probability_quantizer


@dataclass(frozen=True)
class AttentionSamples:
    """Sampled operands of one attention block, one instance per image and head.

    Attributes:
        query: ``[instances, N, D]``.
        key: ``[instances, N, D]``, not transposed.
        value: ``[instances, N, D]``.
        probability: ``[instances, N, N]``.
    """

    query: F32
    key: F32
    value: F32
    probability: F32


def fit_attention(name: str, choice: AttentionChoice, samples: AttentionSamples) -> AttentionPlan | BlockAttentionPlan:
    """Fit the quantizers of one block.

    Args:
        name: Name of its Softmax.
        choice: Widths and scheme.
        samples: Statistics of its operands.
    """
    table, levels = probability_quantizer(samples.probability, choice.value_bits, choice.groups)
    if choice.scheme == BLOCKS:
        query_key = fit_query_key(samples, choice.qk_bits)
        # One operator quantizes all three: they share what is fitted on the rows of the scores.
        value = BlockQuantizer(choice.value_bits, query_key.block, query_key.clip, query_key.slack)
        return BlockAttentionPlan(name, query_key, value, table, levels)
    return AttentionPlan(
        name,
        attention_table(samples.query, ROWS, choice.qk_bits, choice.groups),
        attention_table(samples.key, ROWS, choice.qk_bits, choice.groups),
        attention_table(samples.value, CHANNELS, choice.value_bits, choice.groups),
        table,
        levels,
    )


def combine(scores: BlockAttentionPlan, mixing: BlockAttentionPlan) -> BlockAttentionPlan:
    """Queries and keys of one plan with probabilities and values of another one of the same block."""
    query_key = scores.query_key
    value = replace(mixing.value, block=query_key.block, clip=query_key.clip, slack=query_key.slack)
    return replace(mixing, query_key=query_key, value=value)


def fit_query_key(samples: AttentionSamples, bits: int) -> BlockQuantizer:
    """One quantizer for queries and keys whose block is the whole row of a head."""
    rows = np.concatenate([samples.query, samples.key])
    return fit_block_quantizer(rows, bits, rows.shape[-1], 1)
