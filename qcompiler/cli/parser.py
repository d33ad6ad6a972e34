"""The argument parser, its one-line errors, and the flags that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import qcompiler
from qcompiler.errors import OptionError
from qcompiler.options import EFFORTS, EXECUTORS, RULES, CompileOptions

if TYPE_CHECKING:
    from qcompiler.driver.preprocessing import Preprocessing


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like every other: one line, exit code 2."""

    def __init__(self, program: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=program,
            description=description,
            epilog=epilog,
            allow_abbrev=False,  # an abbreviation would change its meaning with the next option
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--version", action="version", version=f"qcompile {qcompiler.__version__}")

    def error(self, message: str) -> NoReturn:
        """Raise the complaint.

        Raises:
            OptionError: Always.
        """
        raise OptionError(f"{message}; see {self.prog} --help")


def add_output_flags(parser: Parser) -> None:
    """``--quiet``, ``--json``, ``--verbose``: how much is printed, and in which form."""
    group = parser.add_argument_group("output")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    group.add_argument("--verbose", action="store_true", help="print more: tables of layers, passes and stages")


def add_calibration_flags(parser: Parser) -> None:
    """Where the unlabelled images come from, and their statistics."""
    group = parser.add_argument_group("calibration data")
    group.add_argument(
        "--calib",
        metavar="DATA",
        help="a folder of images, an .npz with arrays named like the inputs, or module:callable giving an onnxruntime "
        "CalibrationDataReader (default: <stem>.calib.npz beside MODEL, else synthetic images)",
    )
    group.add_argument(
        "--images",
        type=int,
        metavar="N",
        default=CompileOptions().images,
        help="most images to use (default: %(default)s)",
    )
    group.add_argument("--save-stats", type=Path, metavar="FILE", help="write the calibration statistics")
    group.add_argument(
        "--stats",
        type=Path,
        metavar="FILE",
        help="read them instead of taking them from the calibration data, which plans are still tried out on",
    )


def add_measurement_flags(group: argparse._ArgumentGroup) -> None:
    """How relevance and sensitivity are measured."""
    default = CompileOptions()
    group.add_argument(
        "--effort",
        choices=EFFORTS,
        default=default.effort,
        help="how much is measured instead of estimated (default: %(default)s)",
    )
    group.add_argument(
        "--lrp-rule",
        choices=RULES,
        default=default.lrp_rule,
        help="relevance rule of linear layers (default: %(default)s)",
    )
    group.add_argument(
        "--executor",
        choices=EXECUTORS,
        default=default.executor,
        help="where sensitivities are measured (default: %(default)s; ray: the cluster of RAY_ADDRESS, or a local one)",
    )


def add_resume_flag(group: argparse._ArgumentGroup, kept: str, default: str) -> None:
    """``--resume [DIR]``: an empty path without DIR.

    Args:
        group: Where it belongs.
        kept: What is kept, in words.
        default: The folder without DIR, in words.
    """
    group.add_argument(
        "--resume",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="DIR",
        help=f"keep {kept} in DIR (default: {default}) as they are measured, "
        "take over what an interrupted run with the same model, data and options left there, and remove them at the "
        "end; without --resume nothing is kept. Give it after MODEL",
    )


def add_preprocessing_flags(parser: Parser) -> None:
    """How image files become the values that the model reads."""
    group = parser.add_argument_group("preprocessing of image files (resize, centre crop, scale to [0, 1], normalise)")
    group.add_argument(
        "--preset",
        choices=("half", "imagenet", "none"),
        help="half: mean and std 0.5 (ViT); imagenet: those of ImageNet (DeiT, Swin); none: values stay in [0, 1]",
    )
    group.add_argument("--mean", type=numbers, metavar="R,G,B", help="mean of each channel on the scale of [0, 1]")
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="standard deviation of each channel")
    group.add_argument("--resize", type=int, metavar="PIXELS", help="length of the short side (default: crop / 0.9)")
    group.add_argument(
        "--crop", type=int, metavar="PIXELS", help="side of the centre crop (default: the model's input)"
    )


def preprocessing_of(arguments: argparse.Namespace) -> Preprocessing | None:
    """What those flags ask for; None when none of them is given.

    Raises:
        OptionError: They leave mean or std open, or a value makes no sense.
    """
    from qcompiler.driver.preprocessing import preprocessing_from  # here: help needs nothing of it

    return preprocessing_from(arguments.preset, arguments.mean, arguments.std, arguments.resize, arguments.crop)


def add_library_flag(parser: Parser) -> None:
    """``--without-library``: the second way to run a quantized model."""
    parser.add_argument(
        "--without-library",
        action="store_true",
        help="run quantized models on their function bodies, as ONNX Runtime does without the operator library",
    )


def numbers(text: str) -> tuple[float, ...]:
    """``0.485,0.456,0.406`` as numbers."""
    return tuple(float(part) for part in text.split(","))


def thread_count(text: str) -> int:
    """A number of threads, 0 for all cores."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative; 0 means all cores")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value
