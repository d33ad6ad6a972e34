"""Whole models: against the same rules on the torch model, and what is left of the relevance at the tokens."""

import itertools

import pytest

from qcompiler.relevance.lrp import RULES, LayerRelevance
from qcompiler.relevance.lrp_layers import relevance_tensors

from .lrp_exported import MODELS, build, canonical, images

COUNT = 4


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folders = {}

    def export(name, edit=None):
        folder = folders.setdefault((name, edit), tmp_path_factory.mktemp("lrp"))
        return canonical(name, folder, edit)

    return export


def measure(model, structure, rule, count=COUNT):
    feeds = [{"x": image[None]} for image in images(count)]
    return LayerRelevance(relevance_tensors(model, structure)).measure(model, feeds, rule, threads=1)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_rules_in_autograd(exported, name, rule):
    model, structure = exported(name)  # skips where torch or timm is missing
    from .lrp_torch import layer_masses

    found = measure(model, structure, rule).scores
    masses = layer_masses(build(name), images(COUNT), rule)
    shares = {layer: mass / sum(masses.values()) for layer, mass in masses.items()}
    renamed = {
        **{f"scores {k}": block.scores for k, block in enumerate(structure.attentions)},
        **{f"mixing {k}": block.mixing for k, block in enumerate(structure.attentions)},
    }
    expected = {renamed.get(layer, layer): share.mean() for layer, share in shares.items()}
    assert found.keys() == expected.keys()
    assert sum(found.values()) == pytest.approx(1)
    for layer, score in found.items():
        # float32 against double: what is left of a cancelling product differs in the fourth digit.
        assert score == pytest.approx(expected[layer], rel=1e-3), layer
        assert score > 1e-4  # every layer has its part


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["vit", "deit"])
def test_relevance_is_conserved(exported, name, rule):
    """Nothing between the prediction and the tokens takes relevance; dropped: products that cancel."""
    stream = measure(*exported(name), rule, count=8).stream
    assert len(stream) >= 2 * MODELS[name][2]["depth"]
    for cut in stream:
        assert cut.mean == pytest.approx(1, abs=0.02), cut
        assert cut.spread < 0.03


def without_position_bias(module):
    for block in module.modules():
        if hasattr(block, "relative_position_bias_table"):
            block.relative_position_bias_table.data.zero_()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_swin_is_conserved_but_for_the_position_biases(exported, rule):
    """A bias of the scores is an operand and takes its share; without one nothing is missing."""
    stream = [cut.mean for cut in measure(*exported("swin"), rule, count=8).stream]
    assert all(0.7 < mean < 1.02 for mean in stream)
    assert all(below < above + 0.02 for below, above in itertools.pairwise(stream))
    assert stream[0] < 0.99
    bare = measure(*exported("swin", without_position_bias), rule, count=8).stream
    for cut in bare:
        assert cut.mean == pytest.approx(1, abs=0.02), cut
