"""A model whose weights lie outside of it computes the same."""

import numpy as np
import pytest

from qcompiler.relevance.skeleton import Skeleton
from qcompiler.relevance.suffix import Operand, SuffixGraph

from .models import OPERANDS, constant, images, model, run, with_weight


@pytest.mark.parametrize("held_from", [1, 100, 10**9])
@pytest.mark.parametrize("where", ["memory", "files", "moved to files", "moved to memory"])
def test_whole_model(tmp_path, held_from, where):
    made, (feed,) = model(), images(1, batch=2)
    before = made.SerializeToString()
    skeleton = Skeleton.of(made, tmp_path / "a" if where in ("files", "moved to memory") else None, held_from)
    if where == "moved to files":
        skeleton = skeleton.in_files(tmp_path / "b")
    if where == "moved to memory":
        skeleton = skeleton.in_memory()
    assert set(skeleton.weights.entries) == {1: {"w1", "b1", "w2"}, 100: {"w1", "w2"}, 10**9: set()}[held_from]
    found = skeleton.session(skeleton.model, threads=1).run(feed)
    assert list(found) == ["logits"]
    np.testing.assert_array_equal(found["logits"], run(made, feed)[0])
    assert made.SerializeToString() == before


def test_part():
    made, (feed,) = model(), images(1)
    skeleton = Skeleton.of(made, held_from=1)
    cut = SuffixGraph(skeleton.model).cut(Operand(*OPERANDS["second linear"]), outputs=["d", "logits"])
    r = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    session = skeleton.session(cut, threads=1)
    found = session.run({**feed, SuffixGraph.REPLACED: r}, ["d"])  # what is no input is not fed
    assert list(found) == ["d"]
    np.testing.assert_allclose(found["d"], r @ constant(made, "w2"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("held_from", [1, 10**9])
def test_constant(held_from):
    made = model()
    skeleton = Skeleton.of(made, held_from=held_from)
    for name in ("w1", "b1", "axis"):
        np.testing.assert_array_equal(skeleton.constant(name), constant(made, name))


def test_held_weights_are_no_bytes_of_the_model():
    """10,000 times the weights, equal bytes but for the sizes that are declared."""
    small = Skeleton.of(with_weight(model(), "w1", np.zeros((6, 8), np.float32)), held_from=1).model.ByteSize()
    large = Skeleton.of(with_weight(model(), "w1", np.zeros((600, 800), np.float32)), held_from=1).model.ByteSize()
    assert large <= small + 8
