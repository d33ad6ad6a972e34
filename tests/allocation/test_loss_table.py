"""Options of the program: every pair of candidates, weighted losses and summed costs."""

from itertools import product

import pytest

from qcompiler.allocation.loss_table import AttentionLosses, LinearLosses, LossTable

from .layers import CHANNELS, OUTPUTS, TOKENS, made_up_attention, made_up_linear

TABLE = LossTable(
    {"one": made_up_linear("one"), "two": made_up_linear("two")},
    {"one": LinearLosses((0.5, 0.25), (0.3, 0.1)), "two": LinearLosses((5.0, 2.0), (3.0, 1.0))},
    {"attn": made_up_attention()},
    {"attn": AttentionLosses((0.4, 0.2, 0.4), (0.06, 0.01, 0.01))},
)
FACTORS = {("one", "input"): 2, ("one", "weight"): 10, ("two", "input"): 1, ("two", "weight"): 0.5}
FACTORS |= {("attn", "scores"): 3, ("attn", "mixing"): 100}
NARROW = 7  # what three bits count more


def weigh(name, side, bits):
    return FACTORS[name, side] * (NARROW if bits == 3 else 1)


def test_pairs_of_linear_candidates():
    options, decisions = TABLE.options(weigh)
    assert list(options) == list(decisions) == ["one", "two", "attn"]
    for name, losses in TABLE.linear_losses.items():
        expected = []
        for (i, weight_bits), (j, input_bits) in product(enumerate((3, 4)), enumerate((3, 4))):
            narrow = NARROW if weight_bits == 3 else 1, NARROW if input_bits == 3 else 1
            cost = FACTORS[name, "weight"] * losses.weights[i] * narrow[0]
            cost += FACTORS[name, "input"] * losses.inputs[j] * narrow[1]
            products = TOKENS * CHANNELS * OUTPUTS * weight_bits * input_bits
            expected.append((weight_bits, input_bits, cost, products, 10 * input_bits, 100 * weight_bits))
        found = [
            (choice.weight_bits, choice.activation_bits, option.cost, option.products, option.bookkeeping, option.bytes)
            for choice, option in zip(decisions[name], options[name], strict=True)
        ]
        assert found == [pytest.approx(row) for row in expected]


def test_attention_candidates():
    options, decisions = TABLE.options(weigh)
    assert [choice.value_bits for choice in decisions["attn"]] == [3, 4, 4]
    assert [option.cost for option in options["attn"]] == pytest.approx([NARROW * (1.2 + 6), 0.6 + 1, NARROW * 1.2 + 1])
    assert [option.products for option in options["attn"]] == [18, 32, 25]
    assert {option.bookkeeping for option in options["attn"]} == {7}
    assert {option.bytes for option in options["attn"]} == {0}  # it has no weights


def test_loss_of_one_layer_is_unweighted():
    for name in ("one", "two", "attn"):
        options, decisions = TABLE.options(lambda *_: 1.0)
        for choice, option in zip(decisions[name], options[name], strict=True):
            assert TABLE.of(name, choice) == option.cost


def test_shares_scale_losses_of_weights_alone():
    scaled = TABLE.with_shares({"two": 0.5})
    assert scaled.linear_losses["one"] == TABLE.linear_losses["one"]
    assert scaled.linear_losses["two"] == LinearLosses((5.0, 2.0), (1.5, 0.5))
    assert scaled.attention_losses == TABLE.attention_losses
    assert TABLE.linear_losses["two"].weights == (3.0, 1.0)
