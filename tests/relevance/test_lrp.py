"""Scores, start, conservation and batches, on models small enough to know the answer."""

import json
import weakref

import numpy as np
import onnx
import onnx.parser
import pytest

from qcompiler.errors import CalibrationDataError, NonFiniteError, OptionError, UnsupportedModelError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.passes import run_passes
from qcompiler.ir.saving import to_model
from qcompiler.ir.structure import find_structure
from qcompiler.passes import CANONICALISE
from qcompiler.relevance.lrp import GAMMA, RULES, ZPLUS, LayerRelevance
from qcompiler.relevance.lrp_layers import relevance_tensors
from qcompiler.relevance.lrp_path import RelevancePath

from ..driver.tiny import images, tiny

F = np.float32


def parsed(text, **constants):
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}')
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model.graph.initializer.extend(tensors)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    return model


@pytest.fixture(scope="module", params=["n", 4])
def transformer(request):
    graph = to_graph(tiny(batch=request.param))
    run_passes(graph, [item() for item in CANONICALISE])
    model = to_model(graph)
    return model, relevance_tensors(model, find_structure(graph)), request.param


def batches(count, *sizes):
    return [{"x": part} for part in np.split(images(count), np.cumsum(sizes)[:-1])]


def test_where_layers_are_read(transformer):
    model, tensors, _ = transformer
    nodes = {node.name: node for node in model.graph.node}
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    assert list(tensors)[:6] == ["patch.proj", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "head"]
    assert tensors["head"] == "logits"
    assert nodes["attn.qkv/Add"].output[0] == tensors["attn.qkv"]
    scores, mixing = list(tensors)[6:]
    assert nodes[scores].op_type == nodes[mixing].op_type == "MatMul"
    assert tensors[scores] == softmax.input[0]
    assert softmax.output[0] == nodes[mixing].input[0]
    assert tensors[mixing] == nodes[mixing].output[0]


@pytest.mark.parametrize("rule", RULES)
def test_scores_and_conservation(transformer, rule):
    model, tensors, _ = transformer
    result = LayerRelevance(tensors).measure(model, batches(12, 4, 4, 4), rule, threads=1)
    assert (result.rule, result.images) == (rule, 12)
    assert list(result.scores) == list(tensors)
    assert sum(result.scores.values()) == pytest.approx(1)
    assert min(result.scores.values()) > 0.01
    assert len(result.stream) == 2  # before both branches of the block
    assert result.tokens == result.stream[0]
    for cut in result.stream:
        assert cut.mean == pytest.approx(1, abs=0.02)
        assert cut.spread < 0.02
    assert json.loads(json.dumps(result.to_dict()))["scores"] == result.scores


def test_the_rules_differ(transformer):
    model, tensors, _ = transformer
    feeds = batches(4, 4)
    first, second = (LayerRelevance(tensors).measure(model, feeds, rule, threads=1).scores for rule in (ZPLUS, GAMMA))
    assert max(abs(first[layer] - second[layer]) for layer in tensors) > 1e-3


@pytest.mark.parametrize("rule", RULES)
def test_batches_make_no_difference(transformer, rule):
    model, tensors, batch = transformer
    if batch == "n":
        splits = [(12,), (5, 7), (1,) * 12]
    else:
        splits = [(4, 4, 4)]
        free = to_graph(tiny())
        run_passes(free, [item() for item in CANONICALISE])
    results = [LayerRelevance(tensors).measure(model, batches(12, *sizes), rule, threads=1) for sizes in splits]
    if batch != "n":
        results.append(LayerRelevance(tensors).measure(to_model(free), batches(12, 12), rule, threads=1))
    for other in results[1:]:
        assert other.images == results[0].images
        for layer, score in results[0].scores.items():
            assert other.scores[layer] == pytest.approx(score, rel=1e-4)
        for cut, same in zip(results[0].stream, other.stream, strict=True):
            assert (same.mean, same.spread) == pytest.approx((cut.mean, cut.spread), abs=1e-5)


def test_one_batch_at_a_time(transformer):
    """A feed is gone before the one after the next is made, and progress counts images."""
    model, tensors, _ = transformer
    made, seen = [], []

    def stream():
        for feed in batches(12, 4, 4, 4):
            array = feed["x"].copy()
            made.append(weakref.ref(array))
            assert sum(reference() is not None for reference in made) <= 2
            yield {"x": array}
            del array

    LayerRelevance(tensors).measure(model, stream(), threads=1, progress=seen.append)
    assert seen == [4, 8, 12]


HEADS = "agraph (float[n, 2] x) => (float[n, 2] y) {{ a = MatMul (x, wa) b = MatMul (x, wb) {join} }}"
WEIGHTS = {"wa": F([[1], [0]]), "wb": F([[0], [1]])}
LAYERS = {"a": "a", "b": "b"}


def test_relevance_starts_at_the_largest_logit():
    model = parsed(HEADS.format(join="y = Concat <axis = 1> (a, b)"), **WEIGHTS)
    for feed, expected in (([3, 1], {"a": 1, "b": 0}), ([-5, -2], {"a": 0, "b": 1})):
        assert LayerRelevance(LAYERS).measure(model, [{"x": F([feed])}]).scores == expected
    both = LayerRelevance(LAYERS).measure(model, [{"x": F([[3, 1], [1, 3], [1, 2], [1, 2]])}])
    assert both.scores == {"a": 0.25, "b": 0.75}


def test_other_outputs_start_with_their_positive_scores():
    text = HEADS.format(join="c = Concat <axis = 1> (a, b) y = Unsqueeze (c, two)").replace("2] y", "2, 1] y")
    model = parsed(text, **WEIGHTS, two=np.array([2]))
    assert LayerRelevance(LAYERS).measure(model, [{"x": F([[3, 1]])}]).scores == {"a": 0.75, "b": 0.25}
    assert LayerRelevance(LAYERS).measure(model, [{"x": F([[3, -1]])}]).scores == {"a": 1, "b": 0}


def test_outputs_count_alike_whatever_their_scale():
    text = HEADS.format(join="c = Mul (a, large) z = Identity (b)").replace("2] y)", "1] c, float[n, 1] z)")
    model = parsed(text, **WEIGHTS, large=F([1000]))
    assert RelevancePath.of(model).outputs == ("c", "z")
    assert LayerRelevance(LAYERS).measure(model, [{"x": F([[3, 1]])}]).scores == {"a": 0.5, "b": 0.5}


def test_a_score_is_a_part_of_every_image_and_not_of_the_sum():
    """An image with logits a hundred times as large counts once."""
    model = parsed(HEADS.format(join="y = Concat <axis = 1> (a, b)"), **WEIGHTS)
    result = LayerRelevance(LAYERS).measure(model, [{"x": F([[300, 0], [1, 2]])}])
    assert result.scores == {"a": 0.5, "b": 0.5}


def test_images_without_relevance_do_not_count():
    model = parsed(HEADS.format(join="y = Concat <axis = 1> (a, b)"), **WEIGHTS)
    result = LayerRelevance(LAYERS).measure(model, [{"x": F([[0, 0], [1, 2]])}])
    assert (result.scores, result.images) == ({"a": 0, "b": 1}, 1)
    with pytest.raises(UnsupportedModelError, match=r"no relevance reaches any of the 2 layers .*'zplus'"):
        LayerRelevance(LAYERS).measure(model, [{"x": F([[0, 0]])}])


def test_branches_are_added_where_they_meet():
    """y = h + 3 h: one quarter of the relevance and three, and all of it where both come from."""
    model = parsed(
        """g (float[n, 1, 2] x) => (float[n, 2] y) {
        h = MatMul (x, w)  t = Mul (h, three)  s = Add (h, t)  y = Squeeze (s, one)
        }""",
        w=np.eye(2, dtype=F),
        three=F([3, 3]),
        one=np.array([1]),
    )
    layers = {"whole": "h", "branch": "t", "sum": "s"}
    result = LayerRelevance(layers).measure(model, [{"x": F([[[2, 1]]])}])
    assert result.scores == pytest.approx({"whole": 4 / 11, "branch": 3 / 11, "sum": 4 / 11})
    assert [(cut.tensor, cut.mean) for cut in result.stream] == [("h", pytest.approx(1))]


def test_a_position_embedding_takes_its_share():
    """Of h h + e with h h = 1 and 3, e = 3 there is 1/4 and 2/4 left in front of the sum."""
    model = parsed(
        """g (float[n, 2, 2] x) => (float[n, 2] y) {
        h = Mul (x, one)  k = Relu (h)  m = Mul (h, k)  e = Add (m, places)  y = Gather <axis = 1> (e, first)
        }""",
        one=np.array(1, F),
        places=F([[3, 0.5], [1, 1]]),
        first=np.array(0),
    )
    result = LayerRelevance({"h": "h"}).measure(model, [{"x": F([[[1, 0], [2, 2]], [[np.sqrt(3), 0], [2, 2]]])}])
    (cut,) = result.stream
    assert (cut.tensor, cut.mean, cut.spread) == ("h", pytest.approx(3 / 8), pytest.approx(1 / 8))


def test_the_stream_is_what_everything_passes():
    model = parsed(
        """g (float[n, 3, 4] x) => (float[n, 4] y) {
        t = MatMul (x, w)  n = LayerNormalization <axis = -1> (t, w1, w1)  b = MatMul (n, w)  r = Add (t, b)
        c = MatMul (r, w)  d = MatMul (c, w)  e = Gelu (c)  f = Add (d, e)  u = Transpose <perm = [0, 2, 1]> (f)
        unread = Relu (r)  y = ReduceMean <keepdims = 0> (u, last)
        }""",
        w=np.eye(4, dtype=F),
        w1=np.ones(4, F),
        last=np.array([2]),
    )
    assert RelevancePath.of(model).stream() == ("t", "c")


def test_what_lies_below_the_layers_needs_no_rule():
    """Operators between the images and the first layer are not visited."""
    model = parsed(
        """g (float[n, 1, 4] x) => (float[n, 2] y) {
        q = Relu (x)  p = Compress <axis = 2> (q, odd)  h = MatMul (p, w)  y = Squeeze (h, one)
        }""",
        w=np.eye(2, dtype=F),
        one=np.array([1]),
        odd=np.array([True, False, True, False]),
    )
    feeds = [{"x": F([[[1, 2, 3, 4]]])}]
    assert LayerRelevance({"h": "h"}).measure(model, feeds).scores == {"h": 1}
    with pytest.raises(UnsupportedModelError, match="no rule for operator 'Compress'"):
        LayerRelevance({"h": "h", "q": "q"}).measure(model, feeds)


def test_images_along_another_axis():
    model = parsed(
        """g (float[n, 3, 4] x) => (float[n, 4] y) {
        t = Transpose <perm = [1, 0, 2]> (x)  h = MatMul (t, w)  y = ReduceMean <keepdims = 0> (h, zero)
        }""",
        w=np.eye(4, dtype=F),
        zero=np.array([0]),
    )
    feed = np.abs(np.random.default_rng(0).standard_normal((3, 3, 4))).astype(F)
    one_by_one = LayerRelevance({"h": "h"}).measure(model, [{"x": image[None]} for image in feed])
    assert one_by_one.scores == {"h": 1}
    with pytest.raises(UnsupportedModelError, match=r"do not lie along axis 0 of 'h': .* one image per feed"):
        LayerRelevance({"h": "h"}).measure(model, [{"x": feed}])


def test_refusals(transformer):
    model, tensors, _ = transformer
    with pytest.raises(OptionError, match="--lrp-rule 'epsilon': choose one of zplus, gamma"):
        LayerRelevance(tensors).measure(model, batches(4, 4), "epsilon")
    with pytest.raises(CalibrationDataError, match="at least one"):
        LayerRelevance(tensors).measure(model, [])
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        LayerRelevance(tensors).measure(model, [{"x": np.full((4, 1, 8, 8), np.inf, F)}])
    with pytest.raises(KeyError, match="layer 'head': no node makes the tensor 'nothing'"):
        LayerRelevance({"head": "nothing"}).measure(model, batches(4, 4))


def test_the_model_is_not_changed(transformer):
    model, tensors, _ = transformer
    before = model.SerializeToString(deterministic=True)
    LayerRelevance(tensors).measure(model, batches(4, 4), threads=1)
    assert model.SerializeToString(deterministic=True) == before
