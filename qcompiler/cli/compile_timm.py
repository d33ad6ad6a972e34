"""`qcompile compile-timm NAME`: from an architecture of timm and its weights to a compiled model in one step."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from qcompiler.cli.compile import add_compile_flags, compile_file, options_of
from qcompiler.cli.parser import Parser
from qcompiler.cli.paths import check_output, given
from qcompiler.cli.terminal import Terminal

_DESCRIPTION = """\
Build a vision transformer of timm with weights from a file, export it to ONNX and compile it. Image files are
preprocessed as timm trained the architecture, unless flags say otherwise. Nothing is downloaded. Needs torch and timm:
pip install 'qcompile[models]'
"""
_EXAMPLES = """\
examples:
  qcompile compile-timm vit_tiny_patch16_224 --weights vit_tiny.safetensors --calib images/ --bop-budget 0.25
"""


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser("qcompile compile-timm", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("model", metavar="NAME", help="architecture, e.g. vit_tiny_patch16_224")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: NAME.<method>.onnx)"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help=".safetensors or a saved state dict (default: random weights)"
    )
    parser.add_argument(
        "--save-float", type=Path, metavar="FILE", help="keep the float model too, to compare with (default: it is not)"
    )
    parser.add_argument(
        "--exporter",
        choices=("legacy", "dynamo"),
        default="legacy",
        help="torch's tracing exporter or the one on torch.export (default: %(default)s)",
    )
    add_compile_flags(parser)
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Export, compile and report.

    Raises:
        QcompilerError: Something that the user can fix; no compiled model was written then.
    """
    options = options_of(arguments)
    name = arguments.model.removeprefix("timm:")
    output = arguments.output or Path(f"{name}.{options.method}.onnx")
    read = given(arguments.weights)
    check_output(output, "--output", read)
    if arguments.save_float is not None:
        check_output(arguments.save_float, "--save-float", [*read, output])

    from qcompiler.driver.exporting import export_model, trained_preprocessing

    with TemporaryDirectory() as folder:
        model = arguments.save_float or Path(folder) / f"{name}.onnx"
        with terminal.progress() as progress:
            progress.stage("export")
            exported = export_model(f"timm:{name}", model, arguments.weights, arguments.exporter, "symbolic")
        if exported.warning:
            terminal.warn([exported.warning])
        compile_file(arguments, terminal, model, output, trained_preprocessing(exported), name)
