"""`qcompile DIR`: a model in a folder with its configuration, as Hugging Face Optimum keeps it."""

from __future__ import annotations

import argparse

from qcompiler.cli.compile import compile_file
from qcompiler.cli.parser import preprocessing_of
from qcompiler.cli.paths import default_output
from qcompiler.cli.terminal import Terminal


def compile_folder(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Compile the folder's model with the folder's preprocessing, into the folder or into another one.

    Raises:
        QcompilerError: Something that the user can fix; nothing was written then.
    """
    from qcompiler.driver.model_folder import ModelFolder, made_folder

    source = ModelFolder.open(arguments.model)
    preprocessing = None if preprocessing_of(arguments) else source.preprocessing()
    target = arguments.output
    if target is None or target.suffix == ".onnx":
        output = target or default_output(source.model, arguments.method)
        compile_file(arguments, terminal, source.model, output, preprocessing)
        return
    with made_folder(target):
        compile_file(arguments, terminal, source.model, target / source.model.name, preprocessing)
        source.copy_configs(target)
