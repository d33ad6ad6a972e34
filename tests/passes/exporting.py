"""Exporting small torch models with either of torch's exporters."""

import contextlib
import io
import logging
import warnings

import torch


def import_timm():
    """Imports timm also where torchvision's compiled operators are missing, as with a CPU-only torch."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    timm._torchvision_library = library  # the registration lasts as long as the object
    return timm


def export(model, path, size, dynamo, symbolic):
    """Writes an ONNX file with input `x` [2 or batch, 3, size, size] and output `y`."""
    sample = torch.randn(2, 3, size, size)
    names = {"input_names": ["x"], "output_names": ["y"]}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            if dynamo:
                shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if symbolic else None
                options = {"external_data": False, "dynamic_shapes": shapes, "verbose": False}
                torch.onnx.export(model, (sample,), path, dynamo=True, **options, **names)
            else:
                axes = {"x": {0: "batch"}, "y": {0: "batch"}} if symbolic else None
                torch.onnx.export(model, (sample,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    finally:
        logging.disable(level)


def randomise(model, seed=0):
    """Gives constant parameters (LayerNorm, biases, tables) values, so that no factor is hidden by a one or a zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1 or parameter.std() < 1e-3:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()
