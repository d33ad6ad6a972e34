import numpy as np
import pytest

from qcompiler.ir.fold_sites import FoldMatch, FoldSite, Obstacle, fold_sites, folded_name, is_folded, match_fold
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.ir.shapes import infer
from qcompiler.passes import CANONICALISE

from ..passes.helpers import model_of, weight
from ..passes.small_models import small_vit

NORM = "[norm] n = LayerNormalization <axis = -1> (x, gamma, beta)"
INTS = {
    "grid": [0, 2, 3, 8],
    "split4": [0, 6, 2, 4],
    "merge4": [0, -1, 8],
    "all": [-1, 8],
    "zero": [0],
    "one": [1],
    "two": [2],
    "three": [3],
    "end": [9],
    "last": [-1],
    "parts": [2, 4],
    "halves": [4, 4],
    "pads": [0, 0, 0, 0, 1, 0],
    "first": 0,
}
OUT = "float[batch, 6, 4] y"


def graph_of(body, outputs=OUT, norm=NORM, **extra):
    constants = {name: np.array(value, np.int64) for name, value in INTS.items()}
    floats = {"gamma": weight(8), "beta": weight(8, seed=1), "w": weight(8, 4, seed=2), "w4": weight(4, 4, seed=3)}
    text = f"agraph (float[batch, 6, 8] x) => ({outputs}) {{ {norm} {body} }}"
    return to_graph(model_of(text, **{**constants, **floats, **extra}))


def only(graph):
    return next(node for node in graph.nodes if node.op == "LayerNormalization")


FOUND = {
    "one layer": ("[fc] y = MatMul (n, w)", ("fc",)),
    "two layers": ("[a] p = MatMul (n, w)  [b] q = MatMul (n, w)  y = Add (p, q)", ("a", "b")),
    "windows": (
        """g = Reshape (n, grid)  t = Transpose <perm = [0, 2, 1, 3]> (g)  f = Reshape (t, merge4)
        [fc] y = MatMul (f, w)""",
        ("fc",),
    ),
    "a roll": (
        """a = Slice (n, two, end, one)  b = Slice (n, zero, two, one)  r = Concat <axis = 1> (a, b)
        [fc] y = MatMul (r, w)""",
        ("fc",),
    ),
    "parts": (
        """a, b = Split <axis = 1> (n, parts)  r = Concat <axis = -2> (b, a)  [fc] y = MatMul (r, w)""",
        ("fc",),
    ),
    "axes of size 1": (
        "u = Unsqueeze (n, one)  s = Squeeze (u, one)  [fc] y = MatMul (s, w)",
        ("fc",),
    ),
}
FEWER = {
    "class token": ("c = Gather <axis = 1> (n, first)  [head] y = MatMul (c, w)", ("head",)),
    "mean": ("c = ReduceMean <keepdims = 0> (n, one)  [head] y = MatMul (c, w)", ("head",)),
    "rows": ("c = Reshape (n, all)  [head] y = MatMul (c, w)", ("head",)),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(case):
    body, consumers = FOUND[case]
    assert fold_sites(graph_of(body)) == (FoldSite("norm", consumers),)


@pytest.mark.parametrize("case", FEWER)
def test_found_behind_fewer_tokens(case):
    body, consumers = FEWER[case]
    assert fold_sites(graph_of(body, "float[m, 4] y")) == (FoldSite("norm", consumers),)


def test_match_has_the_nodes():
    graph = graph_of("[a] p = MatMul (n, w)  [b] q = MatMul (n, w)  r = Add (q, c)  y = Add (p, r)", c=weight(4))
    found = match_fold(only(graph), graph, infer(graph))
    assert isinstance(found, FoldMatch)
    assert [layer.matmul.name for layer in found.consumers] == ["a", "b"]
    assert [layer.bias is not None for layer in found.consumers] == [False, True]


READ = "it is read by something else than linear layers"
PARAMETERS = "it has no constant scale and bias over the last axis"
LAYER = "[fc] y = MatMul (n, w)"
REFUSED = {
    "an activation": (f"{LAYER}  z = Relu (n)", READ, "Relu 'Relu_2'"),
    "a residual": (f"{LAYER}  z = Add (n, x)", READ, "Add 'Add_2'"),
    "a product of activations": (
        f"{LAYER}  t = Transpose <perm = [0, 2, 1]> (x)  z = MatMul (n, t)",
        READ,
        "MatMul 'MatMul_3'",
    ),
    "the right side of a product": (f"{LAYER}  z = MatMul (v, n)", READ, "MatMul 'MatMul_2'"),
    "zeros around it": (f"{LAYER}  z = Pad (n, pads)", READ, "Pad 'Pad_2'"),
    "channels in front": (f"{LAYER}  z = Transpose <perm = [0, 2, 1]> (n)", READ, "Transpose 'Transpose_2'"),
    "channels cut": (
        f"{LAYER}  h, k = Split <axis = 2> (n, halves)  z = Concat <axis = 1> (h, k)",
        READ,
        "Split 'Split_2'",
    ),
    "channels sliced": (f"{LAYER}  h = Slice (n, zero, three, last)  z = Relu (h)", READ, "Slice 'Slice_2'"),
    "a slice of every axis": (f"{LAYER}  z = Slice (n, c3, e3)", READ, "Slice 'Slice_2'"),
    "channels joined": (f"{LAYER}  z = Concat <axis = -1> (n, n)", READ, "Concat 'Concat_2'"),
    "other tokens joined": (f"{LAYER}  j = Concat <axis = 1> (n, x)  z = Relu (j)", READ, "Concat 'Concat_2'"),
    "channels moved by a reshape": (f"{LAYER}  z = Reshape (n, split4)", READ, "Reshape 'Reshape_2'"),
    "channels averaged": (f"{LAYER}  z = ReduceMean (n, last)", READ, "ReduceMean 'ReduceMean_2'"),
    "everything averaged": (f"{LAYER}  z = ReduceMean (n)", READ, "ReduceMean 'ReduceMean_2'"),
    "channels picked": (f"{LAYER}  z = Gather <axis = 2> (n, first)", READ, "Gather 'Gather_2'"),
    "a new last axis": (f"{LAYER}  z = Unsqueeze (n, last)", READ, "Unsqueeze 'Unsqueeze_2'"),
    "no layer": ("z = ReduceMean (x, last)  y = MatMul (x, w)", "no linear layer reads it", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_obstacles(case):
    body, reason, value = REFUSED[case]
    extra = {"v": weight(1, 3, 6), "c3": np.zeros(3, np.int64), "e3": np.array([9, 9, 9])}
    graph = graph_of(body, f"{OUT}, float z", **extra)
    assert match_fold(only(graph), graph, infer(graph)) == Obstacle(reason, value)
    assert fold_sites(graph) == ()


@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        (NORM.replace(", beta", ""), PARAMETERS),
        (f"t = Abs (gamma)  {NORM.replace('gamma', 't')}", PARAMETERS),
        (NORM.replace("-1", "-2"), PARAMETERS),
    ],
    ids=["no bias", "computed scale", "two axes"],
)
def test_obstacles_of_the_norm(norm, reason):
    wide = {"gamma": weight(6, 8), "beta": weight(6, 8)} if "-2" in norm else {}
    graph = graph_of(LAYER, norm=norm, **wide)
    assert match_fold(only(graph), graph, infer(graph)) == Obstacle(reason)


@pytest.mark.parametrize(("result", "extra"), [("n", ""), ("t", "t = Reshape (n, merge4)")])
def test_an_output_of_the_graph(result, extra):
    """The result itself, or its tokens moved."""
    graph = graph_of(f"{LAYER} {extra}", f"{OUT}, float[batch, 6, 8] {result}")
    assert match_fold(only(graph), graph, infer(graph)) == Obstacle("its result is an output of the graph")


def test_a_folded_norm_is_no_site():
    graph = graph_of(LAYER)
    norm = only(graph)
    assert not is_folded(norm)
    norm.inputs[1].name = folded_name(norm, "scale")
    assert is_folded(norm)
    assert fold_sites(graph) == ()


def test_small_vit():
    """In node order; what happens to the batch axis does not matter."""
    graph = to_graph(small_vit())
    run_passes(graph, [item() for item in CANONICALISE])
    assert [site.consumers for site in fold_sites(graph)] == [("qkv",), ("fc1",), ("head",)]
