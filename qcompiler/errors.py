"""One class per failure that a user can fix; the message is one line that says what is wrong and what to do."""

from __future__ import annotations


class QcompilerError(Exception):
    """Base of every error that qcompile reports in one line instead of a traceback."""


class ModelFileError(QcompilerError):
    """The model file is missing, unreadable, not ONNX or fails the ONNX checker."""


class UnsupportedModelError(QcompilerError):
    """The graph holds no transformer that the canonicaliser recognises, or one whose structure cannot be quantized."""


class NonFiniteError(QcompilerError):
    """NaN or infinity in the weights, the calibration data or an activation."""


class CalibrationDataError(QcompilerError):
    """The calibration or evaluation data is missing, empty, or does not fit the model's inputs."""


class BudgetError(QcompilerError):
    """No configuration meets the budget; the message names the smallest budget that can be met."""


class CollapseError(QcompilerError):
    """The quantized model has lost what the float model knew; nothing is written unless that is allowed."""


class OptionError(QcompilerError):
    """An option has a value that makes no sense, or two options contradict each other."""


class OutputPathError(QcompilerError):
    """The output path cannot be written, or it is the input file."""


class RuntimeLibraryError(QcompilerError):
    """The operator library is missing, was built for another version, or cannot be loaded."""


class VerificationError(QcompilerError):
    """A graph between two stages breaks the contract of that stage (a defect of a pass, not of the user's model)."""
