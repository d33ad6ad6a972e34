"""`qcompile deploy MODEL --target SERVER --repository DIR`: a folder that an inference server can be started on."""

from __future__ import annotations

import argparse
from pathlib import Path

from qcompiler.cli.parser import Parser, add_output_flags, positive, thread_count
from qcompiler.cli.paths import existing_model
from qcompiler.cli.terminal import Terminal
from qcompiler.report.tables import facts

_DESCRIPTION = """\
Write a model, its operator library and the configuration as a model repository for Triton or MLServer, or as the
context of a Docker image with one of them. A repository that exists gets a new model or the next version of a model.
"""
_EXAMPLES = """\
examples:
  qcompile deploy vit.auto.onnx --target triton --repository models/
  qcompile deploy vit.auto.onnx --target mlserver --repository models/ --name vit --instances 4 --threads 1
  qcompile deploy vit.auto.onnx --target docker --server triton --repository image/
"""


def build_parser() -> Parser:
    """All flags of the command."""
    parser = Parser("qcompile deploy", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model that qcompile wrote, or a float one")
    parser.add_argument("--target", choices=("triton", "mlserver", "docker"), required=True, help="what to write")
    parser.add_argument("--repository", type=Path, metavar="DIR", required=True, help="the folder to write or extend")
    parser.add_argument("--server", choices=("triton", "mlserver"), help="the server in the image of --target docker")
    parser.add_argument("--name", help="what clients call the model (default: the file's name without .onnx)")
    parser.add_argument(
        "--instances", type=positive, metavar="N", default=1, help="runs at the same time (default: %(default)s)"
    )
    parser.add_argument(
        "--threads",
        type=thread_count,
        metavar="N",
        default=0,
        help="threads of ONNX Runtime in each session, 0 for all cores (default: %(default)s)",
    )
    parser.add_argument(
        "--max-batch", type=positive, metavar="N", default=32, help="most images of one run (default: %(default)s)"
    )
    parser.add_argument(
        "--mount",
        metavar="PATH",
        default="/models",
        help="where Triton sees the repository; it needs the library's absolute path (default: %(default)s)",
    )
    parser.add_argument(
        "--without-library",
        action="store_true",
        help="leave the operator library out: portable to every processor and system, but slow",
    )
    add_output_flags(parser)
    return parser


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Write the folder.

    Raises:
        QcompilerError: The model cannot be used, an option makes no sense, or the folder does not go with the model.
    """
    path = existing_model(arguments.model)

    from qcompiler.deploy import DeployOptions, deploy_model  # behind the check: it imports ONNX Runtime

    options = DeployOptions(
        target=arguments.target,
        name=path.stem if arguments.name is None else arguments.name,
        server=arguments.server,
        instances=arguments.instances,
        threads=arguments.threads,
        max_batch=arguments.max_batch,
        mount=arguments.mount,
        without_library=arguments.without_library,
    )
    deployed = deploy_model(path, arguments.repository, options)
    terminal.result(deployed.to_dict())
    terminal.show(
        facts(
            [
                ("model", f"{deployed.name}, version {deployed.version}, for {deployed.server}"),
                ("batch", f"1 to {options.max_batch}" if deployed.batched else "fixed by the model"),
                ("operators", "operator library" if deployed.library else "no operator library among the files"),
                ("written", str(deployed.repository)),
                ("to start", f"see {deployed.model_folder / 'README.md'}"),
            ]
        )
    )
