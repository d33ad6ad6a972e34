"""Plans that the search finds: within every budget, the same every time, and what the report says of them."""

import math
import re

import numpy as np
import onnx
import pytest

from qcompiler.driver import compile_model
from qcompiler.driver.effort import LEVELS
from qcompiler.driver.image_counts import FINALISTS
from qcompiler.driver.search import OTHER_BUDGETS
from qcompiler.driver.weighing import CAUTIONS
from qcompiler.errors import BudgetError
from qcompiler.report.recount import recount

from .runs import fast, plain
from .tiny import images

METHODS = [
    {"method": "auto"},
    {"method": "auto", "strict_bits": True},
    {"method": "auto", "effort": "low"},
    {"method": "auto", "effort": "high"},
    {"method": "mixq"},
    {"method": "lrp"},
    {"method": "igq"},
]


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        *((options, 0.25) for options in METHODS),
        *((options, budget) for options in METHODS if options.get("effort") != "high" for budget in (0.1407, 0.5625)),
    ],
    ids=str,
)
def test_every_method_keeps_to_its_budgets(wide, options, budget):
    """Recounted from the file alone, by code that knows no plan; little is left of random weights at 3 bits."""
    result = wide(**options, bop_budget=budget, overhead_budget=0.5, allow_collapse=True)
    found = recount(result.model)
    assert found.products <= budget * found.products_w8a8 * (1 + 1e-9)
    assert found.bookkeeping <= 0.5 * found.products * (1 + 1e-9)
    bops = result.report.bops
    assert (found.products, found.bookkeeping, found.fixed) == (bops.products, bops.bookkeeping, bops.fixed)
    assert found.products_w8a8 == bops.products_w8a8
    assert found.bytes == result.report.bytes_after


@pytest.mark.parametrize("bits", ["w2a2", "w4a8", "w6a4", "w8a8"])
@pytest.mark.parametrize("strict", [False, True])
def test_fixed_widths_hold_for_every_free_layer(wide, bits, strict):
    result = wide(bits=bits, strict_bits=strict, effort="low")
    weight, activation = int(bits[1]), int(bits[3])
    free = [layer for layer in result.report.layers if not layer.fixed]
    assert {layer.weight_bits for layer in free} == {weight, None}
    assert {layer.activation_bits for layer in free} == {activation}
    assert {layer.value_bits for layer in free} == {None, activation}
    found = recount(result.model)
    linear = (
        sum(layer.tokens * layer.inner * layer.outputs for layer in free if layer.weight_bits) * weight * activation
    )
    attention = 2 * 2 * 4 * 32 * 4 * activation**2
    assert found.products == linear + attention


def test_strict_bits_hold_no_blocks(wide):
    """Scales per token or group only; weights have one scale per output channel."""
    strict = wide(strict_bits=True)
    assert {layer.weight_block for layer in strict.report.layers} == {0}
    assert all(layer.block in (0, layer.inner) for layer in strict.report.layers)
    assert all(layer.effective_weight_bits in (None, layer.weight_bits) for layer in strict.report.layers)
    assert all(layer.effective_activation_bits == layer.activation_bits for layer in strict.report.layers)
    for node in strict.model.graph.node:
        if node.op_type.startswith(("BlockLinear", "LayerNormBlockLinear")):
            (block,) = [attribute.i for attribute in node.attribute if attribute.name == "block"]
            assert block in (64, 128)  # whole tokens
    for tensor in strict.model.graph.initializer:
        if "w_blocks" in tensor.name or tensor.name.endswith("blocks"):
            assert (onnx.numpy_helper.to_array(tensor) == 0x18).all()


def test_without_strict_bits_blocks_are_used(wide):
    layers = wide(bits="w4a4").report.layers
    assert any(0 < layer.block < layer.inner for layer in layers)
    assert any(layer.effective_activation_bits > layer.activation_bits for layer in layers)


@pytest.mark.parametrize("method", ["mixq", "lrp"])
def test_relevance_methods_fold_channels_and_use_no_groups(wide, method):
    result = wide(method=method)
    kinds = {layer.kind: layer for layer in result.report.layers if not layer.fixed}
    assert kinds["qkv"].scheme == kinds["fc1"].scheme == "folded"
    assert [(kinds[kind].scheme, kinds[kind].block) for kind in ("proj", "fc2")] == [("blocks", 64), ("blocks", 128)]
    assert all(layer.relevance is not None for layer in result.report.layers)
    assert sum(layer.relevance for layer in result.report.layers) == pytest.approx(1)
    assert [norm.name for norm in result.search.norms] == ["node_n1", "node_n2"]
    for norm in result.search.norms:
        spread = [max(ranges) / min(ranges) for ranges in (norm.before, norm.after)]
        assert len(norm.before) == len(norm.after) == 64
        assert spread[1] < spread[0]
    # Gentler powers of relevance are tried out before parts of the model are weighted anew.
    labels = [point.label for point in result.search.points]
    assert labels[0] == "program"
    assert result.report.loss == [point.loss for point in result.search.points if point.kept][-1]


@pytest.mark.parametrize("method", ["mixq", "lrp"])
def test_relevance_methods_try_nothing_out_at_low_effort(wide, method):
    result = wide(method=method, effort="low")
    assert result.search.points == ()
    assert result.report.loss is None


def test_the_default_method_folds_nothing(wide):
    result = wide(bits="w4a4")
    assert result.search.norms == ()
    assert {layer.relevance for layer in result.report.layers} == {None}


def test_the_last_plan_that_was_kept_is_the_plan(wide):
    result = wide()
    points = result.search.points
    assert points[0].label == "program" and points[0].kept
    for final in (False, True):  # losses with quick weights and with those that are delivered are no one series
        kept = [point.loss for point in points if point.kept and point.label.endswith(", final weights") == final]
        assert kept and kept == sorted(kept, reverse=True)
    assert all(math.isfinite(point.loss) for point in points)
    last = [point for point in points if point.kept][-1]
    assert result.report.loss == last.loss
    assert last.products == pytest.approx(result.report.bops.fraction_of_w8a8)
    assert last.overhead == pytest.approx(result.report.bops.overhead)
    around = [point for point in points if point.label.startswith("budget x ")]
    assert all(point.products <= 0.25 for point in points if point not in around)
    assert any(point.products > 0.25 for point in around)
    assert not any(point.kept for point in around)
    assert result.search.budget == 0.25
    assert wide(bits="w4a4").search.budget is None


def test_effort_decides_how_many_plans_are_tried(wide):
    assert wide(effort="low").search.points == ()
    # A plan that comes up again is not tried again.
    tried = 1 + len(CAUTIONS) + FINALISTS[1] + len(OTHER_BUDGETS)
    assert 1 < len(wide(strict_bits=True).search.points) <= tried + LEVELS["default"].trials
    assert 1 <= len(wide(effort="high").search.points) <= tried + LEVELS["high"].trials


def test_the_best_plans_are_compared_with_their_final_weights(wide):
    """The plan is the one that loses least with them, and the loss of the report is that of the written weights."""
    result = wide(strict_bits=True)
    finals = [point for point in result.search.points if point.label.endswith(", final weights")]
    assert 1 <= len(finals) <= FINALISTS[1]
    quick = {point.label: point for point in result.search.points}
    assert all(point.label.removesuffix(", final weights") in quick for point in finals)
    best = min(finals, key=lambda point: point.loss)
    assert best.kept and result.report.loss == best.loss
    assert best.products == pytest.approx(result.report.bops.fraction_of_w8a8)


def test_sensitivity_falls_with_the_width_where_everything_is_measured(wide):
    """Five widths of every side; a wider one may lose by a hair on two images."""
    for layer in wide(effort="high").search.layers:
        sides = {}
        for width, loss in layer.sensitivity.items():
            side, bits = re.fullmatch(r"(\D+)(\d)", width).groups()
            sides.setdefault(side, {})[int(bits)] = loss
        for losses in sides.values():
            assert losses[max(losses)] < losses[min(losses)]


def test_noise_of_layers(wide):
    """Wide layers are quiet, the fixed ones quietest: six dB for every bit, roughly."""
    wide8, wide4 = ({layer.name: layer.sqnr_db for layer in wide(bits=b).search.layers} for b in ("w8a8", "w4a4"))
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        assert 8 < wide4[name] < 30
        assert wide8[name] > wide4[name] + 12
    assert wide4["head"] == pytest.approx(wide8["head"], abs=0.5)
    assert wide4["node_s"] is None  # attention


@pytest.mark.parametrize("options", [{}, {"strict_bits": True}, {"method": "mixq"}, {"effort": "low"}], ids=str)
def test_the_same_command_twice_gives_equal_bytes(wide_path, wide, options):
    expected = wide(**options).model.SerializeToString(deterministic=True)
    assert compile_model(wide_path, fast(**options)).model.SerializeToString(deterministic=True) == expected


@pytest.mark.parametrize("budget", [0.5625, 1.0])
def test_size_budget_narrows_weights(wide, wide_path, budget):
    """What the products pay for is wider than 4 bits; a size that only 4 bits meet leaves the activations wide."""
    options = {"bop_budget": budget, "effort": "low"}
    free = wide(**options).report
    assert {layer.weight_bits for layer in free.layers if not layer.fixed} <= {5, 6, 8, None}
    with pytest.raises(BudgetError) as caught:
        compile_model(wide_path, fast(**options, size_budget=0.05))
    enough = float(re.search(r"give --size-budget (\S+) or more", str(caught.value))[1])
    result = compile_model(wide_path, fast(**options, size_budget=enough))
    assert len(result.model.SerializeToString()) <= enough * wide_path.stat().st_size
    assert enough < free.size_ratio
    layers = [layer for layer in result.report.layers if not layer.fixed]
    assert all(layer.weight_bits <= 4 for layer in layers if layer.weight_bits is not None)
    assert all(layer.activation_bits >= 5 for layer in layers)
    assert np.isfinite(plain(result.model, {"x": images(4)})).all()
    with pytest.raises(BudgetError):
        compile_model(wide_path, fast(**options, size_budget=enough - 0.0002))


def test_size_budget_between_narrow_and_wide_weights(wide, wide_path):
    """Some layers keep wide weights, and the file stays within its limit."""
    free = wide(bop_budget=1.0, effort="low").report
    limit = free.size_ratio - 0.02
    result = compile_model(wide_path, fast(bop_budget=1.0, effort="low", size_budget=limit))
    assert len(result.model.SerializeToString()) <= limit * wide_path.stat().st_size
    widths = {layer.weight_bits for layer in result.report.layers if not layer.fixed} - {None}
    assert min(widths) <= 4 < max(widths)
