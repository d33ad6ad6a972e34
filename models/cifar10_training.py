"""Training on CIFAR-10 that can stop and go on: the numbers of step n follow from the seed and n alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import OptionError
from qcompiler.models.atomic import written_beside
from qcompiler.models.cifar10_data import Labelled, augment, normalise
from qcompiler.models.extras import require
from qcompiler.models.muon import make_muon

PURPOSE = "training the CIFAR-10 models"


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the result (besides the versions of the libraries).

    The rates rise over `warmup` steps, stay, and fall linearly to 0 over the last part `decay` of all steps: a run
    can be made longer until they begin to fall.

    Attributes:
        seed: of the initial weights, the order of images, their augmentation and the split.
        epochs: passes over the training images.
        batch: images per step.
        matrix_rate: Muon's learning rate, for convolutions and the linear layers of blocks.
        other_rate: AdamW's, for everything else.
        matrix_decay: weight decay of Muon; the other parameters have none.
        warmup: steps.
        decay: fraction of all steps.
        smoothing: of labels.
        held_out_per_class: training images that are kept apart, to make choices on.
    """

    seed: int = 0
    epochs: float = 10
    batch: int = 128
    matrix_rate: float = 0.02
    other_rate: float = 2e-3
    matrix_decay: float = 0.1
    warmup: int = 50
    decay: float = 0.6
    smoothing: float = 0.1
    held_out_per_class: int = 200

    def steps(self, images: int) -> int:
        """Steps of the whole training on so many images."""
        return max(1, round(self.epochs * (images // self.batch)))

    def factor(self, step: int, steps: int) -> float:
        """What the rates of `step` (from 0) are multiplied with."""
        return min(1.0, (step + 1) / self.warmup, (steps - step) / (self.decay * steps))


def train(
    model: Any,
    recipe: Recipe,
    data: Labelled,
    checkpoint: Path,
    every: int = 50,
    log: Callable[[str], None] = print,
) -> Any:
    """Train `model` in place on one thread, from `checkpoint` where there is one; returns it in evaluation mode.

    Args:
        model: as built, before its first step; its state comes from the checkpoint if there is one.
        recipe: only `epochs` may differ from the one that wrote the checkpoint.
        data: the training part.
        checkpoint: written after every so many steps and at the end; replaced as a whole.
        every: steps between checkpoints and lines of the log.
        log: takes each line.

    Raises:
        OptionError: torch is missing, the images do not fill one batch, or the checkpoint is another recipe's.
        OutputPathError: the checkpoint cannot be written.
    """
    torch = require("torch", PURPOSE)
    if len(data) < recipe.batch:
        raise OptionError(f"{len(data)} training images do not fill one batch of {recipe.batch}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        optimisers = _optimisers(torch, model, recipe)
        rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        step = _resume(torch, checkpoint, recipe, model, optimisers)
        steps, per_epoch = recipe.steps(len(data)), len(data) // recipe.batch
        loss_of = torch.nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
        total, counted, started = 0.0, 0, time.process_time()
        model.train()
        while step < steps:
            order = np.random.default_rng((recipe.seed, 1, step // per_epoch)).permutation(len(data))
            first = step % per_epoch * recipe.batch
            chosen = order[first : first + recipe.batch]
            generator = torch.Generator().manual_seed(recipe.seed * 2**32 + step)
            images = normalise(augment(torch.from_numpy(data.images[chosen]), generator))
            for optimiser, start in zip(optimisers, rates, strict=True):
                optimiser.zero_grad()
                for group, rate in zip(optimiser.param_groups, start, strict=True):
                    group["lr"] = rate * recipe.factor(step, steps)
            loss = loss_of(model(images), torch.from_numpy(data.labels[chosen]))
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            step, total, counted = step + 1, total + loss.item(), counted + 1
            if step % every == 0 or step == steps:
                _save(torch, checkpoint, recipe, model, optimisers, step)
                speed = counted * recipe.batch / max(time.process_time() - started, 1e-9)
                log(f"step {step} of {steps}: loss {total / counted:.4f}, {speed:.0f} images per second of processor")
                total, counted, started = 0.0, 0, time.process_time()
        return model.eval()
    finally:
        torch.set_num_threads(threads)


def _optimisers(torch: Any, model: Any, recipe: Recipe) -> list[Any]:
    matrices: list[Any] = []
    others: list[Any] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim > 1 and name.startswith(("patch_embed", "blocks", "layers")) and name.endswith("weight")
        (matrices if inner else others).append(parameter)
    return [
        make_muon(matrices, recipe.matrix_rate, weight_decay=recipe.matrix_decay),
        torch.optim.AdamW(others, lr=recipe.other_rate, weight_decay=0.0),
    ]


def _resume(torch: Any, checkpoint: Path, recipe: Recipe, model: Any, optimisers: list[Any]) -> int:
    if not checkpoint.exists():
        return 0
    found = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if {**found["recipe"], "epochs": recipe.epochs} != asdict(recipe):
        raise OptionError(f"{checkpoint} was written with another recipe; use another folder, or delete it")
    model.load_state_dict(found["model"])
    for optimiser, state in zip(optimisers, found["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    return int(found["step"])


def _save(torch: Any, checkpoint: Path, recipe: Recipe, model: Any, optimisers: list[Any], step: int) -> None:
    state = {
        "recipe": asdict(recipe),
        "step": step,
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    with written_beside(checkpoint) as path:
        torch.save(state, path)


def predict(model: Any, data: Labelled, batch: int = 250) -> Any:
    """The predicted classes int64 [n] of a model in evaluation mode."""
    torch = require("torch", PURPOSE)
    found = []
    with torch.no_grad():
        for start in range(0, len(data), batch):
            images = torch.from_numpy(data.images[start : start + batch])
            found.append(model(normalise(images)).argmax(1).numpy())
    return np.concatenate(found)
