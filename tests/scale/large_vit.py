"""A vision transformer of any size with random weights, written straight to external data: no weight stays in memory.

python -m tests.scale.large_vit FILE [--dim 1408 --depth 23 --heads 16 --mlp 6144]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

SIDE, PATCH, CLASSES = 56, 14, 1000
ALIGNMENT = 4096  # of the weights in the file, as exporters write them


@dataclass(frozen=True)
class VitShape:
    """Of the transformer; that of ViT-g is 1408, 40, 16, 6144."""

    dim: int = 1408
    depth: int = 23
    heads: int = 16
    mlp: int = 6144


class _Weights:
    """Initialisers whose values go to a file as soon as they are drawn."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self._file = file
        self._location = location
        self._draw = np.random.default_rng(0)

    def normal(self, name: str, *shape: int, scale: float, mean: float = 0.0) -> str:
        values = self._draw.standard_normal(shape, np.float32)
        values *= np.float32(scale)
        values += np.float32(mean)
        self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": self._location, "offset": self._file.tell(), "length": values.nbytes}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        values.tofile(self._file)
        self.tensors.append(tensor)
        return name

    def linear(self, name: str, inner: int, outer: int) -> tuple[str, str]:
        weight = self.normal(f"{name}.weight", inner, outer, scale=inner**-0.5)
        return weight, self.normal(f"{name}.bias", outer, scale=0.02)

    def inline(self, name: str, values: object, kind: type) -> str:
        self.tensors.append(onnx.numpy_helper.from_array(np.array(values, kind), name))
        return name


class _Nodes:
    def __init__(self) -> None:
        self.made: list[onnx.NodeProto] = []

    def add(self, op: str, inputs: list[str], name: str, outputs: int = 1, **attributes: object) -> list[str]:
        names = [f"{name}/out{index}" for index in range(outputs)] if outputs > 1 else [f"{name}/out"]
        self.made.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names

    def one(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        return self.add(op, inputs, name, **attributes)[0]


def write_vit(path: Path, shape: VitShape) -> int:
    """Write `path` and `<file name>.data` beside it; one image per run, float32 `[1, 3, 56, 56]` to `[1, 1000]`.

    Returns:
        Bytes of both files.
    """
    data = path.with_name(f"{path.name}.data")
    tokens = (SIDE // PATCH) ** 2
    nodes = _Nodes()
    with data.open("wb") as file:
        weights = _Weights(file, data.name)
        for name, values in (("tokens", [0, shape.dim, tokens]), ("first", [0])):
            weights.inline(name, values, np.int64)
        weights.inline("heads", [1, tokens + 1, 3, shape.heads, shape.dim // shape.heads], np.int64)
        weights.inline("joined", [1, tokens + 1, shape.dim], np.int64)
        weights.inline("ones", [1, 1, 1], np.int64)
        weights.inline("scale", (shape.dim // shape.heads) ** -0.5, np.float32)
        for name, number in (("root", 2**0.5), ("one", 1.0), ("half", 0.5)):
            weights.inline(name, number, np.float32)
        x = _embed(nodes, weights, shape, tokens)
        for index in range(shape.depth):
            x = _block(nodes, weights, shape, f"/blocks.{index}", x)
        x = _norm(nodes, weights, shape, "/norm", x)
        x = nodes.one("Gather", [x, weights.inline("class", 0, np.int64)], "/pool", axis=1)
        head = weights.linear("head", shape.dim, CLASSES)
        nodes.made.append(helper.make_node("Gemm", [x, *head], ["logits"], name="/head/Gemm"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])]
    graph = helper.make_graph(nodes.made, "vit", inputs, outputs, weights.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path.stat().st_size + data.stat().st_size


def write_images(path: Path, count: int) -> None:
    """Calibration data of that model."""
    draw = np.random.default_rng(1)
    np.savez(path, x=draw.standard_normal((count, 3, SIDE, SIDE)).astype(np.float32))


def _embed(nodes: _Nodes, weights: _Weights, shape: VitShape, tokens: int) -> str:
    kernel = weights.normal("patch.weight", shape.dim, 3, PATCH, PATCH, scale=(3 * PATCH * PATCH) ** -0.5)
    sides = {"kernel_shape": [PATCH, PATCH], "strides": [PATCH, PATCH]}
    x = nodes.one("Conv", ["x", kernel, weights.normal("patch.bias", shape.dim, scale=0.02)], "/patch/Conv", **sides)
    x = nodes.one("Reshape", [x, "tokens"], "/patch/Reshape")
    x = nodes.one("Transpose", [x], "/patch/Transpose", perm=[0, 2, 1])
    x = nodes.one("Concat", [weights.normal("cls", 1, 1, shape.dim, scale=0.5), x], "/patch/Concat", axis=1)
    return nodes.one("Add", [x, weights.normal("position", 1, tokens + 1, shape.dim, scale=0.5)], "/patch/Add")


def _norm(nodes: _Nodes, weights: _Weights, shape: VitShape, name: str, x: str) -> str:
    scale = weights.normal(f"{name}.weight", shape.dim, scale=0.1, mean=1.0)
    bias = weights.normal(f"{name}.bias", shape.dim, scale=0.05)
    return nodes.one("LayerNormalization", [x, scale, bias], f"{name}/LayerNormalization", axis=-1, epsilon=1e-6)


def _linear(nodes: _Nodes, weights: _Weights, name: str, x: str, inner: int, outer: int) -> str:
    weight, bias = weights.linear(name, inner, outer)
    return nodes.one("Add", [nodes.one("MatMul", [x, weight], f"{name}/MatMul"), bias], f"{name}/Add")


def _block(nodes: _Nodes, weights: _Weights, shape: VitShape, name: str, x: str) -> str:
    dim, attention, mlp = shape.dim, f"{name}/attn", f"{name}/mlp"
    normed = _norm(nodes, weights, shape, f"{name}/norm1", x)
    qkv = _linear(nodes, weights, f"{attention}/qkv", normed, dim, 3 * dim)
    turned = nodes.one("Reshape", [qkv, "heads"], f"{attention}/Reshape")
    turned = nodes.one("Transpose", [turned], f"{attention}/Transpose", perm=[2, 0, 3, 1, 4])
    parts = nodes.add("Split", [turned, "ones"], f"{attention}/Split", 3, axis=0)
    q, k, v = (nodes.one("Squeeze", [part, "first"], f"{attention}/Squeeze_{i}") for i, part in enumerate(parts))
    k = nodes.one("Transpose", [k], f"{attention}/Transpose_1", perm=[0, 1, 3, 2])
    scores = nodes.one("Mul", [nodes.one("MatMul", [q, k], f"{attention}/MatMul"), "scale"], f"{attention}/Mul")
    mixed = nodes.one("Softmax", [scores], f"{attention}/Softmax", axis=-1)
    mixed = nodes.one("MatMul", [mixed, v], f"{attention}/MatMul_1")
    mixed = nodes.one("Transpose", [mixed], f"{attention}/Transpose_2", perm=[0, 2, 1, 3])
    mixed = nodes.one("Reshape", [mixed, "joined"], f"{attention}/Reshape_1")
    x = nodes.one("Add", [x, _linear(nodes, weights, f"{attention}/proj", mixed, dim, dim)], f"{name}/Add")
    normed = _norm(nodes, weights, shape, f"{name}/norm2", x)
    hidden = _linear(nodes, weights, f"{mlp}/fc1", normed, dim, shape.mlp)
    gate = nodes.one("Erf", [nodes.one("Div", [hidden, "root"], f"{mlp}/Div")], f"{mlp}/Erf")
    gate = nodes.one("Mul", [hidden, nodes.one("Add", [gate, "one"], f"{mlp}/Add")], f"{mlp}/Mul")
    hidden = nodes.one("Mul", [gate, "half"], f"{mlp}/Mul_1")
    return nodes.one("Add", [x, _linear(nodes, weights, f"{mlp}/fc2", hidden, shape.mlp, dim)], f"{name}/Add_1")


def main() -> None:
    default = VitShape()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--images", type=int, default=6)
    for name in ("dim", "depth", "heads", "mlp"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    given = parser.parse_args()
    size = write_vit(given.file, VitShape(given.dim, given.depth, given.heads, given.mlp))
    write_images(given.file.with_name(f"{given.file.stem}.calib.npz"), given.images)
    print(f"{given.file}: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
