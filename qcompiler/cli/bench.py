"""`qcompile bench FLOAT MODEL...`: latency of finished models, interleaved."""

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
Time a float model and models compiled from it in interleaved rounds, so that a drift of the machine's speed meets all
of them alike; the ratio to float is the median over rounds. Without --images the input is one batch of synthetic
images with natural-image statistics. --profile tells where the time of each of them goes instead.
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
        "--rounds",
        type=positive,
        metavar="N",
        default=9,
        help="interleaved rounds, or runs of a profile (default: %(default)s)",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="show where the time of each model goes, by operator and by node, instead of comparing their times",
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
    paths = [existing_model(path) for path in (arguments.float, *arguments.models)]

    if arguments.profile:
        _profile(arguments, paths, terminal)
        return

    from qcompiler.driver.comparison import compare_latency
    from qcompiler.report.comparison import latency_table

    preprocessing = preprocessing_of(arguments)
    with terminal.progress() as progress:
        progress.stage("time")
        found = compare_latency(
            paths,
            arguments.images,
            preprocessing,
            batch=arguments.batch,
            threads=arguments.threads,
            rounds=arguments.rounds,
            without_library=arguments.without_library,
        )
    terminal.result(found.to_dict())
    terminal.show(latency_table(found.results), f"input: {found.images}; operators of qcompile: {found.operators}")


def _profile(arguments: argparse.Namespace, paths: list[Path], terminal: Terminal) -> None:
    from qcompiler.driver.profiling import profile_models
    from qcompiler.report.profile_text import NODES_SHOWN, node_table, operator_table

    preprocessing = preprocessing_of(arguments)
    with terminal.progress() as progress:
        found = profile_models(
            paths,
            arguments.images,
            preprocessing,
            batch=arguments.batch,
            threads=arguments.threads,
            runs=arguments.rounds,
            without_library=arguments.without_library,
            progress=progress,
        )
    terminal.result({"models": [profile.to_dict() for profile in found]})
    most = None if terminal.verbose else NODES_SHOWN
    for profile in found:
        terminal.show(operator_table(profile), node_table(profile, most))
