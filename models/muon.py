"""Muon: momentum whose update is made orthogonal, for the weight matrices of short trainings.

torch's own `torch.optim.Muon` does the same in bfloat16, which processors without bfloat16 products run twenty times
slower than float32; there the optimiser would take longer than the model.
"""

from __future__ import annotations

from typing import Any

from qcompiler.models.extras import require

# The quintic whose iteration pulls singular values towards 1 fastest from near 0 (published with the method).
ITERATIONS = 5
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrix: Any) -> Any:
    """The orthogonal factor of a matrix [m, n] approximately: its singular vectors, all singular values near 1."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    X = wide / (wide.norm() + 1e-7)  # the spectral norm is at most the Frobenius norm
    for _ in range(ITERATIONS):
        gram = X @ X.T
        X = A * X + (B * gram + C * gram @ gram) @ X
    return X if matrix.shape[0] <= matrix.shape[1] else X.T


def make_muon(parameters: list[Any], learning_rate: float, momentum: float = 0.95, weight_decay: float = 0.0) -> Any:
    """A torch optimiser (float32) over weights of two or more axes; axes behind the first count as one.

    Args:
        parameters: weights [out, ...]; convolution kernels are taken as matrices of [out, in * rows * columns].
        learning_rate: spectral norm of one update of a square matrix.
        momentum: of the Nesterov average of gradients.
        weight_decay: share of a weight that is lost per step, times the learning rate.

    Raises:
        OptionError: torch is not installed.
    """
    torch = require("torch", "training")
    Optimizer: Any = torch.optim.Optimizer

    class Muon(Optimizer):
        @torch.no_grad()
        def step(self) -> None:
            for group in self.param_groups:
                for weight in group["params"]:
                    average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                    average.lerp_(weight.grad, 1 - group["momentum"])
                    update = orthogonalise(weight.grad.lerp(average, group["momentum"]).flatten(1))
                    tall = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update.view_as(weight), alpha=-group["lr"] * tall)

    return Muon(parameters, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay})
