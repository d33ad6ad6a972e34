"""`qcompile export timm:NAME`: a float ONNX model of a torch architecture."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompiler.cli.parser import Parser, add_output_flags
from qcompiler.cli.paths import check_output
from qcompiler.cli.terminal import Terminal
from qcompiler.report.tables import facts

_DESCRIPTION = """\
Write a vision transformer of timm as ONNX, with weights from a file; nothing is downloaded. Needs torch and timm:
pip install 'qcompile[models]'
"""


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser("qcompile export", _DESCRIPTION)
    parser.add_argument("model", metavar="timm:NAME", help="architecture, e.g. timm:vit_tiny_patch16_224")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: NAME.onnx)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help=".safetensors or a saved state dict (default: random weights)"
    )
    parser.add_argument(
        "--exporter",
        choices=("legacy", "dynamo"),
        default="legacy",
        help="torch's tracing exporter or the one on torch.export (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        metavar="symbolic|N",
        default="symbolic",
        help="size of the batch (default: %(default)s)",
    )
    add_output_flags(parser)
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Build the model and write it.

    Raises:
        QcompilerError: Unknown model, weights that do not fit, a missing package, or an output that cannot be written.
    """
    output = arguments.output or Path(f"{arguments.model.rpartition(':')[2] or 'model'}.onnx")
    check_output(output, "--output", [] if arguments.weights is None else [arguments.weights])

    from qcompiler.driver.exporting import export_model

    with terminal.progress() as progress:
        progress.stage("export")
        exported = export_model(arguments.model, output, arguments.weights, arguments.exporter, arguments.batch)
    if exported.warning:
        terminal.warn([exported.warning])
    terminal.result(exported.to_dict())
    means, stds = (",".join(f"{value:g}" for value in values) for values in (exported.mean, exported.std))
    terminal.show(
        facts(
            [
                ("model", f"{exported.model}, {exported.exporter} exporter, batch {exported.batch}"),
                ("input", " x ".join(map(str, exported.image_shape))),
                ("preprocessing", f"--mean {means} --std {stds}"),
                ("written", str(exported.path)),
            ]
        )
    )


def _batch(text: str) -> int | str:
    if text == "symbolic":
        return text
    size = int(text) if text.isdecimal() else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is neither 'symbolic' nor a positive number")
    return size
