"""Train the shipped digits model: `python -m qcompiler.models.digits OUT_DIR`.

The data are scikit-learn's 1,797 handwritten digits of 8x8 pixels, which come with the library: resampled to 24x24
(bicubic, 8 bits) and normalised with mean = std = 0.5. A quarter, the same share of each digit, is held out and never
seen in training, which takes a fixed number of epochs and keeps the last state. On one core this takes minutes.

Written: `digits_vit.onnx` (float32, symbolic batch, `input` -> `logits`), `digits_vit.calib.npz` (`input`: images of
the training part) and `digits_vit.eval.npz` (`input` and `labels`: the whole held-out part).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from qcompiler.errors import QcompilerError
from qcompiler.models.atomic import written_beside
from qcompiler.models.digits_vit import DigitsConfig, build
from qcompiler.models.extras import require
from qcompiler.models.torch_onnx import write_onnx

STEM = "digits_vit"
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the result (besides the versions of the libraries)."""

    seed: int = 0
    epochs: int = 50
    batch: int = 32
    learning_rate: float = 1.5e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    held_out: float = 0.25
    calibration_images: int = 256


@dataclass(frozen=True)
class Digits:
    """Images float32 [n, 1, size, size] in [-1, 1] and their digits, both parts."""

    train_images: Floats
    train_labels: Labels
    held_out_images: Floats
    held_out_labels: Labels


def load_digits(recipe: Recipe, size: int) -> Digits:
    """scikit-learn's digits at `size` x `size` pixels, split.

    Raises:
        OptionError: scikit-learn is not installed.
    """
    datasets = require("sklearn.datasets", "training the digits model")
    selection = require("sklearn.model_selection", "training the digits model")
    found = datasets.load_digits()
    images = np.stack([_resample(image, size) for image in found.images])[:, None]
    labels = found.target.astype(np.int64)
    train, held_out = selection.train_test_split(
        np.arange(len(labels)), test_size=recipe.held_out, stratify=labels, random_state=recipe.seed
    )
    return Digits(images[train], labels[train], images[held_out], labels[held_out])


def _resample(image: npt.NDArray[np.float64], size: int) -> Floats:
    # 8-bit pixels: what an image file of the digit would hold, and files of the arrays that compress well.
    pixels = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    values: Floats = (np.asarray(pixels, np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return values


def train(config: DigitsConfig, recipe: Recipe, digits: Digits, log: Callable[[str], None] = print) -> Any:
    """The trained torch module, in evaluation mode; runs on one thread, where the result is reproducible.

    Raises:
        OptionError: torch is not installed.
    """
    torch = require("torch", "training the digits model")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(recipe.seed)
        model = build(config)
        images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
        # Weight decay pulls at matrices only; gains, offsets and embeddings are left alone.
        matrices = [
            p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name and "token" not in name
        ]
        kept = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in kept]
        optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        )
        steps = recipe.epochs * (len(images) // recipe.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=recipe.learning_rate, total_steps=steps, pct_start=recipe.warmup, cycle_momentum=False
        )
        loss_of = torch.nn.CrossEntropyLoss()
        for epoch in range(recipe.epochs):
            total, order = 0.0, torch.randperm(len(images))
            for step in range(len(images) // recipe.batch):
                chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
                loss = loss_of(model(_jitter(torch, images[chosen])), labels[chosen])
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                total += loss.item()
            if (epoch + 1) % 10 == 0:
                log(f"epoch {epoch + 1} of {recipe.epochs}: loss {total / (len(images) // recipe.batch):.3f}")
        return model.eval()
    finally:
        torch.set_num_threads(threads)


def _jitter(torch: Any, images: Any) -> Any:
    """Each image turned by up to 8 degrees, scaled by up to 10 %, sheared a little, moved by up to 1/16 of its side."""
    count = len(images)

    def uniform(limit: float) -> Any:
        return (2 * torch.rand(count) - 1) * limit

    angle, scale = uniform(0.14), 1 + uniform(0.1)
    shear, right, down = uniform(0.1), uniform(0.125), uniform(0.125)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (torch.stack((cosine, shear - sine, right), 1), torch.stack((sine, cosine, down), 1))
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def top1(model: Any, images: Floats, labels: Labels) -> float:
    """Percentage of images whose largest logit is the label's."""
    torch = require("torch", "evaluating the digits model")
    with torch.no_grad():
        found = [model(torch.from_numpy(images[i : i + 64])).argmax(1).numpy() for i in range(0, len(images), 64)]
    return 100 * float((np.concatenate(found) == labels).mean())


def make(folder: Path, recipe: Recipe | None = None, log: Callable[[str], None] = print) -> float:
    """Train, write the three files into `folder` and return the top-1 on the held-out part, in percent.

    Raises:
        OptionError: a package is missing.
        OutputPathError: the folder cannot be written.
    """
    recipe, config = recipe or Recipe(), DigitsConfig()
    digits = load_digits(recipe, config.image)
    model = train(config, recipe, digits, log)
    write_onnx(model, (config.channels, config.image, config.image), folder / f"{STEM}.onnx")
    with written_beside(folder / f"{STEM}.calib.npz") as path:
        np.savez_compressed(path, input=digits.train_images[: recipe.calibration_images])
    with written_beside(folder / f"{STEM}.eval.npz") as path:
        np.savez_compressed(path, input=digits.held_out_images, labels=digits.held_out_labels)
    accuracy = top1(model, digits.held_out_images, digits.held_out_labels)
    log(f"{folder / STEM}.onnx: top-1 {accuracy:.2f} % on {len(digits.held_out_labels)} held-out images")
    return accuracy


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 on success."""
    parser = argparse.ArgumentParser(
        prog="python -m qcompiler.models.digits", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    options = parser.parse_args(arguments)
    try:
        make(options.folder, Recipe(seed=options.seed, epochs=options.epochs))
    except QcompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
