"""`qcompile eval FLOAT MODEL...`: accuracy of finished models on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompiler.cli.parser import (
    Parser,
    add_library_flag,
    add_output_flags,
    add_preprocessing_flags,
    positive,
    preprocessing_of,
    thread_count,
)
from qcompiler.cli.paths import existing_model
from qcompiler.cli.terminal import Terminal

_DESCRIPTION = """\
Top-1 of a float model and of models compiled from it on the same labelled images; the drop with its paired standard
error, how often the predictions agree, and the KL divergence. Where the float model's first output is not one row of
class scores (detection, segmentation, pose, restoration): relative error and PSNR of every output instead; then the
images need no labels.
"""


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser("qcompile eval", _DESCRIPTION)
    parser.add_argument("float", type=Path, metavar="FLOAT", help="the float model")
    parser.add_argument("models", type=Path, metavar="MODEL", nargs="*", help="models to compare with it")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FILE",
        required=True,
        help="a CSV 'file,label' beside a folder of its name, or an .npz with the inputs and 'labels'; for models "
        "without classes also a folder of images or an .npz of inputs alone",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use at most so many images, spread over the data")
    parser.add_argument(
        "--draws",
        type=positive,
        metavar="N",
        default=1,
        help="run every image N times on the compiled models, with a noise far below a grey level: on which side of an "
        "edge between two codes a value falls is luck, and with few bits it decides points (default: %(default)s)",
    )
    parser.add_argument("--batch", type=positive, metavar="N", default=8, help="images per run (default: %(default)s)")
    parser.add_argument(
        "--threads", type=thread_count, metavar="N", default=0, help="threads of ONNX Runtime, 0 for all cores"
    )
    add_library_flag(parser)
    add_preprocessing_flags(parser)
    add_output_flags(parser)
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Run every model on every image and compare.

    Raises:
        QcompilerError: A file cannot be used, or the data does not fit the models.
    """
    paths = [existing_model(path) for path in (arguments.float, *arguments.models)]

    from qcompiler.driver.comparison import AccuracyComparison, compare_accuracy
    from qcompiler.report.comparison import accuracy_table, outputs_table

    preprocessing = preprocessing_of(arguments)
    with terminal.progress() as progress:
        found = compare_accuracy(
            paths,
            arguments.images,
            preprocessing,
            limit=arguments.limit,
            draws=arguments.draws,
            batch=arguments.batch,
            threads=arguments.threads,
            without_library=arguments.without_library,
            progress=progress,
        )
    terminal.result(found.to_dict())
    if isinstance(found, AccuracyComparison):
        shown = accuracy_table(found.results, found.images)
    else:
        shown = outputs_table(found.results, found.images)
    terminal.show(shown, f"operators of qcompile: {found.operators}")
