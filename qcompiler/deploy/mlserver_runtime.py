"""MLServer runtime for models that qcompile wrote.

`qcompile deploy --target mlserver` copies this file beside the model, so it needs mlserver, numpy and onnxruntime only.
Every request is checked before it runs: what does not fit the model is answered with status 400 and a reason.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, RequestInput, ResponseOutput

_DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


# Kinds of numbers in a request that may become a kind of element.
_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}


class QcompileRuntime(MLModel):
    """One ONNX Runtime session, shared by as many requests at the same time as the settings say."""

    async def load(self) -> bool:
        """Open the model with its operator library; a failure stops the server instead of serving slowly."""
        parameters = self.settings.parameters
        folder, extra = Path(parameters.uri), parameters.extra
        self._max_batch = extra["max_batch"]
        self._pool = ThreadPoolExecutor(extra["instances"], thread_name_prefix=self.name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = extra["threads"]
        options.inter_op_num_threads = 1
        # Idle threads sleep: the server's own threads need the cores between two runs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        if extra["library"]:
            options.register_custom_ops_library(str((folder / extra["library"]).absolute()))

        def open_session() -> onnxruntime.InferenceSession:
            return onnxruntime.InferenceSession(
                str(folder / extra["model"]), options, providers=["CPUExecutionProvider"]
            )

        self._session = await asyncio.get_running_loop().run_in_executor(self._pool, open_session)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request; other requests are taken meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, payload)

    async def unload(self) -> bool:
        """Let running requests end."""
        self._pool.shutdown()
        return True

    def _answer(self, payload: InferenceRequest) -> InferenceResponse:
        feed = self._feed(payload.inputs)
        known = [tensor.name for tensor in self.outputs or []]
        wanted = list(dict.fromkeys(output.name for output in payload.outputs or [])) or known
        for name in wanted:
            if name not in known:
                raise InferenceError(f"the model has no output '{name}'; it has {', '.join(known)}")
        results = self._session.run(wanted, feed)
        datatypes = {tensor.name: tensor.datatype for tensor in self.outputs or []}
        outputs = [
            ResponseOutput(
                name=name, datatype=datatypes[name], shape=list(result.shape), data=np.ravel(result).tolist()
            )
            for name, result in zip(wanted, results, strict=True)
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

    def _feed(self, inputs: list[RequestInput]) -> dict[str, np.ndarray]:
        expected = {tensor.name: tensor for tensor in self.inputs or []}
        if sorted(item.name for item in inputs) != sorted(expected):
            raise InferenceError(f"the model reads {', '.join(expected)}, each of them once")
        feed = {item.name: self._array(item, expected[item.name]) for item in inputs}
        if self._max_batch is not None:
            sizes = {array.shape[0] for array in feed.values()}
            if len(sizes) > 1 or not 1 <= max(sizes) <= self._max_batch:
                raise InferenceError(f"a request holds 1 to {self._max_batch} images, the same number in every input")
        return feed

    @staticmethod
    def _array(item: RequestInput, expected: MetadataTensor) -> np.ndarray:
        if item.datatype != expected.datatype:
            raise InferenceError(f"input '{item.name}' is {expected.datatype}, not {item.datatype}")
        fits = len(item.shape) == len(expected.shape) and all(
            size == wanted or (wanted < 0 <= size) for size, wanted in zip(item.shape, expected.shape, strict=True)
        )
        if not fits:
            raise InferenceError(f"input '{item.name}' has shape {item.shape}, the model reads {expected.shape}")
        data: Any = getattr(item.data, "root", item.data)
        try:
            given = np.asarray(data).reshape(item.shape)
        except ValueError as error:
            raise InferenceError(f"input '{item.name}' does not hold {item.shape} numbers") from error
        array = _converted(given, np.dtype(_DTYPES[item.datatype]))
        if array is None:
            raise InferenceError(f"input '{item.name}' holds values that are no finite {item.datatype}")
        return array


def _converted(given: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """The values as `dtype`; None where more than digits of a float would be lost."""
    if given.dtype.kind not in _KINDS[dtype.kind]:
        return None
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        array: np.ndarray = given.astype(dtype)
    kept = np.isfinite(array).all() if dtype.kind == "f" else np.array_equal(array, given)
    return array if kept else None
