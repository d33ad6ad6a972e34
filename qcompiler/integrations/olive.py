"""A pass for Microsoft Olive: `QCompile` in a workflow's JSON.

Olive finds passes of other packages in a package configuration: `python -m qcompiler.integrations.olive_package FILE`
writes one, and `olive run --config workflow.json --package-config FILE` reads it.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from olive.common.config_utils import ParamCategory, validate_config
from olive.data.config import DataConfig
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.pass_config import PassConfigParam

from qcompiler.calibration.tensor_batches import TensorBatches
from qcompiler.driver import compile_model
from qcompiler.driver.preprocessing import preprocessing_from
from qcompiler.options import CompileOptions

# Olive keeps results under a hash of the configuration: files that a pass writes besides would go missing.
_LEFT_OUT = {"save_plan", "save_stats", "stats", "resume"}


class QCompile(Pass):
    """Quantize a float vision transformer with qcompile.

    Its parameters are the fields of :class:`qcompiler.CompileOptions`, and where the calibration images come from:
    `calibration` (a folder of images, an .npz, `module:callable`) with `preset`, `mean`, `std`, `resize` and `crop`, or
    `data_config`, a data set of the workflow.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        hints = get_type_hints(CompileOptions)
        options = {
            field.name: PassConfigParam(
                type_=hints[field.name],
                default_value=field.default,
                description=f"See qcompiler.CompileOptions.{field.name}.",
            )
            for field in fields(CompileOptions)
            if field.name not in _LEFT_OUT
        }
        images = {
            "calibration": (str, "Folder of images, .npz or module:callable.", ParamCategory.DATA),
            "data_config": (DataConfig | dict, "Calibration data of the workflow, instead of 'calibration'.", None),
            "preset": (str, "How image files become values: half, imagenet or none.", None),
            "mean": (list[float], "Mean of each channel on the scale of [0, 1].", None),
            "std": (list[float], "Standard deviation of each channel on the scale of [0, 1].", None),
            "resize": (int, "Pixels of the short side.", None),
            "crop": (int, "Pixels of the centre crop.", None),
        }
        for name, (kind, description, category) in images.items():
            more = {} if category is None else {"category": category}
            options[name] = PassConfigParam(type_=kind, default_value=None, description=description, **more)
        return options

    def _run_for_config(self, model: ONNXModelHandler, config: Any, output_model_path: str) -> ONNXModelHandler:
        if not isinstance(model, ONNXModelHandler):
            raise NotImplementedError(
                f"QCompile takes ONNX models; put OnnxConversion before it ({type(model).__name__})"
            )
        names = {field.name for field in fields(CompileOptions)}
        values = {name: value for name, value in config.model_dump().items() if name in names and value is not None}
        options = CompileOptions(**values)
        output = Path(resolve_onnx_path(output_model_path))
        output.parent.mkdir(parents=True, exist_ok=True)
        preprocessing = preprocessing_from(config.preset, config.mean, config.std, config.resize, config.crop)
        compile_model(
            model.model_path,
            options,
            _calibration(model, config),
            preprocessing=preprocessing,
            output=output,
        )
        return ONNXModelHandler(
            model_path=str(output.parent),  # the folder: weights of a large model lie beside the file
            onnx_file_name=output.name,
            inference_settings=model.inference_settings,
        )


def _calibration(model: ONNXModelHandler, config: Any) -> Any:
    if config.data_config is None:
        return config.calibration
    container = validate_config(config.data_config, DataConfig).to_data_container()
    # Not its calibration data loader: that one takes batches with names only.
    return TensorBatches(container.create_dataloader(), model.io_config["input_names"][0])
