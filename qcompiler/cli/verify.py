"""`qcompile verify MODEL`: a written file checked again, with an exit code for automation."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompiler.cli.parser import (
    Parser,
    add_output_flags,
    add_preprocessing_flags,
    positive,
    preprocessing_of,
    thread_count,
)
from qcompiler.cli.paths import existing_model
from qcompiler.cli.terminal import Terminal

FAILED = 1

_DESCRIPTION = """\
Check a file that qcompile wrote from scratch: its structure, its constants, its contents against the digests taken when
it was written, its function bodies against the native kernels, and its cost against what it claims and was allowed.
The calibration data and the float model are compared where they are given. The file is only read, and run.
"""
_EXIT_CODES = """\
exit codes:
  0  no check failed (checks that could not be made are listed as skipped)
  1  a check failed
  2  the command line, or a file that it names, cannot be used
"""


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser("qcompile verify", _DESCRIPTION, _EXIT_CODES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model that qcompile wrote")
    parser.add_argument("--against", type=Path, metavar="FLOAT", help="the float model that it was compiled from")
    parser.add_argument(
        "--calib", metavar="DATA", help="the data that it was calibrated on: its hash must be the recorded one"
    )
    parser.add_argument(
        "--images",
        metavar="DATA",
        help="images to compare with FLOAT on, given as calibration data (default: those of --calib, else synthetic)",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", default=64, help="compare on at most so many (default: %(default)s)"
    )
    parser.add_argument(
        "--least-agreement",
        type=float,
        metavar="PERCENT",
        help="share of images with the prediction of FLOAT (default: a third of them, on real images)",
    )
    parser.add_argument(
        "--most-error",
        type=float,
        metavar="F",
        default=1.0,
        help="relative error of the outputs (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=thread_count, metavar="N", default=0, help="threads of ONNX Runtime, 0 for all cores"
    )
    add_preprocessing_flags(parser)
    add_output_flags(parser)
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Check and show.

    Returns:
        0, or 1 where a check failed.

    Raises:
        QcompilerError: A file that was named does not exist or cannot be used.
    """
    path = existing_model(arguments.model)
    against = None if arguments.against is None else existing_model(arguments.against)
    preprocessing = preprocessing_of(arguments)

    from qcompiler.driver.verification import Evidence, verify_file  # behind the checks: it takes a second
    from qcompiler.verification.text import verification_lines

    evidence = Evidence(
        against=against,
        calibration=arguments.calib,
        images=arguments.images,
        preprocessing=preprocessing,
        limit=arguments.limit,
        least_agreement=arguments.least_agreement,
        most_error=arguments.most_error,
    )
    with terminal.progress() as progress:
        found = verify_file(path, evidence, threads=arguments.threads, progress=progress)
    terminal.result({"model": str(path), **found.to_dict()})
    terminal.show(verification_lines(found))
    return 0 if found.passed else FAILED
