"""Quantizers of attention blocks: what is shared, what is independent, and the error of the whole product."""

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.quant.attention_inputs import AttentionSamples, combine, fit_attention, fit_query_key
from qcompiler.quant.blocks import BlockQuantizer, fake_quantize_blocks, fake_quantize_values
from qcompiler.quant.choices import AttentionChoice
from qcompiler.quant.fit_blocks import fit_block_quantizer
from qcompiler.quant.groups import CHANNELS, ROWS, fake_quantize
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan
from qcompiler.quant.planner import quantize_probability

F = np.float32


def samples(instances=6, tokens=12, dim=16, seed=0):
    draw = np.random.default_rng(seed)
    query, key, value = draw.standard_t(5, (3, instances, tokens, dim)).astype(F)
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(dim)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return AttentionSamples(query, key, value, (p / p.sum(-1, keepdims=True)).astype(F))


def quantized(plan, given):
    """The four operands as the network sees them."""
    if isinstance(plan, BlockAttentionPlan):
        query, key = (fake_quantize_blocks(x, plan.query_key) for x in (given.query, given.key))
        value = fake_quantize_values(given.value, plan.value)
    else:
        query, key = fake_quantize(given.query, plan.query), fake_quantize(given.key, plan.key)
        value = fake_quantize(given.value, plan.value)
    return query, key, value, quantize_probability(given.probability, plan.probability, plan.levels)


@pytest.mark.parametrize(("qk_bits", "value_bits"), [(4, 4), (3, 6), (7, 2)])
@pytest.mark.parametrize("groups", [1, 4])
def test_blocks(qk_bits, value_bits, groups):
    plan = fit_attention("softmax", AttentionChoice(qk_bits, value_bits, groups=groups), samples())
    assert isinstance(plan, BlockAttentionPlan)
    assert plan.name == "softmax"
    assert (plan.qk_bits, plan.v_bits) == (qk_bits, value_bits)
    assert plan.query_key.block == plan.value.block == 16
    assert plan.query_key.rotate == plan.value.rotate == 1
    # One operator with one clip and one slack quantizes all three.
    assert (plan.query_key.clip, plan.query_key.slack) == (plan.value.clip, plan.value.slack)
    assert plan.probability.axis == ROWS and plan.probability.count <= groups
    assert len(set(plan.levels.tolist())) <= 2**value_bits


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("groups", [1, 4])
def test_groups(bits, groups):
    plan = fit_attention("softmax", AttentionChoice(bits, bits, "groups", groups), samples())
    assert isinstance(plan, AttentionPlan)
    assert (plan.name, plan.bits, plan.qk_bits, plan.v_bits) == ("softmax", bits, bits, bits)
    for table, axis in ((plan.query, ROWS), (plan.key, ROWS), (plan.value, CHANNELS)):
        assert (table.axis, table.bits) == (axis, bits)
        assert table.count <= groups
        assert (table.zero_point == 2 ** (bits - 1)).all()  # symmetric: operands of a product of two activations
    assert plan.probability.axis == ROWS


@pytest.mark.parametrize("scheme", ["blocks", "groups"])
def test_wider_codes_lose_less(scheme):
    """Of the attention's output, at 3, 5 and 7 bits; the last is close."""
    given = samples()
    wanted, lost = given.probability @ given.value, []
    for bits in (3, 5, 7):
        query, key, value, p = quantized(fit_attention("a", AttentionChoice(bits, bits, scheme), given), given)
        scores = [left @ right.swapaxes(-1, -2) for left, right in ((query, key), (given.query, given.key))]
        lost.append(
            [
                np.square(p @ value - wanted).sum() / np.square(wanted).sum(),
                np.square(scores[0] - scores[1]).sum() / np.square(scores[1]).sum(),
            ]
        )
    lost = np.array(lost)
    assert (lost[1] < lost[0] / 3).all() and (lost[2] < lost[1] / 3).all()
    assert (lost[2] < 2e-3).all()


def test_queries_and_keys_share_a_quantizer_fitted_to_both():
    """Long tails on one side, none on the other: alone, either would be covered in another way."""
    given = samples()
    draw = np.random.default_rng(3)
    given = replace(
        given, query=np.sign(given.query) * given.query**2, key=draw.uniform(-1, 1, given.key.shape).astype(F)
    )
    found = fit_query_key(given, 3)
    both, query, key = (
        fit_block_quantizer(x, 3, 16, 1) for x in (np.concatenate([given.query, given.key]), given.query, given.key)
    )
    assert found == both
    assert both not in (query, key)
    swapped = replace(given, query=given.key, key=given.query)
    assert fit_query_key(swapped, 3) == found


def test_values_do_not_change_what_is_fitted_to_the_scores():
    given = samples()
    other = replace(given, value=given.value * 100, probability=samples(seed=1).probability)
    plans = [fit_attention("a", AttentionChoice(4, 4), item) for item in (given, other)]
    assert plans[0].query_key == plans[1].query_key


def test_combine():
    """Scores of one plan, probabilities and values of another: the plan that a fit of both widths gives."""
    given = samples()
    scores, mixing = (fit_attention("a", AttentionChoice(bits, bits), given) for bits in (3, 6))
    found, expected = combine(scores, mixing), fit_attention("a", AttentionChoice(3, 6), given)
    assert (found.name, found.query_key, found.value) == (expected.name, expected.query_key, expected.value)
    np.testing.assert_array_equal(found.probability.to_array(), expected.probability.to_array())
    np.testing.assert_array_equal(found.levels, expected.levels)


def test_combine_keeps_one_clip_for_the_operator():
    given = samples()
    plan = fit_attention("a", AttentionChoice(4, 4), given)
    scores = replace(plan, query_key=BlockQuantizer(3, 8, 0.5, 0.125))
    assert combine(scores, plan).value == BlockQuantizer(4, 8, 0.5, 0.125)
