"""Random small transformers as ONNX graphs, and a hypothesis strategy that draws them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

F32 = np.float32
CHANNELS = 2  # of the image


@dataclass(frozen=True)
class Transformer:
    """One architecture.

    Attributes:
        depth: Blocks.
        heads: Attention heads.
        head_dim: Channels of a head; no multiple of anything.
        hidden: Channels inside the MLP.
        grid: Patches along each side of the image.
        patch: Pixels along each side of a patch.
        class_token: Whether there is one, which the head then reads; otherwise the mean of the tokens.
        pre_norm: LayerNormalization before each branch, or behind each residual.
        merged: q, k and v from one layer, or from three.
        bias: Whether linear layers have one.
        gemm: Whether linear layers are Gemm on two axes, or MatMul and Add.
        gelu: Spelling of the activation.
        scaling: Where the scores are scaled.
        mask: What is added to the scores: nothing, a mask of all heads, or a bias per head.
        windows: Attention in windows of 2 x 2 patches.
        layer_scale: Whether branches are multiplied channel by channel.
        swapped: Whether residuals are added as branch + stream.
        outputs: Logits alone, a second head, or the tokens too.
        batch: Images per run; None for a symbolic number.
        opset: Version of the standard operators.
        seed: Of the weights.
    """

    depth: int
    heads: int
    head_dim: int
    hidden: int
    grid: int
    patch: int
    class_token: bool
    pre_norm: bool
    merged: bool
    bias: bool
    gemm: bool
    gelu: str
    scaling: str
    mask: str
    windows: bool
    layer_scale: bool
    swapped: bool
    outputs: str
    batch: int | None
    opset: int
    seed: int

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    @property
    def tokens(self) -> int:
        return self.grid**2 + self.class_token

    def images(self, count: int) -> np.ndarray:
        """`[count, 2, side, side]`, float32."""
        side = self.grid * self.patch
        return np.random.default_rng(self.seed + 1).normal(size=(count, CHANNELS, side, side)).astype(F32)


@st.composite
def transformers(draw: st.DrawFn) -> Transformer:
    """Draws architectures; smaller ones first when an example is reduced."""
    gelu = draw(st.sampled_from(["erf", "halved", "tanh", "op", "sigmoid", "relu"]))
    windows = draw(st.booleans())
    return Transformer(
        depth=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 4)),
        head_dim=draw(st.integers(3, 11)),
        hidden=draw(st.integers(9, 70)),
        grid=4 if windows else draw(st.integers(2, 4)),
        patch=draw(st.integers(2, 3)),
        class_token=False if windows else draw(st.booleans()),
        pre_norm=draw(st.booleans()),
        merged=draw(st.booleans()),
        bias=draw(st.booleans()),
        gemm=draw(st.booleans()),
        gelu=gelu,
        scaling=draw(st.sampled_from(["queries", "scores", "divided"])),
        mask=draw(st.sampled_from(["none", "mask", "bias"])),
        windows=windows,
        layer_scale=draw(st.booleans()),
        swapped=draw(st.booleans()),
        outputs=draw(st.sampled_from(["logits", "two heads", "tokens"])),
        batch=draw(st.sampled_from([None, 1, 2])),
        opset=20 if gelu == "op" else draw(st.sampled_from([17, 18, 21])),
        seed=draw(st.integers(0, 2**20)),
    )


def build(shape: Transformer) -> onnx.ModelProto:
    """The model, with input `x` and outputs that start with `logits`."""
    model = _Writer(shape).model()
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass
class _Writer:
    """Adds nodes one after the other; tensors are named by number."""

    shape: Transformer
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.shape.seed)

    def node(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), names, f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if count == 1 else names

    def constant(self, value: Any, dtype: Any = F32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def reshape(self, x: str, *sizes: int) -> str:
        """Sizes of 0 are those of the input."""
        result: str = self.node("Reshape", x, self.constant(sizes, np.int64))
        return result

    def linear(self, x: str, inner: int, outer: int, rows: tuple[int, ...]) -> str:
        """`rows` are the sizes of the axes between batch and channels."""
        weight = self.draw.normal(size=(inner, outer)) * inner**-0.5
        bias = self.constant(self.draw.normal(size=outer) * 0.2) if self.shape.bias else None
        if self.shape.gemm:
            flat = self.reshape(x, -1, inner) if rows else x
            transposed = bool(self.draw.random() < 0.5)
            matrix = self.constant(weight.T if transposed else weight)
            y = self.node("Gemm", flat, matrix, *([bias] if bias else []), transB=int(transposed))
            return self.reshape(y, -1, *rows, outer) if rows else y
        y = self.node("MatMul", x, self.constant(weight))
        return self.node("Add", *((bias, y) if self.shape.swapped else (y, bias))) if bias else y

    def norm(self, x: str) -> str:
        scale = self.constant(self.draw.uniform(0.6, 1.6, self.shape.dim))
        shift = self.constant(self.draw.normal(size=self.shape.dim) * 0.2)
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)

    def gelu(self, x: str) -> str:
        kind, one, half = self.shape.gelu, self.constant(1), self.constant(0.5)
        if kind == "relu":
            return self.node("Relu", x)
        if kind == "op":
            return self.node("Gelu", x)
        if kind == "sigmoid":
            return self.node("Mul", x, self.node("Sigmoid", self.node("Mul", x, self.constant(1.702))))
        if kind == "tanh":
            cube = self.node("Mul", self.node("Pow", x, self.constant(3)), self.constant(0.044715))
            inner = self.node("Mul", self.node("Add", x, cube), self.constant((2 / np.pi) ** 0.5))
            return self.node("Mul", self.node("Mul", x, half), self.node("Add", self.node("Tanh", inner), one))
        raised = self.node("Add", self.node("Erf", self.node("Div", x, self.constant(2**0.5))), one)
        if kind == "halved":
            return self.node("Mul", self.node("Mul", half, x), raised)
        return self.node("Mul", self.node("Mul", x, raised), half)

    def queries_keys_values(self, x: str, tokens: int) -> tuple[str, str, str]:
        """Each `[batch, heads, tokens, head_dim]`."""
        dim, heads, head = self.shape.dim, self.shape.heads, self.shape.head_dim
        if not self.shape.merged:
            parts = [self.linear(x, dim, dim, (tokens,)) for _ in range(3)]
            split = [self.reshape(part, -1, tokens, heads, head) for part in parts]
            q, k, v = (self.node("Transpose", part, perm=[0, 2, 1, 3]) for part in split)
            return q, k, v
        packed = self.reshape(self.linear(x, dim, 3 * dim, (tokens,)), -1, tokens, 3, heads, head)
        turned = self.node("Transpose", packed, perm=[2, 0, 3, 1, 4])
        parts = self.node("Split", turned, self.constant([1, 1, 1], np.int64), count=3, axis=0)
        q, k, v = (self.node("Squeeze", part, self.constant([0], np.int64)) for part in parts)
        return q, k, v

    def attention(self, x: str, tokens: int) -> str:
        shape, dim = self.shape, self.shape.dim
        q, k, v = self.queries_keys_values(x, tokens)
        scale = self.constant(shape.head_dim**-0.5)
        if shape.scaling == "queries":
            q = self.node("Mul", q, scale)
        scores = self.node("MatMul", q, self.node("Transpose", k, perm=[0, 1, 3, 2]))
        if shape.scaling == "scores":
            scores = self.node("Mul", scores, scale)
        elif shape.scaling == "divided":
            scores = self.node("Div", scores, self.constant(shape.head_dim**0.5))
        if shape.mask == "bias":
            bias = self.draw.normal(size=(1, shape.heads, tokens, tokens))
            scores = self.node("Add", scores, self.constant(bias))
        elif shape.mask == "mask":
            hidden = self.draw.random((1, 1, tokens, tokens)) < 0.3
            hidden[..., np.arange(tokens), np.arange(tokens)] = False  # no row is masked as a whole
            scores = self.node("Add", scores, self.constant(np.where(hidden, -100.0, 0.0)))
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        joined = self.reshape(self.node("Transpose", mixed, perm=[0, 2, 1, 3]), -1, tokens, dim)
        return self.linear(joined, dim, dim, (tokens,))

    def windowed(self, x: str) -> str:
        """Attention in windows of 2 x 2 of the 4 x 4 patches."""
        dim = self.shape.dim
        cut = self.reshape(x, -1, 2, 2, 2, 2, dim)
        windows = self.reshape(self.node("Transpose", cut, perm=[0, 1, 3, 2, 4, 5]), -1, 4, dim)
        back = self.reshape(self.attention(windows, 4), -1, 2, 2, 2, 2, dim)
        return self.reshape(self.node("Transpose", back, perm=[0, 1, 3, 2, 4, 5]), -1, 16, dim)

    def branch(self, stream: str, inside: Any) -> str:
        """Stream plus what the branch makes of it, normalised before or after."""
        y = inside(self.norm(stream) if self.shape.pre_norm else stream)
        if self.shape.layer_scale:
            y = self.node("Mul", y, self.constant(self.draw.uniform(0.3, 1.2, self.shape.dim)))
        total = self.node("Add", *((y, stream) if self.shape.swapped else (stream, y)))
        return total if self.shape.pre_norm else self.norm(total)

    def mlp(self, x: str) -> str:
        shape = self.shape
        wide = self.gelu(self.linear(x, shape.dim, shape.hidden, (shape.tokens,)))
        return self.linear(wide, shape.hidden, shape.dim, (shape.tokens,))

    def embedding(self) -> str:
        shape, dim, size = self.shape, self.shape.dim, self.shape.patch
        kernel = self.draw.normal(size=(dim, CHANNELS, size, size)) / (CHANNELS * size**2) ** 0.5
        bias = self.constant(self.draw.normal(size=dim) * 0.1)
        maps = self.node("Conv", "x", self.constant(kernel), bias, kernel_shape=[size] * 2, strides=[size] * 2)
        tokens = self.node("Transpose", self.reshape(maps, 0, dim, shape.grid**2), perm=[0, 2, 1])
        if shape.class_token:
            batch = self.node("Shape", "x", start=0, end=1)
            target = self.node("Concat", batch, self.constant([1, dim], np.int64), axis=0)
            token = self.node("Expand", self.constant(self.draw.normal(size=(1, 1, dim))), target)
            tokens = self.node("Concat", token, tokens, axis=1)
        return self.node("Add", tokens, self.constant(self.draw.normal(size=(1, shape.tokens, dim)) * 0.5))

    def model(self) -> onnx.ModelProto:
        shape = self.shape
        x = self.embedding()
        for _ in range(shape.depth):
            x = self.branch(x, self.windowed if shape.windows else lambda y: self.attention(y, shape.tokens))
            x = self.branch(x, self.mlp)
        if shape.pre_norm:
            x = self.norm(x)
        if shape.class_token:
            pooled = self.node("Gather", x, self.constant(0, np.int64), axis=1)
        else:
            axes = self.constant([1], np.int64)
            pooled = (
                self.node("ReduceMean", x, axes, keepdims=0)
                if shape.opset >= 18
                else self.node("ReduceMean", x, axes=[1], keepdims=0)
            )
        found = {"logits": (self.linear(pooled, shape.dim, 7, ()), (7,))}
        if shape.outputs == "two heads":
            found["other"] = (self.linear(pooled, shape.dim, 3, ()), (3,))
        elif shape.outputs == "tokens":
            found["tokens"] = (x, (shape.tokens, shape.dim))
        batch: int | str = "n" if shape.batch is None else shape.batch
        for name, (tensor, _) in found.items():
            self.nodes.append(helper.make_node("Identity", [tensor], [name], f"Identity_{name}"))
        side = shape.grid * shape.patch
        graph = helper.make_graph(
            self.nodes,
            "transformer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, CHANNELS, side, side])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *sizes])
                for name, (_, sizes) in found.items()
            ],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", shape.opset)], ir_version=10)
