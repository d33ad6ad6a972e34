"""What analyses ask of the calibration data, and what one run of it gives them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler.errors import CalibrationDataError, OutputPathError
from qcompiler.ir.weight_files import declared, in_files, is_external, raw_bytes

FORMAT = 2


@dataclass(frozen=True)
class Request:
    """Statistics wanted of one tensor of the canonical graph.

    Attributes:
        tensor: Name of the tensor, ``[..., N, C]``.
        sample: Keep a sample of whole instances.
        axes: Keep item ranges for these axes (``CHANNELS``, ``ROWS``).
        normalize: Ranges are taken of rows divided by their root mean square.
    """

    tensor: str
    sample: bool = True
    axes: tuple[int, ...] = ()
    normalize: bool = False


def model_hash(model: onnx.ModelProto) -> str:
    """SHA-256 of a model: statistics serve the model that they were taken from and no other.

    Weights that lie in files count with their values and not with their place.
    """
    if not in_files(model):
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    found = hashlib.sha256(declared(model).SerializeToString(deterministic=True))
    for tensor in model.graph.initializer:
        if is_external(tensor):
            found.update(raw_bytes(tensor))
    return found.hexdigest()


@dataclass(frozen=True)
class Statistics:
    """Answers to requests: for each tensor its named arrays, and how many images they come from.

    Attributes:
        tensors: Arrays by name, for each tensor.
        images: Number of images.
        source: Provenance of the data.
        model: Hash of the canonical model, see :func:`model_hash`.
    """

    tensors: Mapping[str, Mapping[str, NDArray[np.generic]]]
    images: int
    source: Mapping[str, object] = field(default_factory=dict)
    model: str = ""

    def get(self, tensor: str, name: str) -> NDArray[np.float32]:
        """One array of one tensor.

        Raises:
            CalibrationDataError: The statistics (read from a file) do not hold it.
        """
        try:
            return self.tensors[tensor][name].astype(np.float32, copy=False)
        except KeyError:
            raise CalibrationDataError(
                f"the statistics hold no '{name}' of tensor '{tensor}': "
                "they were saved for another model; calibrate again"
            ) from None

    def save(self, path: Path) -> None:
        """Write the statistics as one ``.npz`` file.

        Raises:
            OutputPathError: The path cannot be written.
        """
        arrays = {f"{tensor}|{name}": value for tensor, held in self.tensors.items() for name, value in held.items()}
        header = json.dumps({"format": FORMAT, "images": self.images, "source": dict(self.source), "model": self.model})
        try:
            with path.open("wb") as file:  # a file object: numpy would append .npz to another suffix
                np.savez(file, __header__=np.array(header), **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputPathError(f"--save-stats {path} cannot be written: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what :meth:`save` wrote.

        Raises:
            CalibrationDataError: No such file, or not a statistics file of this version.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                header = json.loads(str(archive["__header__"]))
                found = header["format"]
                tensors: dict[str, dict[str, NDArray[np.generic]]] = {}
                for key in archive.files:
                    if key != "__header__":
                        tensor, name = key.rsplit("|", 1)
                        tensors.setdefault(tensor, {})[name] = archive[key]
        except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            raise _no_statistics(path, error) from None
        if found != FORMAT:
            raise CalibrationDataError(
                f"{path} has statistics format {found}, this version reads {FORMAT}; calibrate again"
            )
        try:
            return cls(tensors, int(header["images"]), dict(header["source"]), str(header["model"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _no_statistics(path, error) from None


def _no_statistics(path: Path, error: Exception) -> CalibrationDataError:
    return CalibrationDataError(f"{path} is not a statistics file of qcompile ({error}); write one with --save-stats")
