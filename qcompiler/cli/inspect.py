"""`qcompile inspect MODEL`: what each layer of a model became, from the file alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompiler.cli.parser import Parser, add_output_flags
from qcompiler.cli.paths import existing_model
from qcompiler.cli.terminal import Terminal
from qcompiler.report.inspection_text import inspection_facts, inspection_table


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser(
        "qcompile inspect", "Show what a model file holds: its quantized layers, where it comes from, what it costs."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model that qcompile wrote, or a float one")
    add_output_flags(parser)
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Read the file and show it.

    Raises:
        QcompilerError: No such file, or not ONNX.
    """
    path = existing_model(arguments.model)

    from qcompiler.driver.inspection import inspect_file  # behind the check: importing the driver takes a second

    inspection, size = inspect_file(path)
    terminal.result({"model": str(path), "bytes": size, **inspection.to_dict()})
    if inspection.layers:
        terminal.show(inspection_table(inspection))
    terminal.show(inspection_facts(inspection, path, size))
