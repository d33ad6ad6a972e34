"""Shares of products and sums against loops over single numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.relevance.lrp_shares import gamma, mean_shares, product_shares, ratio, sum_shares, sum_to, zplus

F = np.float32
# Shares are single quotients and sums of at most some ten terms in float32.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def whole(shape, seed, limit=3):
    """Small whole numbers: sums are exact in float32, zeros and exact cancellation are frequent."""
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape).astype(F)


def by_terms(x, weight, relevance, weigh):
    """A linear layer term by term, in double precision; `weigh` maps the terms of one output to counted terms."""
    found = np.zeros(x.shape)
    for row in range(x.shape[0]):
        for column in range(weight.shape[1]):
            terms = weigh([float(x[row, c]) * float(weight[c, column]) for c in range(x.shape[1])])
            total = math.fsum(terms)
            for c, term in enumerate(terms):
                found[row, c] += term / total * float(relevance[row, column]) if total else 0.0
    return found


def only_positive(terms):
    return [max(term, 0.0) for term in terms]


def favoured(terms):
    total = math.fsum(terms)
    return [term * 1.25 if term * total > 0 else term for term in terms] if total else [0.0] * len(terms)


SIZES = st.tuples(*[st.integers(1, 5)] * 3)
SEEDS = st.integers(0, 10**6)


@settings(deadline=None, max_examples=60)
@given(SIZES, SEEDS)
@pytest.mark.parametrize(("rule", "weigh"), [(zplus, only_positive), (gamma, favoured)])
def test_linear(rule, weigh, sizes, seed):
    rows, channels, outputs = sizes
    x, weight = whole((rows, channels), seed), whole((channels, outputs), seed + 1)
    relevance = whole((rows, outputs), seed + 2, limit=9)
    found = rule(x, weight, relevance)
    assert found.dtype == F
    np.testing.assert_allclose(found, by_terms(x, weight, relevance, weigh), **CLOSE)


@pytest.mark.parametrize("rule", [zplus, gamma])
def test_linear_matrix_by_matrix(rule):
    x, weight, relevance = whole((3, 2, 4, 5), 0), whole((2, 5, 6), 1), whole((3, 2, 4, 6), 2)
    found = rule(x, weight, relevance)
    for image in range(3):
        for group in range(2):
            alone = rule(x[image, group], weight[group], relevance[image, group])
            np.testing.assert_allclose(found[image, group], alone, **CLOSE)


def test_gamma_grows_ninefold_at_most():
    """The worst case: terms that cancel to almost nothing."""
    x, weight = F([[1, 1]]), F([[1000], [-999]])
    found = gamma(x, weight, F([[1]]))
    assert found.sum() == pytest.approx(1, rel=1e-4)
    assert 8.5 < np.abs(found).sum() < 9


def test_zplus_loses_what_has_no_positive_term():
    found = zplus(F([[1, 2]]), F([[-1, 1], [-1, 0]]), F([[5, 7]]))
    np.testing.assert_array_equal(found, F([[7, 0]]))


@settings(deadline=None, max_examples=60)
@given(SIZES, SEEDS)
def test_product(sizes, seed):
    rows, inner, columns = sizes
    a, b = whole((2, rows, inner), seed), whole((2, inner, columns), seed + 1)
    relevance = whole((2, rows, columns), seed + 2, limit=9)
    expected_a, expected_b = np.zeros(a.shape), np.zeros(b.shape)
    for k, i, j in np.ndindex(relevance.shape):
        terms = [float(a[k, i, c]) * float(b[k, c, j]) for c in range(inner)]
        for c, term in enumerate(terms):
            share = term / math.fsum(terms) * float(relevance[k, i, j]) / 2 if math.fsum(terms) else 0.0
            expected_a[k, i, c] += share
            expected_b[k, c, j] += share
    found_a, found_b = product_shares(a, b, relevance)
    np.testing.assert_allclose(found_a, expected_a, **CLOSE)
    np.testing.assert_allclose(found_b, expected_b, **CLOSE)


def test_product_drops_what_cancels():
    """0.0001 among values of about 1: the relevance of that entry is dropped, that of the others is kept."""
    a, b = F([[1, -1]]), F([[1, 2], [0.9999, 1]])
    found_a, found_b = product_shares(a, b, F([[3, 4]]))
    np.testing.assert_allclose(found_a, [[4, -2]], rtol=1e-5)
    np.testing.assert_allclose(found_b, [[0, 4], [0, -2]], rtol=1e-5)
    found_a, _ = product_shares(a[:, :], b[:, :1], F([[3]]))  # alone in its matrix it is no small value
    assert found_a.sum() == pytest.approx(1.5, rel=1e-2)


def test_product_of_broadcast_matrices():
    a, b, relevance = whole((4, 3, 5), 3), whole((5, 2), 4), whole((4, 3, 2), 5)
    found_a, found_b = product_shares(a, b, relevance)
    alone = [product_shares(a[k], b, relevance[k]) for k in range(4)]
    np.testing.assert_allclose(found_a, np.stack([pair[0] for pair in alone]), **CLOSE)
    np.testing.assert_allclose(found_b, np.sum([pair[1] for pair in alone], axis=0), **CLOSE)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([(2, 3, 4), (1, 3, 4), (3, 1), (4,), (1, 1, 1), ()]), min_size=1, max_size=3), SEEDS)
def test_sum(shapes, seed):
    terms = [whole(shape, seed + index) for index, shape in enumerate([(2, 3, 4), *shapes])]
    relevance = whole((2, 3, 4), seed + 9, limit=9)
    expected = [np.zeros(term.shape) for term in terms]
    for place in np.ndindex(relevance.shape):
        own = [tuple(np.minimum(place[3 - term.ndim :], np.array(term.shape, int) - 1)) for term in terms]
        sizes = [abs(float(term[at])) for term, at in zip(terms, own, strict=True)]
        for found, at, size in zip(expected, own, sizes, strict=True):
            found[at] += size / sum(sizes) * float(relevance[place]) if sum(sizes) else 0.0
    for found, wanted in zip(sum_shares(terms, relevance), expected, strict=True):
        np.testing.assert_allclose(found, wanted, **CLOSE)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([(0,), (1,), (2,), (0, 2), (0, 1, 2)]), SEEDS)
def test_mean(axes, seed):
    x = whole((2, 3, 4), seed)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    relevance = whole(kept, seed + 1, limit=9)
    expected = np.zeros(x.shape)
    for place in np.ndindex(kept):
        members = [at for at in np.ndindex(x.shape) if all(at[k] == place[k] for k in range(3) if k not in axes)]
        total = sum(float(x[at]) for at in members)
        used = {at: float(x[at]) for at in members if float(x[at]) * total > 0}
        for at, value in used.items():
            expected[at] = value / sum(used.values()) * float(relevance[place])
    np.testing.assert_allclose(mean_shares(x, axes, relevance), expected, **CLOSE)


def test_ratio_is_zero_where_the_denominator_is():
    found = ratio(F([1, 2, 3, -4]), F([0, 1e-30, -2, 8]))
    np.testing.assert_array_equal(found, F([0, 0, -1.5, -0.5]))
    np.testing.assert_array_equal(ratio(F([1, 1]), F([0.5, 2]), F(1)), F([0, 0.5]))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 1, 4), (2, 3, 4), (2, 1, 4)])
def test_sum_to_is_the_adjoint_of_broadcasting(shape):
    """<broadcast(a), r> = <a, sum_to(r)>, exactly in whole numbers."""
    a, relevance = whole(shape, 6), whole((2, 3, 4), 7)
    found = sum_to(relevance, shape)
    assert found.shape == shape
    assert (np.broadcast_to(a, relevance.shape) * relevance).sum() == (a * found).sum()
