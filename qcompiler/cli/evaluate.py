"""`qcompile eval FLOAT MODEL...`: accuracy of finished models on labelled images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.cli.parser import (
    Parser,
    add_library_flag,
    add_output_flags,
    add_preprocessing_flags,
    positive,
    thread_count,
)
from qcompiler.cli.preprocessing import preprocessing_of
from qcompiler.cli.terminal import Terminal
from qcompiler.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qcompiler.calibration.inputs import Feed
    from qcompiler.calibration.labelled import LabelledImages

_DESCRIPTION = """\
Top-1 of a float model and of models compiled from it on the same labelled images; the drop with its paired standard
error, how often the predictions agree, and the KL divergence.
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
        help="a CSV 'file,label' beside a folder of its name, or an .npz with the inputs and 'labels'",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="use at most so many images, spread over the data")
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
    from qcompiler.calibration.labelled import open_labelled
    from qcompiler.cli.sessions import open_models
    from qcompiler.evaluation.accuracy import measure_accuracy
    from qcompiler.report.comparison import accuracy_table

    preprocessing = preprocessing_of(arguments)
    models = open_models([arguments.float, *arguments.models], arguments.threads, arguments.without_library)
    data = open_labelled(arguments.images, models.inputs, preprocessing, arguments.limit, arguments.batch)
    with terminal.progress() as progress:
        progress.stage("evaluate", len(data))
        results = measure_accuracy(models.runs, _watched(data, progress), models.reference)
    terminal.result(
        {
            "images": data.description,
            "preprocessing": data.preprocessing.to_dict() if data.preprocessing else None,
            "operators": models.operators,
            "models": [{"path": str(models.paths[item.model]), **item.to_dict()} for item in results],
        }
    )
    terminal.show(accuracy_table(results, data.description), f"operators of qcompile: {models.operators}")


def _watched(data: LabelledImages, progress: Progress) -> Iterator[tuple[Feed, NDArray[np.int64]]]:
    for feed, labels in data:
        yield feed, labels
        progress.advance(len(labels))
