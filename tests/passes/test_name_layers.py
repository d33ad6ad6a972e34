import pytest

from qcompiler.passes.name_layers import NameLayers

from .helpers import applied, check_equal, check_golden, check_idempotent, check_unchanged, model_of, weight

TEXT = """agraph (float[batch, 5, 9] x) => (float[batch, 5, 9] y) {
    n = LayerNormalization <axis = -1> (x, shared, shared)
    m = MatMul (n, w1)
    l = Add (m, shared)
    g = Gelu (l)
    o = MatMul (g, head_weight)
    y = Add (x, o)
}"""
PATHS = [
    "/blocks/blocks.0/norm1/LayerNormalization",
    "/blocks/blocks.0/mlp/fc1/MatMul",
    "/blocks/blocks.0/mlp/fc1/Add",
    "/blocks/blocks.0/mlp/act/Gelu",
    "node_MatMul_7",
    "/blocks/blocks.0/Add_1",
]


def graph(names=PATHS):
    constants = {"shared": weight(9), "w1": weight(9, 9, seed=1), "head_weight": weight(9, 9, seed=2)}
    model = model_of(TEXT, **constants)
    model.graph.initializer[-1].name = model.graph.node[4].input[1] = "head.weight"  # the text form has no dots
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    return model


def test_golden():
    check_golden(
        NameLayers,
        graph(),
        """
        x = input [batch, 5, 9]
        %0 [batch, 5, 9] = LayerNormalization(x, NORM.weight:float32[9], NORM.bias:float32[9]; axis=-1)  # NORM
        %1 [batch, 5, 9] = MatMul(%0, blocks.0.mlp.fc1.weight:float32[9, 9])  # blocks.0.mlp.fc1
        %2 [batch, 5, 9] = Add(%1, blocks.0.mlp.fc1.bias:float32[9])  # blocks.0.mlp.fc1/Add
        %3 [batch, 5, 9] = Gelu(%2)  # blocks.0.mlp.act
        %4 [batch, 5, 9] = MatMul(%3, head.weight:float32[9, 9])  # head
        %5 [batch, 5, 9] = Add(x, %4)  # blocks.0/Add
        y = output %5
        """.replace("NORM", "blocks.0.norm1"),
    )


def test_tensors_are_named_after_nodes():
    graph_, _ = applied(NameLayers, graph())
    assert [node.outputs[0].name for node in graph_.nodes] == [
        "blocks.0.norm1:0",
        "blocks.0.mlp.fc1:0",
        "blocks.0.mlp.fc1/Add:0",
        "blocks.0.mlp.act:0",
        "head:0",
        "y",
    ]


def test_not_applicable():
    named, _ = applied(NameLayers, graph())
    (node,) = [node for node in named.nodes if node.op == "Gelu"]
    assert node.name == "blocks.0.mlp.act"
    text = "agraph (float[batch, 4] x) => (float[batch, 4] y) { y = Relu (x) }"
    check_unchanged(NameLayers, model_of(text))


def test_idempotent():
    check_idempotent(NameLayers, graph())


def test_numerical_oracle():
    check_equal(NameLayers, graph(), 0.0, x=weight(2, 5, 9, seed=3))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/blocks/blocks.0/mlp/fc1/MatMul", "blocks.0.mlp.fc1"),
        ("/layers/layers.0/blocks/blocks.1/mlp/fc1/MatMul", "layers.0.blocks.1.mlp.fc1"),
        ("/vit/encoder/layer.3/output/dense/MatMul", "vit.encoder.layer.3.output.dense"),
        ("/head/MatMul", "head"),
        ("plain", "plain"),
    ],
)
def test_paths(path, name):
    graph_, _ = applied(NameLayers, graph([PATHS[0], path, *PATHS[2:]]))
    assert graph_.nodes[1].name == name


def test_second_use_of_a_name_gets_a_number():
    names = list(PATHS)
    names[4] = names[1] + "_2"
    graph_, _ = applied(NameLayers, graph(names))
    assert [node.name for node in graph_.nodes if node.op == "MatMul"] == ["blocks.0.mlp.fc1", "blocks.0.mlp.fc1_1"]
