"""From decisions to plans: what a decision says is what the plan holds, and what does not fit is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from qcompiler.driver import realise
from qcompiler.driver.realise import Realiser
from qcompiler.driver.stages import Stages
from qcompiler.errors import OptionError
from qcompiler.progress import Silent
from qcompiler.quant.blocks import BlockQuantizer
from qcompiler.quant.choices import AttentionChoice, Choices, LinearChoice
from qcompiler.quant.plan import AttentionPlan, BlockAttentionPlan, Widths

from .runs import fast

LAYERS = ("patch.proj", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "head")
EIGHT = LinearChoice(8, 8)


@pytest.fixture(scope="module")
def opened(wide_path):
    """The wide model with its statistics."""
    stages = Stages(fast(), Silent())
    found = stages.open(wide_path, None, None)
    (block,) = found.canonical.structure.attentions
    statistics = stages.statistics(found)
    return SimpleNamespace(
        realiser=lambda: stages.realiser(found, statistics), reader=found.data.reader, softmax=block.softmax
    )


def choices(opened, attention=None, **linears):
    """All layers at 8 bits but those given, by the name with underscores."""
    named = {name: linears.get(name.replace(".", "_"), EIGHT) for name in LAYERS}
    return Choices(named, {opened.softmax: attention or AttentionChoice(4, 4)})


def test_a_plan_holds_what_was_decided(opened):
    decided = choices(
        opened,
        AttentionChoice(3, 5, groups=2),
        attn_qkv=LinearChoice(4, 3, scheme="folded"),
        attn_proj=LinearChoice(4, 5, weight_block=32, scheme="blocks", block=16, rotate=16),
        mlp_fc1=LinearChoice(3, 4, scheme="groups", groups=4),
    )
    plan = opened.realiser().realise(decided).plan
    assert {name: item.widths for name, item in plan.linears.items()} == {
        "patch.proj": Widths(8, 8),
        "attn.qkv": Widths(4, 3),
        "attn.proj": Widths(4, 5),
        "mlp.fc1": Widths(3, 4),
        "mlp.fc2": Widths(8, 8),
        "head": Widths(8, 8),
    }
    proj, fc1, qkv = (plan.linears[name] for name in ("attn.proj", "mlp.fc1", "attn.qkv"))
    assert isinstance(proj.input, BlockQuantizer)
    assert (proj.input.bits, proj.input.block, proj.input.rotate) == (5, 16, 16)
    assert proj.weight.blocks.multiplier.shape == (2, 64)
    assert fc1.input.count <= 4 and fc1.weight.blocks is None
    assert list(plan.folds) == ["node_n1"] and not qkv.normalize
    attention = plan.attentions[opened.softmax]
    assert isinstance(attention, BlockAttentionPlan)
    assert (attention.qk_bits, attention.v_bits, attention.probability.count) == (3, 5, 2)


def test_attention_in_groups(opened):
    plan = opened.realiser().realise(choices(opened, AttentionChoice(6, 6, scheme="groups", groups=3))).plan
    attention = plan.attentions[opened.softmax]
    assert isinstance(attention, AttentionPlan)
    assert attention.query.count == attention.value.count == 3


def test_plans_are_fitted_once(opened, monkeypatch):
    """The second of two plans fits only what the first did not have."""
    realiser, fitted = opened.realiser(), []
    fit = Realiser._linear
    monkeypatch.setattr(Realiser, "_linear", lambda self, key, *rest: fitted.append(key[0]) or fit(self, key, *rest))
    first = realiser.realise(choices(opened)).plan
    assert sorted(fitted) == sorted(LAYERS)
    fitted.clear()
    second = realiser.realise(choices(opened, mlp_fc1=LinearChoice(4, 4))).plan
    assert fitted == ["mlp.fc1"]
    assert second.linears["mlp.fc2"] is first.linears["mlp.fc2"]


def test_weights_of_all_images(opened):
    """The reader gives more images than the sample holds; quantizers of the inputs stay those of the sample."""
    seen = []
    decided = choices(opened, mlp_fc1=LinearChoice(4, 4, scheme="blocks", block=32))
    sampled = opened.realiser().realise(decided)
    whole = opened.realiser().realise(decided, opened.reader, seen.append)
    assert seen[-1] == 16 and seen == sorted(seen)
    assert whole.bookkeeping == sampled.bookkeeping
    assert whole.plan.linears["mlp.fc1"].input == sampled.plan.linears["mlp.fc1"].input


def test_final_weights_are_fitted_once(opened, monkeypatch):
    """Also those of all images, apart from those of the sample."""
    realiser, fitted = opened.realiser(), []
    realiser.realise(choices(opened))
    fit = Realiser._linear
    monkeypatch.setattr(Realiser, "_linear", lambda self, key, *rest: fitted.append(key[0]) or fit(self, key, *rest))
    monkeypatch.setattr(realise, "MOMENT_ROWS_PER_CHANNEL", 0.25)
    first = realiser.realise(choices(opened), opened.reader).plan
    assert "mlp.fc2" in fitted
    fitted.clear()
    second = realiser.realise(choices(opened, mlp_fc1=LinearChoice(4, 4)), opened.reader).plan
    assert fitted == ["mlp.fc1"]
    assert second.linears["mlp.fc2"] is first.linears["mlp.fc2"]


def test_plans_that_share_a_run(opened, monkeypatch):
    """One run over the data, one set of moments for one quantizer of an input, and the weights of plans made alone."""
    monkeypatch.setattr(realise, "MOMENT_ROWS_PER_CHANNEL", 0.25)
    plans = [
        choices(opened),
        choices(opened, mlp_fc1=LinearChoice(4, 4)),
        choices(opened, mlp_fc1=LinearChoice(3, 4)),
        choices(opened, mlp_fc1=LinearChoice(4, 4, scheme="folded")),
        choices(opened, mlp_fc1=LinearChoice(3, 4, scheme="folded")),
    ]
    alone = [opened.realiser().realise(item, opened.reader).plan for item in plans]
    runs = []
    collect = realise.collect_moments
    monkeypatch.setattr(
        realise,
        "collect_moments",
        lambda model, wanted, *rest, **more: runs.append(list(wanted)) or collect(model, wanted, *rest, **more),
    )
    realiser = opened.realiser()
    realiser.fit_weights(plans, opened.reader)
    (names,) = ([name for name, _ in run] for run in runs)
    # Input widths of 8 (the plain plan) and 4 bits; folds depend on the width of the weights, too.
    assert names.count("mlp.fc1") == 4 and names.count("mlp.fc2") == 1
    for item, expected in zip(plans, alone, strict=True):
        found = realiser.realise(item, opened.reader).plan
        for name in LAYERS:
            np.testing.assert_array_equal(found.linears[name].weight.codes, expected.linears[name].weight.codes)
            np.testing.assert_array_equal(found.linears[name].weight.scale, expected.linears[name].weight.scale)
    assert len(runs) == 1


def test_moments_that_do_not_fit_in_memory_together(opened, monkeypatch):
    """One run over the data for every layer, and the same weights."""
    decided = choices(opened, mlp_fc1=LinearChoice(4, 4, scheme="blocks", block=32))
    together = opened.realiser().realise(decided, opened.reader).plan
    monkeypatch.setattr(realise, "MOMENT_BYTES", 1)
    seen = []
    alone = opened.realiser().realise(decided, opened.reader, seen.append).plan
    assert seen[-1] == 16 and seen == sorted(seen) and len(seen) >= len(LAYERS)
    for name in LAYERS:
        np.testing.assert_array_equal(alone.linears[name].weight.codes, together.linears[name].weight.codes)


def test_too_few_images_for_a_wide_layer(opened, monkeypatch):
    """Its weights are those of the sample, and no moments of it are collected; those of narrow layers are."""
    decided = choices(opened, mlp_fc2=LinearChoice(4, 4))
    collected = []
    collect = realise.collect_moments
    monkeypatch.setattr(
        realise,
        "collect_moments",
        lambda model, wanted, *rest, **more: (
            collected.extend(name for name, _ in wanted) or collect(model, wanted, *rest, **more)
        ),
    )
    monkeypatch.setattr(realise, "MOMENT_ROWS_PER_CHANNEL", 0.25)
    # 4 tokens in each of 8 images, a quarter held out: 24 rows, less than a quarter of 128 channels but not of 64.
    few = opened.realiser().realise(decided, opened.reader, most=8).plan
    assert "mlp.fc2" not in collected and "mlp.fc1" in collected
    sampled = opened.realiser().realise(decided).plan
    np.testing.assert_array_equal(few.linears["mlp.fc2"].weight.codes, sampled.linears["mlp.fc2"].weight.codes)
    assert set(few.linears) == set(LAYERS)


def test_no_moments_of_samples_with_too_few_rows(opened, monkeypatch):
    """4 tokens in each of 16 images: enough for the 16 channels of a patch, not for the 64 of a token."""
    widths = []

    class Watched(realise.MomentAccumulator):
        def add(self, x, held_out):
            widths.append(x.shape[-1])
            super().add(x, held_out)

    monkeypatch.setattr(realise, "MomentAccumulator", Watched)
    plan = opened.realiser().realise(choices(opened)).plan
    assert widths == [16]
    assert set(plan.linears) == set(LAYERS)


def test_fits_that_do_not_fit_in_memory_together(opened, monkeypatch):
    """One after the other, and the same weights."""
    together = opened.realiser().realise(choices(opened), opened.reader).plan
    monkeypatch.setattr(realise, "FIT_BYTES", 1)
    alone = opened.realiser().realise(choices(opened), opened.reader).plan
    for name in LAYERS:
        np.testing.assert_array_equal(alone.linears[name].weight.codes, together.linears[name].weight.codes)


def test_the_order_of_decisions_does_not_matter(opened):
    decided = choices(opened, attn_qkv=LinearChoice(3, 4, scheme="blocks", rotate=8))
    turned = Choices(dict(reversed(decided.linears.items())), decided.attentions)
    one, two = (opened.realiser().realise(item) for item in (decided, turned))
    for name in LAYERS:
        np.testing.assert_array_equal(one.plan.linears[name].weight.codes, two.plan.linears[name].weight.codes)
    assert one.bookkeeping == two.bookkeeping


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda linears, attentions: linears.pop("head"), "'head'"),
        (lambda linears, attentions: linears.update(extra=EIGHT), "'extra', which is no layer"),
        (lambda linears, attentions: attentions.clear(), "softmax"),
        (lambda linears, attentions: attentions.update(extra=AttentionChoice(4, 4)), "'extra', which is no layer"),
        (
            lambda linears, attentions: linears.update(head=LinearChoice(4, 4, scheme="folded")),
            None,  # the norm in front of the pooled head takes a fold
        ),
        (
            lambda linears, attentions: linears.update({"mlp.fc2": LinearChoice(4, 4, scheme="folded")}),
            "'mlp.fc2'.*LayerNormalization in front",
        ),
        (
            lambda linears, attentions: linears.update({"mlp.fc1": LinearChoice(4, 4, scheme="blocks", rotate=128)}),
            "'mlp.fc1'.*do not divide 64",
        ),
        (
            lambda linears, attentions: linears.update({"mlp.fc1": LinearChoice(4, 4, weight_block=24)}),
            "'mlp.fc1'.*24 does not divide 64",
        ),
    ],
)
def test_decisions_that_do_not_fit(opened, change, message):
    decided = choices(opened)
    linears, attentions = dict(decided.linears), dict(decided.attentions)
    change(linears, attentions)
    if message is None:
        assert "node_n3" in opened.realiser().realise(Choices(linears, attentions)).plan.folds
        return
    with pytest.raises(OptionError, match=message):
        opened.realiser().realise(Choices(linears, attentions))
