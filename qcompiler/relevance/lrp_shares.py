"""The arithmetic of relevance: how one product or one sum hands its relevance to what it was made of.

All functions work on float32 arrays and return contributions that add up to the relevance given, but for what is lost
where the denominator is zero. A share is `contribution / sum of contributions`; it stays bounded where all
contributions have one sign, and the functions below say what they do where they have not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.quant.groups import F32

LinearRule = Callable[[F32, F32, F32], F32]
"""Input ``[..., N, C]``, weights ``[..., C, D]``, relevance of the product ``[..., N, D]`` -> that of the input."""

ZPLUS, GAMMA = "zplus", "gamma"
RULES = (ZPLUS, GAMMA)

# How much more the contributions of the sign of the result count.
_GAMMA = np.float32(0.25)
# A sum of terms of one sign below this is an empty one; its square is still a float32.
_EMPTY = np.float32(1e-18)
# A product of activations below this fraction of its matrix's root mean square is what cancellation left over. Without
# the bound single entries own most of the relevance: on trained models its absolute sum grew up to 200-fold and scores
# depended on the rounding by 10 %; with it 0.1 % of the relevance is lost and scores agree to 0.1 %.
_CANCELLED = np.float32(1e-3)


def ratio(relevance: F32, denominator: F32, floor: npt.NDArray[Any] | np.float32 = _EMPTY) -> F32:
    """``relevance / denominator``, 0 where the denominator's magnitude is not above ``floor``; shapes broadcast."""
    shape = np.broadcast_shapes(relevance.shape, denominator.shape)
    found = np.zeros(shape, np.result_type(relevance, denominator))
    return np.divide(relevance, denominator, out=found, where=np.abs(denominator) > floor)


def zplus(x: F32, weight: F32, relevance: F32) -> F32:
    """Linear layer, z+ form: only terms ``x w > 0`` receive relevance, in proportion (Transformer-Explainability).

    Args:
        x: Input ``[..., N, C]``.
        weight: ``[..., C, D]``; a bias has no part in the rule.
        relevance: Of the product, ``[..., N, D]``.

    Returns:
        Relevance of the input, ``[..., N, C]``. What arrives at outputs without a positive term is lost.
    """
    (up, down), (more, less) = _signs(x), _signs(weight)
    share = ratio(relevance, up @ more + down @ less)
    return up * (share @ _turned(more)) + down * (share @ _turned(less))


def gamma(x: F32, weight: F32, relevance: F32) -> F32:
    """Linear layer, gamma rule: terms of the sign of their sum count 1 + 1/4, the others 1.

    The sum of the terms so weighted has at least 1/9 of their absolute sum, so that relevance grows no more than
    ninefold in absolute value. Arguments and result as :func:`zplus`; nothing is lost but at outputs of exactly 0.
    """
    (up, down), (more, less) = _signs(x), _signs(weight)
    raising, lowering = up @ more + down @ less, up @ less + down @ more
    total = raising + lowering
    positive, negative = total > 0, total < 0
    weighted = total + _GAMMA * (raising * positive + lowering * negative)
    share = ratio(relevance, weighted)
    for_raising, for_lowering = share * (1 + _GAMMA * positive), share * (1 + _GAMMA * negative)
    rising = for_raising @ _turned(more) + for_lowering @ _turned(less)
    falling = for_raising @ _turned(less) + for_lowering @ _turned(more)
    return up * rising + down * falling


LINEAR_RULES: Mapping[str, LinearRule] = MappingProxyType({ZPLUS: zplus, GAMMA: gamma})


def product_shares(a: F32, b: F32, relevance: F32) -> tuple[F32, F32]:
    """Product of two activations: one half of the relevance to each, in proportion to the terms of ``Y = A B``.

    ``S = R / Y``, ``R_A = A (S B^T) / 2``, ``R_B = B (A^T S) / 2``. Terms of both signs meet here; where they cancel
    to nothing the relevance is dropped.

    Args:
        a: ``[..., N, K]``.
        b: ``[..., K, M]``; leading axes broadcast.
        relevance: Of the product, ``[..., N, M]``.

    Returns:
        Relevance of both, in their own shapes.
    """
    product = a @ b
    scale = np.sqrt(np.square(product).mean(axis=(-2, -1), keepdims=True))
    share = ratio(relevance, product, np.maximum(_CANCELLED * scale, _EMPTY)) * np.float32(0.5)
    return sum_to(a * (share @ _turned(b)), a.shape), sum_to(b * (_turned(a) @ share), b.shape)


def sum_shares(terms: Sequence[F32], relevance: F32) -> list[F32]:
    """Sum of tensors: every element's relevance split in proportion to the magnitude of its terms.

    ``a R / Y`` and ``b R / Y``, rescaled element by element so that both follow absolute mass and together stay R:
    ``|a| R / (|a| + |b|)``. Rescaling whole tensors instead lets the elements where Y crosses 0 own the relevance.

    Args:
        terms: Tensors that broadcast to the shape of the sum.
        relevance: Of the sum.

    Returns:
        Relevance of every term, in its own shape. Where all terms are 0 the relevance is lost.
    """
    sizes = [np.abs(term) for term in terms]
    share = ratio(relevance, np.sum(np.broadcast_arrays(*sizes), axis=0))
    return [sum_to(size * share, size.shape) for size in sizes]


def mean_shares(x: F32, axes: tuple[int, ...], relevance: F32) -> F32:
    """Mean or sum over axes: relevance goes to the elements of the sign of the result, in proportion.

    Args:
        x: Input.
        axes: Axes reduced.
        relevance: Of the result, with the reduced axes kept as 1.

    Returns:
        Relevance of ``x``; nothing is lost but where the result is 0.
    """
    sign = np.sign(x.sum(axis=axes, keepdims=True))
    used = x * (x * sign > 0)
    return used * ratio(relevance, used.sum(axis=axes, keepdims=True))


def sum_to(values: F32, shape: Sequence[int]) -> F32:
    """The adjoint of broadcasting: ``values`` summed over the axes along which ``shape`` was repeated."""
    if values.shape == tuple(shape):
        return values
    values = values.sum(axis=tuple(range(values.ndim - len(shape))))
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 != values.shape[axis])
    return values.sum(axis=repeated, keepdims=True)


def _signs(values: F32) -> tuple[F32, F32]:
    """The positive and the negative part."""
    return np.maximum(values, 0), np.minimum(values, 0)


def _turned(matrix: F32) -> F32:
    return np.swapaxes(matrix, -1, -2)
