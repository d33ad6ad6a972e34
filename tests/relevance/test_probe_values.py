"""The float run, and what of it is kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import NonFiniteError
from qcompiler.ir.outputs import with_outputs
from qcompiler.relevance.probe_values import fitting, probe_values
from qcompiler.relevance.skeleton import Skeleton
from qcompiler.relevance.suffix import Operand

from .models import OPERANDS, images, model, run, with_weight

ALL = [Operand(*place) for place in OPERANDS.values()]
SIZES = {"p": 100, "c": 160, "t": 120, "r": 160, "e": 16}  # bytes an image


def values_of(feeds, operands=ALL, byte_limit=10**6, folder=None, made=None):
    return probe_values(Skeleton.of(made or model()), feeds, operands, 1, byte_limit, folder)


def stored(values):
    return {name for name, _ in values.arrays.entries} - values.inputs


@pytest.mark.parametrize("folder", [None, "values"])
def test_holds_what_suffixes_start_from(tmp_path, folder):
    feeds = images(3, batch=2)
    values = values_of(feeds, folder=folder and tmp_path / folder)
    assert stored(values) == set(SIZES)
    assert values.inputs == {"x"}
    assert list(values.feeds) == [0, 1, 2]
    assert values.missing(["x", "p", "s", "logits"]) == ["s", "logits"]
    for number, feed in enumerate(feeds):
        names = ["logits", *SIZES]
        expected = dict(zip(names, run(with_outputs(model(), names), feed, names), strict=True))
        np.testing.assert_allclose(values.logits[number], expected.pop("logits"), rtol=1e-5, atol=1e-6)
        found = values.of(["x", *SIZES], number)
        np.testing.assert_array_equal(found.pop("x"), feed["x"])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
            assert found[name].nbytes == SIZES[name] * 2


@pytest.mark.parametrize(
    ("byte_limit", "kept"),
    [
        (0, ""),
        (15, ""),
        (16, "e"),
        (115, "e"),
        (116, "ep"),  # the first linear layer starts from the images and p
        (176, "er"),
        (435, "erp"),  # p without c, which is no start for the product
        (436, "erpc"),
        (555, "erpc"),
        (556, "erpct"),
    ],
)
def test_byte_limit(byte_limit, kept):
    """Operands nearest to the output come first, and only whole starting points are kept."""
    assert stored(values_of(images(1), byte_limit=byte_limit)) == set(kept)


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), max_size=6),
    st.lists(st.integers(1, 50), min_size=6, max_size=6),
    st.integers(0, 150),
)
def test_fitting(starts, sizes, limit):
    size = dict(zip("abcdef", sizes, strict=True))
    chosen = fitting(starts, size, limit)
    assert len(set(chosen)) == len(chosen)
    assert sum(size[name] for name in chosen) <= limit
    held = set()
    for names in starts:
        fits = sum(size[name] for name in held | set(names)) <= limit
        assert not fits or set(names) <= set(chosen)
        held |= set(names) if fits else set()
    assert held == set(chosen)


def test_nothing_but_images_below_a_limit_of_zero():
    values = values_of(images(2), byte_limit=0)
    assert set(values.arrays.entries) == {("x", 0), ("x", 1)}


def test_the_limit_counts_every_feed():
    one = sum(SIZES.values())
    for feeds in (images(3, batch=2), images(1, batch=4) + images(1, batch=2)):
        assert stored(values_of(feeds, byte_limit=6 * one)) == set(SIZES)
        assert stored(values_of(feeds, byte_limit=6 * one - 1)) < set(SIZES)


def test_a_model_that_predicts_nan():
    made = with_weight(model(), "w2", np.full((8, 4), np.nan, np.float32))
    with pytest.raises(NonFiniteError, match="the float model"):
        values_of(images(1), made=made)
