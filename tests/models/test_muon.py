"""The optimiser against singular value decompositions."""

import numpy as np
import pytest

from qcompiler.models import muon

torch = pytest.importorskip("torch")


def matrix(rows, columns, seed=0):
    """Singular values between 0.2 and 1, times 7."""
    draw = np.random.default_rng(seed)
    rank = min(rows, columns)
    left, right = (np.linalg.qr(draw.standard_normal((size, rank)))[0] for size in (rows, columns))
    values = 7 * np.linspace(0.2, 1, rank)
    return torch.from_numpy(((left * values) @ right.T).astype(np.float32)), left, right


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (6, 20), (20, 6), (1, 9)])
def test_singular_vectors_stay_and_values_become_one(rows, columns):
    whole, left, right = matrix(rows, columns)
    core = left.T @ muon.orthogonalise(whole).numpy() @ right
    values = np.diag(core)
    # The published quintic ends within a band around 1, on purpose: it reaches it in few steps.
    assert values.min() > 0.65
    assert values.max() < 1.25
    np.testing.assert_allclose(core, np.diag(values), atol=2e-3)


def test_a_step_moves_against_the_gradient_and_decays():
    gradient, left, right = matrix(6, 12)
    weight = torch.nn.Parameter(torch.full((6, 3, 2, 2), 0.5))
    optimiser = muon.make_muon([weight], 0.1, weight_decay=0.2)
    weight.grad = gradient.view(6, 3, 2, 2)
    optimiser.step()
    core = left.T @ (0.5 * (1 - 0.1 * 0.2) - weight.detach().numpy().reshape(6, 12)) @ right / 0.1
    assert 0.65 < np.diag(core).min() <= np.diag(core).max() < 1.25


def test_a_tall_matrix_moves_further():
    gradient, left, right = matrix(16, 4)
    weight = torch.nn.Parameter(torch.zeros(16, 4))
    optimiser = muon.make_muon([weight], 0.1)
    weight.grad = gradient
    optimiser.step()
    values = np.diag(left.T @ -weight.detach().numpy() @ right) / 0.1
    assert 0.65 < values.min() / 2 <= values.max() / 2 < 1.25


def test_momentum_outlives_a_gradient():
    gradient, *_ = matrix(5, 5)
    weight = torch.nn.Parameter(torch.zeros(5, 5))
    optimiser = muon.make_muon([weight], 0.1)
    weight.grad = gradient
    optimiser.step()
    before = weight.detach().clone()
    weight.grad = torch.zeros(5, 5)
    optimiser.step()
    moved = (weight.detach() - before).numpy()
    assert np.sum(moved * before.numpy()) > 0.9 * np.linalg.norm(moved) * np.linalg.norm(before.numpy())


def test_a_quadratic_is_minimised():
    target, *_ = matrix(6, 10)
    weight = torch.nn.Parameter(torch.zeros(6, 10))
    optimiser = muon.make_muon([weight], 0.5)
    for step in range(100):
        optimiser.param_groups[0]["lr"] = 0.5 * (1 - step / 100)
        optimiser.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimiser.step()
    assert float((weight - target).detach().norm() / target.norm()) < 0.05
