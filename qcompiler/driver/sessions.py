"""Finished models, opened side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qcompiler import runtime_ops
from qcompiler.calibration.inputs import ModelInput
from qcompiler.errors import ModelFileError, OptionError, RuntimeLibraryError
from qcompiler.evaluation.runs import Feed, Run, RunAll, first_output, float_outputs

_DTYPES = {"float": "float32", "double": "float64", "float16": "float16"}


@dataclass(frozen=True)
class OpenModels:
    """Models that read the same inputs.

    Attributes:
        runs: Label -> run, the float model first. A label is the file's name, with its path where names repeat.
        all_runs: Label -> run that returns all float outputs.
        classes: Whether the float model's first output is one row of class scores per image.
        inputs: What all of them read; the batch is fixed where any of them fixes it.
        operators: What runs the operators of qcompile.
    """

    runs: Mapping[str, Run]
    all_runs: Mapping[str, RunAll]
    classes: bool
    inputs: tuple[ModelInput, ...]
    operators: str

    @property
    def reference(self) -> str:
        """Label of the float model."""
        return next(iter(self.runs))

    @property
    def batch(self) -> int | None:
        """The batch that the models allow, or None for any."""
        return next((item.batch for item in self.inputs if item.batch is not None), None)


def open_models(paths: Sequence[Path], threads: int, without_library: bool) -> OpenModels:
    """Open models in ONNX Runtime.

    Args:
        paths: The float model, then those to compare with it.
        threads: Threads of each session; 0 for all cores.
        without_library: Run qcompile's operators on their function bodies.

    Raises:
        ModelFileError: A file is missing, or ONNX Runtime cannot load it.
        RuntimeLibraryError: The operator library is there but cannot be used.
        OptionError: The models read different inputs, or fix different batches.
    """
    labels = _labels(paths)
    sessions = {label: _session(path, threads, without_library) for label, path in zip(labels, paths, strict=True)}
    inputs = {label: tuple(map(_model_input, session.get_inputs())) for label, session in sessions.items()}
    return OpenModels(
        runs={label: _guarded(first_output(session), label) for label, session in sessions.items()},
        all_runs={label: _guarded(float_outputs(session), label) for label, session in sessions.items()},
        classes=len(sessions[labels[0]].get_outputs()[0].shape) == 2,
        inputs=_common_inputs(inputs),
        operators="function bodies" if without_library else _library_in_use(),
    )


def _session(path: Path, threads: int, without_library: bool) -> Any:
    try:
        return runtime_ops.session(path, threads=threads or None, library=False if without_library else None)
    except runtime_ops.LibraryError as error:
        raise RuntimeLibraryError(str(error)) from error
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ModelFileError(f"ONNX Runtime cannot load '{path}': {error}") from error


def _guarded(run: Callable[[Feed], Any], label: str) -> Callable[[Feed], Any]:
    def guarded(feed: Feed) -> Any:
        try:
            return run(feed)
        except Exception as error:
            raise ModelFileError(f"ONNX Runtime cannot run '{label}': {error}") from error

    return guarded


def _library_in_use() -> str:
    try:
        active = next((path.name for path in runtime_ops.cpu_paths() if path.active), "reference")
    except runtime_ops.LibraryNotFoundError:
        return "function bodies (the operator library is not installed)"
    return f"operator library, CPU path {active}"


def _model_input(item: Any) -> ModelInput:
    element = item.type.removeprefix("tensor(").removesuffix(")")
    return ModelInput(item.name, tuple(item.shape), _DTYPES.get(element, element))


def _common_inputs(inputs: Mapping[str, tuple[ModelInput, ...]]) -> tuple[ModelInput, ...]:
    reference, first = next(iter(inputs.items()))
    for label, other in inputs.items():
        if list(map(_signature, other)) != list(map(_signature, first)):
            found = f"{_described(reference, first)} but {_described(label, other)}"
            raise OptionError(f"{found}: compare models with the same inputs")
    batches = {item.batch for items in inputs.values() for item in items if item.batch is not None}
    if len(batches) > 1:
        sizes = " and ".join(map(str, sorted(batches)))
        raise OptionError(f"the models fix the batch at {sizes}: compare models with the same or a symbolic batch")
    if not batches:
        return first
    batch = batches.pop()
    return tuple(replace(item, shape=(batch, *item.shape[1:])) for item in first)


def _signature(item: ModelInput) -> tuple[object, ...]:
    """What inputs must have in common: all but the batch and the names of free axes."""
    return (item.name, item.dtype, *(side if isinstance(side, int) else None for side in item.shape[1:]))


def _described(label: str, inputs: Sequence[ModelInput]) -> str:
    return f"'{label}' reads " + ", ".join(f"'{item.name}' {item.describe()}" for item in inputs)


def _labels(paths: Sequence[Path]) -> list[str]:
    names = [path.name for path in paths]
    labels: list[str] = []
    for path in paths:
        label = str(path) if names.count(path.name) > 1 else path.name
        repeats = labels.count(label)
        labels.append(label if not repeats else f"{label} ({repeats + 1})")
    return labels
