"""A model beside its configuration files, as Hugging Face Optimum writes and reads it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.calibration.preprocessor_config import read_preprocessor_config
from qcompiler.errors import ModelFileError

MODEL, PREPROCESSOR = "model.onnx", "preprocessor_config.json"


@dataclass(frozen=True)
class ModelFolder:
    """A folder with one model.

    Attributes:
        model: The ONNX file: ``model.onnx``, or the only one.
        configs: Its ``.json`` files, sorted.
    """

    model: Path
    configs: tuple[Path, ...]

    @staticmethod
    def open(path: Path) -> ModelFolder:
        """Look at a folder.

        Raises:
            ModelFileError: It holds no model, or several of which none is ``model.onnx``.
        """
        models = sorted(path.glob("*.onnx"))
        usual = [model for model in models if model.name == MODEL]
        if not models:
            raise ModelFileError(f"the folder '{path}' holds no .onnx file; pass a model or a folder with {MODEL}")
        if len(models) > 1 and not usual:
            raise ModelFileError(f"the folder '{path}' holds {len(models)} .onnx files; pass the one to compile")
        return ModelFolder((usual or models)[0], tuple(sorted(path.glob("*.json"))))

    def preprocessing(self) -> Preprocessing | None:
        """What ``preprocessor_config.json`` says; None where there is none.

        Raises:
            OptionError: It cannot be read, or asks for what qcompile does not do.
        """
        found = next((config for config in self.configs if config.name == PREPROCESSOR), None)
        return None if found is None else read_preprocessor_config(found)

    def copy_configs(self, target: Path) -> None:
        """Put the configuration files into another folder, where a file of the same name is replaced."""
        for config in self.configs:
            shutil.copyfile(config, target / config.name)


@contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Make a folder for the block; one that was made for a block that fails goes away again."""
    new = not path.exists()
    if new:
        path.mkdir()
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(path, ignore_errors=True)
        raise
