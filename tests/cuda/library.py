"""The CUDA library without ONNX Runtime: its table of functions (runtime_ops/cuda/interface.h) through ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_bool, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

F32 = np.float32
INT4, INT8 = 0, 1
ROWS, CHANNELS, SEGMENTS, BLOCKS = range(4)
NO_GELU, ERF, TANH = range(3)


class GroupTable(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("count", c_int32))


class BlockSpec(ctypes.Structure):
    _fields_ = (("bits", c_int), ("block", c_int64), ("clip", c_float), ("slack", c_float))


class LinearSpec(ctypes.Structure):
    _fields_ = (
        ("channels", c_int64),
        ("outputs", c_int64),
        ("weight", c_void_p),
        ("weight_type", c_int),
        ("w_blocks", c_void_p),
        ("weight_blocks", c_int64),
        ("w_scale", c_void_p),
        ("bias", c_void_p),
        ("groups", GroupTable),
        ("bits", c_int),
        ("grouping", c_int),
        ("block", c_int64),
        ("clip", c_float),
        ("slack", c_float),
        ("rotate", c_int64),
        ("gelu", c_int),
        ("gamma", c_void_p),
        ("beta", c_void_p),
        ("epsilon", c_float),
        ("normalize", c_bool),
    )


class LinearCall(ctypes.Structure):
    _fields_ = (("x", c_void_p), ("residual", c_void_p), ("y", c_void_p), ("batch", c_int64), ("rows", c_int64))


class AttentionSpec(ctypes.Structure):
    _fields_ = (
        ("num_heads", c_int64),
        ("scale", c_float),
        ("q", GroupTable),
        ("k", GroupTable),
        ("v", GroupTable),
        ("p", GroupTable),
        ("bits", c_int),
        ("in_blocks", c_bool),
        ("qk_blocks", BlockSpec),
        ("v_blocks", BlockSpec),
        ("levels", c_void_p),
        ("num_levels", c_int32),
    )


class AttentionCall(ctypes.Structure):
    _fields_ = (
        ("qkv", c_void_p),
        ("bias", c_void_p),
        ("bias_batch", c_int64),
        ("bias_heads", c_int64),
        ("y", c_void_p),
        ("batch", c_int64),
        ("tokens", c_int64),
        ("head_dim", c_int64),
    )


class Interface(ctypes.Structure):
    _fields_ = (
        ("version", c_char_p),
        ("linear_spec_bytes", c_size_t),
        ("attention_spec_bytes", c_size_t),
        ("unusable", ctypes.CFUNCTYPE(c_char_p)),
        ("linear_create", ctypes.CFUNCTYPE(c_char_p, POINTER(LinearSpec), POINTER(c_void_p))),
        ("linear_destroy", ctypes.CFUNCTYPE(None, c_void_p)),
        ("linear_run", ctypes.CFUNCTYPE(c_char_p, c_void_p, POINTER(LinearCall), c_void_p)),
        ("linear_run_half", ctypes.CFUNCTYPE(c_char_p, c_void_p, POINTER(LinearCall), c_void_p)),
        ("attention_create", ctypes.CFUNCTYPE(c_char_p, POINTER(AttentionSpec), POINTER(c_void_p))),
        ("attention_destroy", ctypes.CFUNCTYPE(None, c_void_p)),
        ("attention_run", ctypes.CFUNCTYPE(c_char_p, c_void_p, POINTER(AttentionCall), c_void_p)),
        ("attention_run_half", ctypes.CFUNCTYPE(c_char_p, c_void_p, POINTER(AttentionCall), c_void_p)),
    )


def load(path: Path) -> Interface:
    """The library's table; raises RuntimeError where its structures are not those of this file."""
    entry = ctypes.CDLL(str(path)).qcompiler_cuda_interface
    entry.restype = POINTER(Interface)
    table: Interface = entry().contents
    spelled = ctypes.sizeof(LinearSpec), ctypes.sizeof(AttentionSpec)
    if (table.linear_spec_bytes, table.attention_spec_bytes) != spelled:
        raise RuntimeError(f"{path} has other structures than tests/cuda/library.py")
    return table


def _succeed(wrong: bytes | None) -> None:
    if wrong is not None:
        raise RuntimeError(wrong.decode())


def _is_half(*tensors: Any) -> bool:
    """Whether a call's tensors are float16; raises TypeError where they are not all that, or all float32."""
    types = {str(tensor.dtype) for tensor in tensors if tensor is not None}
    if types not in ({"torch.float16"}, {"torch.float32"}):
        raise TypeError(f"tensors of {', '.join(sorted(types))}; expected all float16 or all float32")
    return types == {"torch.float16"}


@dataclass
class Linear:
    """A layer in blocks with random weights, as `auto` compiles it.

    Attributes:
        library: The table.
        channels: Of the input.
        outputs: Of the output.
        layer_norm: LayerNormalization in front.
        gelu: NO_GELU, ERF or TANH.
        bits: Of the input's codes.
        block: Channels of one block.
        rotate: Channels that are rotated together.
    """

    library: Interface
    channels: int
    outputs: int
    layer_norm: bool = False
    gelu: int = NO_GELU
    bits: int = 4
    block: int = 32
    rotate: int = 1
    handle: c_void_p = field(default_factory=c_void_p)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.weight = rng.integers(0, 256, self.channels * self.outputs // 2).astype(np.uint8)
        w_scale = rng.uniform(1e-3, 2e-3, self.outputs).astype(F32)
        bias = rng.normal(size=self.outputs).astype(F32)
        gamma, beta = np.ones(self.channels, F32), np.zeros(self.channels, F32)
        spec = LinearSpec(
            channels=self.channels,
            outputs=self.outputs,
            weight=self.weight.ctypes.data,
            weight_type=INT4,
            w_scale=w_scale.ctypes.data,
            bias=bias.ctypes.data,
            bits=self.bits,
            grouping=BLOCKS,
            block=self.block,
            clip=1.0,
            slack=0.25,
            rotate=self.rotate,
            gelu=self.gelu,
            gamma=gamma.ctypes.data if self.layer_norm else None,
            beta=beta.ctypes.data if self.layer_norm else None,
            epsilon=1e-6,
        )
        _succeed(self.library.linear_create(byref(spec), byref(self.handle)))

    def __call__(self, x: Any, y: Any, stream: int, residual: Any = None) -> None:
        """Puts the layer on a stream; tensors `[batch, tokens, channels]`, float32 or float16, contiguous, of torch."""
        added = None if residual is None else residual.data_ptr()
        call = LinearCall(x.data_ptr(), added, y.data_ptr(), x.shape[0], x.shape[1])
        run = self.library.linear_run_half if _is_half(x, y, residual) else self.library.linear_run
        _succeed(run(self.handle, byref(call), stream))

    def __del__(self) -> None:
        if self.handle:
            self.library.linear_destroy(self.handle)


@dataclass
class Attention:
    """Attention in blocks, 16 levels of probabilities.

    Attributes:
        library: The table.
        heads: Their number.
        head_dim: Channels of a head.
        bits: Of the codes of q, k and v.
    """

    library: Interface
    heads: int
    head_dim: int
    bits: int = 4
    handle: c_void_p = field(default_factory=c_void_p)

    def __post_init__(self) -> None:
        tables = np.array([(0, top, top / 15, 0, 1, top / 15) for top in (0.05, 0.2, 1.0)], F32)
        levels = np.arange(16, dtype=np.uint8)
        blocks = BlockSpec(self.bits, 16, 1.0, 0.25)
        spec = AttentionSpec(
            num_heads=self.heads,
            scale=float(self.head_dim**-0.5),
            p=GroupTable(tables.ctypes.data, len(tables)),
            in_blocks=True,
            qk_blocks=blocks,
            v_blocks=blocks,
            levels=levels.ctypes.data,
            num_levels=16,
        )
        _succeed(self.library.attention_create(byref(spec), byref(self.handle)))

    def __call__(self, qkv: Any, y: Any, stream: int) -> None:
        """Puts the operator on a stream; tensors as for a layer."""
        call = AttentionCall(qkv.data_ptr(), None, 0, 0, y.data_ptr(), qkv.shape[0], qkv.shape[1], self.head_dim)
        run = self.library.attention_run_half if _is_half(qkv, y) else self.library.attention_run
        _succeed(run(self.handle, byref(call), stream))

    def __del__(self) -> None:
        if self.handle:
            self.library.attention_destroy(self.handle)
