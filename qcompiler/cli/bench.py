"""`qcompile bench FLOAT MODEL...`: latency of finished models, interleaved."""

from __future__ import annotations

import argparse
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
from qcompiler.errors import CalibrationDataError, OptionError

if TYPE_CHECKING:
    from qcompiler.calibration.inputs import Feed
    from qcompiler.cli.sessions import OpenModels

_DESCRIPTION = """\
Time a float model and models compiled from it in interleaved rounds, so that a drift of the machine's speed meets all
of them alike; the ratio to float is the median over rounds. Without --images the input is one batch of synthetic
images with natural-image statistics.
"""


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser("qcompile bench", _DESCRIPTION)
    parser.add_argument("float", type=Path, metavar="FLOAT", help="the float model")
    parser.add_argument("models", type=Path, metavar="MODEL", nargs="*", help="models to compare with it")
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images per run (default: 1, or what the models fix)"
    )
    parser.add_argument(
        "--threads",
        type=thread_count,
        metavar="N",
        default=1,
        help="threads of ONNX Runtime, 0 for all (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds", type=positive, metavar="N", default=9, help="interleaved rounds (default: %(default)s)"
    )
    parser.add_argument("--images", metavar="DATA", help="input data, as --calib of a compilation takes it")
    add_library_flag(parser)
    add_preprocessing_flags(parser)
    add_output_flags(parser)
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Time the models and compare.

    Raises:
        QcompilerError: A file cannot be used, or the batch or data does not fit the models.
    """
    from qcompiler.cli.sessions import open_models
    from qcompiler.evaluation.latency import measure_latency
    from qcompiler.report.comparison import latency_table

    models = open_models([arguments.float, *arguments.models], arguments.threads, arguments.without_library)
    feed, source = _feed(arguments, models)
    with terminal.progress() as progress:
        progress.stage("time")
        results = measure_latency(
            models.runs, feed, models.reference, rounds=arguments.rounds, threads=arguments.threads
        )
    terminal.result(
        {
            "input": source,
            "operators": models.operators,
            "models": [{"path": str(models.paths[item.model]), **item.to_dict()} for item in results],
        }
    )
    terminal.show(latency_table(results), f"input: {source}; operators of qcompile: {models.operators}")


def _feed(arguments: argparse.Namespace, models: OpenModels) -> tuple[Feed, str]:
    """One batch of input, and where it comes from."""
    from dataclasses import replace

    from qcompiler.calibration.readers import open_calibration

    batch = arguments.batch or models.batch or 1
    if models.batch is not None and batch != models.batch:
        raise OptionError(f"--batch {batch}: the models fix the batch at {models.batch}")
    # An input of a fixed batch makes every reader deliver just that.
    inputs = [replace(item, shape=(batch, *item.shape[1:])) for item in models.inputs]
    source = open_calibration(arguments.images, inputs, preprocessing_of(arguments), batch)
    feed = source.reader.get_next()
    if feed is None:
        raise CalibrationDataError(f"--images {arguments.images}: no data")
    return feed, source.description
