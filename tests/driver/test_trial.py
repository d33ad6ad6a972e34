"""A plan tried out is the model that is written: the same bytes without annotations, the same loss."""

import numpy as np
import onnx
import pytest

from qcompiler.driver.canonical import canonicalise
from qcompiler.driver.realise import Planned
from qcompiler.driver.stages import Stages
from qcompiler.driver.trial import Trial, built, plain_size
from qcompiler.evaluation.redraws import redrawn
from qcompiler.ir.loading import load_model
from qcompiler.progress import Silent
from qcompiler.quant.choices import AttentionChoice, Choices, LinearChoice

from .runs import fast, plain
from .tiny import images


@pytest.fixture(scope="module")
def made(tiny_path):
    """Plans of the tiny model by their width, and its canonical form."""
    stages = Stages(fast(), Silent())
    opened = stages.open(tiny_path, None, None)
    realiser = stages.realiser(opened, stages.statistics(opened))

    def plan(bits) -> Planned:
        names = [layer.name for layer in opened.canonical.structure.linears]
        (block,) = opened.canonical.structure.attentions
        scheme = "groups" if bits == 8 else "blocks"
        linears = dict.fromkeys(names, LinearChoice(bits, bits, scheme=scheme))
        return realiser.realise(Choices(linears, {block.softmax: AttentionChoice(bits, bits, scheme)})).plan

    return plan, opened.canonical.model


def divergence(logits, reference):
    """Mean KL divergence in nats, in float64."""
    found, wanted = (
        x.astype(np.float64) - np.log(np.exp(x.astype(np.float64)).sum(1, keepdims=True)) for x in (logits, reference)
    )
    return (np.exp(wanted) * (wanted - found)).sum(axis=1).mean()


def test_the_loss_is_that_of_the_built_model(made, tiny_path):
    plan, model = made
    feeds = [{"x": image[None]} for image in images(5, seed=3)]
    trial = Trial(model, feeds, threads=1)
    whole = {"x": np.concatenate([feed["x"] for feed in feeds])}
    reference = plain(load_model(tiny_path), whole)
    losses = []
    for bits in (8, 5, 3):
        lowered = built(model, plan(bits))
        onnx.checker.check_model(lowered, full_check=True)
        # The kernels may flip a code now and then.
        assert trial.measure(plan(bits)) == pytest.approx(divergence(plain(lowered, whole), reference), rel=0.3)
        losses.append(trial.measure(plan(bits)))
    assert 0 < losses[0] < losses[1] < losses[2]
    assert trial.measure(plan(3)) == losses[2]


def test_building_changes_neither_model_nor_plan(made, tiny_path):
    plan, model = made
    before = model.SerializeToString(deterministic=True)
    first, second = (built(model, plan(4)).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert model.SerializeToString(deterministic=True) == before
    assert canonicalise(load_model(tiny_path)).model.SerializeToString(deterministic=True) == before


def test_size(made):
    plan, model = made
    assert plain_size(model, plan(4)) == len(built(model, plan(4)).SerializeToString())
    assert plain_size(model, plan(4)) < plain_size(model, plan(7))


def test_the_loss_of_draws_is_their_mean(made):
    plan, model = made
    feeds = [{"x": image[None]} for image in images(6, seed=4)]
    several = Trial(model, feeds, threads=1).measure(plan(3), draws=3)
    # The reference stays that of the images themselves.
    lowered, reference = built(model, plan(3)), plain(model, {"x": np.concatenate([feed["x"] for feed in feeds])})
    single = []
    for draw in range(3):
        whole = {"x": np.concatenate([redrawn(feed, draw, number)["x"] for number, feed in enumerate(feeds)])}
        single.append(divergence(plain(lowered, whole), reference))
    assert len(set(single)) == 3
    assert several == pytest.approx(np.mean(single), rel=0.3)
