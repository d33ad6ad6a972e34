"""Export reference models to ONNX: `qcompile export timm:vit_tiny_patch16_224 --weights file.safetensors -o m.onnx`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcompiler.errors import ModelFileError, OptionError
from qcompiler.models.extras import require, require_timm
from qcompiler.models.torch_onnx import write_onnx

PURPOSE = "exporting timm models"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the ONNX file; input `input` float32 [batch, channels, height, width], output `logits` [batch, classes].
        model: the model's name.
        exporter: "legacy" or "dynamo".
        batch: "symbolic" or the fixed size.
        image_shape: channels, height, width.
        mean: what the weights were trained with, as far as timm knows, for `--mean`.
        std: the same for `--std`.
        warning: what the user must hear, e.g. that the weights are random; None when all is well.
        interpolation: how the images were resized, e.g. "bicubic".
        crop_fraction: share of the short side that the centre crop keeps.
    """

    path: Path
    model: str
    exporter: str
    batch: int | str
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    warning: str | None
    interpolation: str = "bicubic"
    crop_fraction: float = 0.9

    def to_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {**asdict(self), "path": str(self.path)}


def export(
    model: str,
    output: Path | str,
    weights: Path | str | None = None,
    exporter: str = "legacy",
    batch: int | str = "symbolic",
) -> Exported:
    """Build a model, load its weights and write it as ONNX; nothing is downloaded.

    Args:
        model: `timm:NAME`.
        output: the ONNX file; appears only when it is complete.
        weights: a .safetensors, or a state dict that torch saved; None initialises at random (seed 0), which serves
            measuring time and size only.
        exporter: "legacy" (tracing) or "dynamo" (torch.export).
        batch: "symbolic", or a fixed batch size.

    Raises:
        OptionError: no `timm:NAME`, no such model, a missing package, or weights that do not fit the model.
        ModelFileError: the weights cannot be read.
        OutputPathError: `output` cannot be written.
    """
    kind, _, name = model.partition(":")
    if kind != "timm" or not name:
        raise OptionError(f"export {model!r}: name a model as timm:NAME, e.g. timm:vit_tiny_patch16_224")
    source = Path(weights) if weights is not None else None
    if source and not source.is_file():
        raise ModelFileError(f"--weights {source}: no such file")
    built = _build(name)
    warning = None
    if source:
        load_weights(built, read_state(source), f"--weights {source}", name)
    else:
        warning = f"{name} has random weights: it serves measuring time and size only; give trained ones with --weights"
    data = require_timm(PURPOSE).data.resolve_model_data_config(built)
    channels, height, width = data["input_size"]
    write_onnx(built, (channels, height, width), Path(output), exporter, batch)
    return Exported(
        Path(output),
        name,
        exporter,
        batch,
        (channels, height, width),
        tuple(data["mean"]),
        tuple(data["std"]),
        warning,
        data["interpolation"],
        data["crop_pct"],
    )


def _build(name: str) -> Any:
    timm = require_timm(PURPOSE)
    torch = require("torch", PURPOSE)
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f": did you mean {' or '.join(close)}?" if close else ""
        raise OptionError(f"timm {timm.__version__} has no model {name!r}{hint}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False).eval()


def read_state(path: Path) -> dict[str, Any]:
    """Parameter name -> tensor from a .safetensors, or from a file of torch.save (tensors only, nothing is executed).

    Training checkpoints that keep the weights under `model` or `state_dict` are understood.

    Raises:
        ModelFileError: not readable, or no weights in it.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(require("safetensors.torch", "reading .safetensors").load_file(path))
        found = require("torch", "reading weights").load(path, map_location="cpu", weights_only=True)
    except OptionError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"--weights {path}: cannot be read ({first})") from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(hasattr(value, "shape") for value in found.values()):
        raise ModelFileError(f"--weights {path}: holds no state dict of tensors")
    return dict(found)


def load_weights(model: Any, state: Mapping[str, Any], source: str, name: str) -> None:
    """Copy `state` into the torch module `model`; every parameter must be there with its shape, and no other.

    Raises:
        OptionError: the first few names and shapes that do not fit.
    """
    expected = model.state_dict()
    faults = [f"{key} is missing" for key in expected if key not in state]
    faults += [f"{key} is no parameter of the model" for key in state if key not in expected]
    faults += [
        f"{key} is {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise OptionError(f"{source} does not fit {name}: {'; '.join(faults[:3])}{more}")
    model.load_state_dict(state)
