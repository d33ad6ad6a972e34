import re

import numpy as np
import pytest

from qcompiler.errors import UnsupportedModelError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.ir.structure import find_structure
from qcompiler.passes import CANONICALISE
from tests.passes.helpers import model_of, weight
from tests.passes.small_models import small_vit

BATCHES = ("batch", "1", "2")


def canonical(model):
    graph = to_graph(model)
    run_passes(graph, [item() for item in CANONICALISE], verify_each=True)
    return graph


@pytest.mark.parametrize("batch", BATCHES)
def test_layers_of_a_small_vit(batch):
    found = find_structure(canonical(small_vit(batch)))
    assert [(layer.name, layer.kind, layer.in_features, layer.out_features) for layer in found.linears] == [
        ("embed", "patch_embed", 12, 8),
        ("qkv", "qkv", 8, 24),
        ("proj", "proj", 8, 8),
        ("fc1", "fc1", 8, 16),
        ("fc2", "fc2", 16, 8),
        ("head", "head", 8, 3),
    ]
    # Behind the attention only the class token is computed.
    assert [(layer.tokens, layer.instances, layer.rows) for layer in found.linears] == [
        (4, 1, 4),
        (5, 1, 5),
        *[(1, 1, 1)] * 4,
    ]
    (attention,) = found.attentions
    assert (attention.num_heads, attention.head_dim, attention.tokens, attention.instances) == (2, 4, 5, 1)
    assert attention.scale == pytest.approx(0.5)
    assert attention.bias is None
    assert len(found.norms) == 3
    assert [gelu.approximate for gelu in found.gelus] == ["none"]
    assert len(found.residuals) == 2
    assert found.unrecognised == ()


def test_names_point_into_the_graph():
    graph = canonical(small_vit())
    found = find_structure(graph)
    nodes = {node.name: node for node in graph.nodes}
    tensors = graph.tensors()
    for layer in found.linears:
        assert nodes[layer.name].op == "MatMul"
        assert tensors[layer.weight].shape == (layer.in_features, layer.out_features)
        assert tensors[layer.output].inputs[0] is nodes[layer.add or layer.name]
        assert layer.source in tensors
    (attention,) = found.attentions
    assert [nodes[name].op for name in (attention.scores, attention.softmax, attention.mixing)] == [
        "MatMul",
        "Softmax",
        "MatMul",
    ]
    assert set(attention.nodes) <= set(nodes)
    assert found.linear("fc1").kind == "fc1"
    with pytest.raises(KeyError):
        found.linear("nothing")


@pytest.mark.parametrize("residual", [0, 1])
def test_residual_branch_is_the_one_of_the_linear_layer(residual):
    found = find_structure(canonical(small_vit()))
    layer = found.linears[(2, 4)[residual]]
    assert found.residuals[residual].branch == layer.output
    assert found.residuals[residual].skip != layer.output


def test_summary():
    assert find_structure(canonical(small_vit())).summary() == (
        "6 linear layers (1 patch_embed, 1 qkv, 1 proj, 1 fc1, 1 fc2, 1 head), 1 attention blocks, 3 LayerNorm, "
        "1 GELU, 2 residuals"
    )


def test_model_without_attention():
    text = """agraph (float[batch, 4] x) => (float[batch, 3] y) {
        a = MatMul (x, w1)  b = Relu (a)  c = MatMul (b, w2)  y = Softmax <axis = -1> (c) }"""
    found = find_structure(canonical(model_of(text, w1=weight(4, 8), w2=weight(8, 3))))
    assert [(layer.in_features, layer.out_features, layer.tokens) for layer in found.linears] == [(4, 8, 1), (8, 3, 1)]
    assert (found.attentions, found.unrecognised, found.skipped) == ((), (), ())


def test_attention_that_is_not_recognised_leaves_the_linear_layers():
    found = find_structure(canonical(small_vit(scores="sc2 = Tanh (sc)")))
    assert [layer.kind for layer in found.linears] == ["patch_embed", "other", "other", "fc1", "fc2", "head"]
    assert (found.attentions, found.unrecognised) == ((), ("p/Softmax",))


def test_nothing_to_quantize():
    text = "agraph (float[batch, 4] x) => (float[batch, 4] y) { a = Relu (x)  y = Tanh (a) }"
    with pytest.raises(UnsupportedModelError, match=r"nothing in this model can be quantized: .* 1 Relu, 1 Tanh"):
        find_structure(canonical(model_of(text)))


SKIPPED = {
    "batch in the middle": (
        "t = Transpose <perm = [1, 2, 0, 3]> (x)  m = MatMul (t, w)  y = Transpose <perm = [2, 0, 1, 3]> (m)",
        r"the batch is not the first axis of its input [2, 3, B, 4]",
    ),
    "vector": (
        "r = ReduceMean <keepdims = 0> (x, all)  v = MatMul (r, w)  y = Add (x, v)",
        "its input is a vector",
    ),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_layers_that_would_be_misread_are_skipped(case):
    """Groups are assigned per image: rows of several images must not be taken for those of one."""
    body, reason = SKIPPED[case]
    text = f"agraph (float[batch, 2, 3, 4] x) => (float[batch, 2, 3, 4] y) {{ {body} }}"
    model = model_of(text, w=weight(4, 4), all=np.array([0, 1, 2]))
    with pytest.raises(UnsupportedModelError, match=f"nothing in this model can be quantized.*{re.escape(reason)}"):
        find_structure(canonical(model))
    more = text.replace("(x)", "(z)").replace("(x,", "(z,").replace("{", "{ z = MatMul (x, w2) ")
    found = find_structure(canonical(model_of(more, w=weight(4, 4), w2=weight(4, 4), all=np.array([0, 1, 2]))))
    assert [item.reason for item in found.skipped] == [reason]
    assert len(found.linears) == 1
