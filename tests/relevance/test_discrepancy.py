"""The change of the prediction, against SciPy and against edited whole models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import rel_entr, softmax

from qcompiler.relevance.discrepancy import DiscrepancyProbe, mean_kl
from qcompiler.relevance.suffix import Operand

from .models import OPERANDS, edited, images, model, run

F = np.float32
LOGITS = st.tuples(st.integers(1, 4), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(*[arrays(F, shape, elements=st.floats(-30, 30, width=32))] * 2)
)


def kl(reference, logits):
    p, q = (softmax(x.astype(np.float64), axis=1) for x in (reference, logits))
    return rel_entr(p, q).sum(axis=1).mean()


@settings(deadline=None)
@given(LOGITS)
def test_mean_kl(pair):
    assert mean_kl(*pair) == pytest.approx(kl(*pair), rel=1e-6, abs=1e-9)


def test_mean_kl_of_far_logits_is_finite():
    a, b = F([[1000, 0]]), F([[0, 1000]])
    assert mean_kl(a, b) == pytest.approx(1000)
    assert mean_kl(a, a) == 0


def test_mean_kl_is_over_images_and_directed():
    a, b = F([[0, 1], [0, 0]]), F([[0, 3], [0, 0]])
    assert mean_kl(a, b) == pytest.approx(mean_kl(a[:1], b[:1]) / 2)
    assert mean_kl(a, b) != pytest.approx(mean_kl(b, a), rel=1e-3)


@pytest.mark.parametrize("which", OPERANDS)
def test_measured_on_the_edited_model(which):
    made, feeds = model(), images(3)
    operand = Operand(*OPERANDS[which])
    probe = DiscrepancyProbe(made, feeds, [operand], threads=1)
    found = probe.measure(operand, [lambda x: x, lambda x: x * F(0.5), lambda x: x * F(0)])
    reference = np.concatenate([run(made, feed)[0] for feed in feeds])
    assert found[0] == pytest.approx(0, abs=1e-9)
    for value, factor in zip(found[1:], (0.5, 0.0), strict=True):
        changed = np.concatenate([run(edited(made, OPERANDS[which], ("Mul", factor)), feed)[0] for feed in feeds])
        assert value == pytest.approx(kl(reference, changed), rel=1e-3)
        assert value > 1e-6


def test_many_operands_share_one_float_run():
    made, feeds = model(), images(2)
    operands = [Operand(*place) for place in OPERANDS.values()]
    shared = DiscrepancyProbe(made, feeds, operands, threads=1)
    for operand in operands:
        alone = DiscrepancyProbe(made, feeds, [operand], threads=1)
        simulations = [lambda x: np.round(x)]
        assert shared.measure(operand, simulations) == pytest.approx(alone.measure(operand, simulations), rel=1e-5)


def test_fixed_batch():
    feeds = images(2, batch=4)
    operand = Operand(*OPERANDS["second linear"])
    fixed, free = (
        DiscrepancyProbe(model(batch), feeds, [operand], threads=1).measure(operand, [np.round]) for batch in (4, "n")
    )
    assert fixed == pytest.approx(free, rel=1e-5)


def test_simulations_see_the_float_operand():
    made, feeds, seen = model(), images(2), []
    operand = Operand(*OPERANDS["first linear"])

    def look(x):
        seen.append(x.copy())
        return x

    DiscrepancyProbe(made, feeds, [operand], threads=1).measure(operand, [look])
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate([feed["x"] for feed in feeds]))
