"""Train and export the CIFAR-10 models: `python -m qcompiler.models.cifar10 --data DIR --arch vit|swin --out OUT_DIR`.

DIR holds `train.npz` and `test.npz` (`jpeg`, `offsets`, `labels`: see `cifar10_data`). The models take images
normalised with mean = std = 0.5. Training runs on one core, for hours on a slow one; a run that was interrupted goes on
when it is started again with the same OUT_DIR.

Written: `cifar10_ARCH.safetensors` (float16) and `cifar10_ARCH.onnx` (float32 of the same values, symbolic batch,
`input` -> `logits`). With `--weights FILE` nothing is trained: the weights are exported, and evaluated if `--data` is
given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qcompiler.errors import OptionError, QcompilerError
from qcompiler.models import cifar10_data as data
from qcompiler.models.atomic import written_beside
from qcompiler.models.cifar10_models import ARCHITECTURES, IMAGE, build
from qcompiler.models.cifar10_training import Recipe, predict, train
from qcompiler.models.exporters import load_weights, read_state
from qcompiler.models.extras import require
from qcompiler.models.torch_onnx import EXPORTERS, write_onnx


def restore(arch: str, weights: Path) -> Any:
    """The torch module of `arch` in evaluation mode with the parameters (float32) of a state dict in a file.

    Raises:
        ModelFileError: the file cannot be read.
        OptionError: it does not fit, or a package is missing.
    """
    model = build(arch)
    load_weights(model, read_state(weights), f"--weights {weights}", arch)
    return model.eval()


def make(
    arch: str,
    folder: Path,
    images: Path,
    recipe: Recipe | None = None,
    exporter: str = "legacy",
    log: Callable[[str], None] = print,
) -> float:
    """Train, write the two files into `folder` and return the top-1 on the test images, in percent.

    Args:
        arch: a key of ARCHITECTURES.
        folder: where the files go, and the checkpoint while it trains.
        images: the folder of `train.npz` and `test.npz`.
        recipe: how to train; the default one if None.
        exporter: "legacy" or "dynamo".
        log: takes each line.

    Raises:
        CalibrationDataError: the images cannot be read.
        OptionError: a package is missing, or `folder` holds a checkpoint of another recipe.
        OutputPathError: the folder cannot be written.
    """
    recipe = recipe or Recipe()
    torch, safetensors = require("torch", "training"), require("safetensors.torch", "writing .safetensors")
    train_part, held_out = data.split(data.read_images(images / "train.npz"), recipe.held_out_per_class, recipe.seed)
    torch.manual_seed(recipe.seed)
    checkpoint = folder / f"cifar10_{arch}.checkpoint"
    model = train(build(arch), recipe, train_part, checkpoint, log=log)
    weights = folder / f"cifar10_{arch}.safetensors"
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with written_beside(weights) as path:
        path.write_bytes(safetensors.save(state))
    rounded = export(arch, weights, folder, exporter)
    if len(held_out):
        log(f"held-out training images: top-1 {top1(rounded, held_out):.2f} %")
    accuracy = report(arch, rounded, images, log)
    checkpoint.unlink()
    return accuracy


def export(arch: str, weights: Path, folder: Path, exporter: str = "legacy") -> Any:
    """Write `cifar10_ARCH.onnx` into `folder` and return the torch module.

    Raises:
        ModelFileError: the weights cannot be read.
        OptionError: they do not fit, or a package is missing.
        OutputPathError: the folder cannot be written.
    """
    model = restore(arch, weights)
    write_onnx(model, IMAGE, folder / f"cifar10_{arch}.onnx", exporter)
    return model


def top1(model: Any, images: data.Labelled) -> float:
    """Percentage of images whose largest logit is the label's."""
    return 100 * float((predict(model, images) == images.labels).mean())


def report(arch: str, model: Any, images: Path, log: Callable[[str], None] = print) -> float:
    """Log and return the top-1 on `test.npz` of the folder `images`, in percent."""
    test = data.read_images(images / "test.npz")
    accuracy = top1(model, test)
    log(f"cifar10_{arch}: top-1 {accuracy:.2f} % on {len(test)} test images")
    return accuracy


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 on success."""
    parser = argparse.ArgumentParser(
        prog="python -m qcompiler.models.cifar10", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="OUT_DIR")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of train.npz and test.npz")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="export these instead of training")
    parser.add_argument("--epochs", type=float, default=Recipe.epochs)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--exporter", choices=EXPORTERS, default="legacy")
    options = parser.parse_args(arguments)
    try:
        if options.weights:
            model = export(options.arch, options.weights, options.out, options.exporter)
            if options.data:
                report(options.arch, model, options.data)
        elif options.data:
            make(
                options.arch,
                options.out,
                options.data,
                Recipe(seed=options.seed, epochs=options.epochs),
                options.exporter,
            )
        else:
            raise OptionError("give --data to train, or --weights to export")
    except QcompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
