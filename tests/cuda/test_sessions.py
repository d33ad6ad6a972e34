"""Sessions on ONNX Runtime's CUDA provider against sessions on the CPU: the same model, the same integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..runtime_ops.nodes import (
    F32,
    MODES,
    WIDEST,
    Node,
    attention_node,
    block_attention_node,
    block_node,
    divisors,
    linear_node,
    probability_table,
    random_blocks,
    random_table,
    random_weight,
)
from .conftest import PROVIDER

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def session(node: Node, library: str, provider: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library)
    # Not left to the CPU where the CUDA provider refuses: then the test would compare the CPU with itself.
    if provider != "CPUExecutionProvider":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return onnxruntime.InferenceSession(node.model(), options, providers=[provider])


def both(node: Node, library: str, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs on the CPU and on the GPU; the latter twice, which must not differ."""
    want = session(node, library, "CPUExecutionProvider").run(None, feeds)[0]
    on_device = session(node, library, PROVIDER)
    got = on_device.run(None, feeds)[0]
    np.testing.assert_array_equal(got, on_device.run(None, feeds)[0])
    return want, got


def in_half(node: Node, feeds: dict[str, np.ndarray], half: bool) -> tuple[Node, dict[str, np.ndarray]]:
    """The case on float16 tensors, where that is asked for."""
    if not half:
        return node, feeds
    return node.in_half(), {name: value.astype(np.float16) for name, value in feeds.items()}


def linear_case(mode: str, seed: int, **parts: Any) -> tuple[Node, dict[str, np.ndarray]]:
    """A random layer with random scales, and an input for it."""
    rng = np.random.default_rng(seed)
    channels, outputs = (int(n) for n in rng.integers(1, 300, 2))
    if mode == "blocks":
        channels = 16 * ((channels + 15) // 16)
    int4 = bool(rng.integers(2))
    weight = random_weight(rng, channels, outputs, int4)
    w_blocks = random_blocks(rng, int(rng.choice(divisors(channels))), outputs)
    shared = {
        "w_scale": rng.uniform(0.01, 0.02, outputs).astype(F32),
        "w_blocks": w_blocks,
        "bias": rng.normal(size=outputs).astype(F32),
        "int4": int4,
        **parts,
    }
    if parts.get("norm"):
        shared["norm"] = (rng.uniform(0.5, 1.5, channels).astype(F32), rng.normal(size=channels).astype(F32))
    if mode == "blocks":
        block = int(rng.choice([n for n in divisors(channels) if n <= 64]))
        node = block_node(
            weight, bits=int(rng.integers(2, 8)), block=block, rotate=int(rng.choice([1, 4, 16])), **shared
        )
    else:
        bits = int(rng.integers(2, WIDEST[mode] + 1))
        axis, segments = MODES[mode]
        table = random_table(rng, mode, bits, int(rng.integers(1, 9)))
        node = linear_node(weight, table, bits=bits, axis=axis, segments=segments, **shared)
    shape = tuple(int(n) for n in rng.integers(1, 90, 2)) if mode != "segments" else (2, int(rng.integers(1, 90)))
    feeds = {"X": rng.normal(size=(*shape, channels)).astype(F32)}
    if parts.get("residual"):
        feeds["residual"] = rng.normal(size=(*shape, outputs)).astype(F32)
    return node, feeds


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("mode", [*MODES, "blocks"])
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_linear_exact(cuda_library: str, mode: str, half: bool, seed: int) -> None:
    """Every operation has its order in the definition: not one bit may differ."""
    node, feeds = in_half(*linear_case(mode, seed, residual=bool(seed % 2)), half)
    want, got = both(node, cuda_library, feeds)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("mode", [*MODES, "blocks"])
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_linear_behind_layer_norm(cuda_library: str, mode: str, half: bool, seed: int) -> None:
    """Sums of doubles are added in another order: a value on a border may take the neighbouring code, few do."""
    node, feeds = in_half(*linear_case(mode, seed, norm=True, gelu=bool(seed % 2)), half)
    want, got = both(node, cuda_library, feeds)
    assert np.mean(got != want) < 0.01 + 2 / want.shape[-2]
    np.testing.assert_allclose(got, want, rtol=0, atol=0.1 * max(1.0, float(np.abs(want).max())))


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("in_blocks", [False, True])
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_attention(cuda_library: str, in_blocks: bool, half: bool, seed: int) -> None:
    """The same polynomial of exp on both sides; only the order of a sum of doubles is free."""
    rng = np.random.default_rng(seed)
    heads, tokens, batch = int(rng.integers(1, 5)), int(rng.integers(1, 130)), int(rng.integers(1, 4))
    head_dim = 8 * int(rng.integers(1, 12))
    levels = np.arange(16, dtype=np.uint8)
    p_groups = probability_table(rng, 16, 3)
    scale = float(head_dim**-0.5)
    if in_blocks:
        node = block_attention_node(p_groups, levels, num_heads=heads, scale=scale, qk_bits=5, v_bits=4, block=8)
    else:
        tables = [random_table(rng, "bytes", 6, 4) for _ in range(3)]
        node = attention_node([*tables, p_groups], levels, num_heads=heads, scale=scale, bits=6)
    feeds = {"QKV": rng.normal(size=(batch, tokens, 3 * heads * head_dim)).astype(F32)}
    node, feeds = in_half(node, feeds, half)
    want, got = both(node, cuda_library, feeds)
    assert np.mean(got != want) < 0.01
    np.testing.assert_allclose(got, want, rtol=0, atol=0.2 * float(np.abs(want).max()) + 1e-6)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("mode", [*MODES, "blocks"])
def test_captured_as_a_graph(cuda_library: str, mode: str, half: bool) -> None:
    """Nothing waits and nothing is allocated once it ran: the runtime captures a run and repeats it on new inputs."""
    node, feeds = in_half(*linear_case(mode, 7), half)
    dtype = feeds["X"].dtype
    captured = session(node, cuda_library, (PROVIDER, {"enable_cuda_graph": "1"}))
    x = onnxruntime.OrtValue.ortvalue_from_numpy(feeds["X"], "cuda", 0)
    shape = (*feeds["X"].shape[:-1], len(node.constants["bias"]))
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype), "cuda", 0)
    binding = captured.io_binding()
    binding.bind_ortvalue_input("X", x)
    binding.bind_ortvalue_output("Y", y)
    plain = session(node, cuda_library, "CPUExecutionProvider")
    for factor in (1.0, 0.5, -2.0):
        values = (feeds["X"] * dtype.type(factor)).astype(dtype)
        x.update_inplace(values)
        captured.run_with_iobinding(binding)
        np.testing.assert_array_equal(y.numpy(), plain.run(None, {"X": values})[0])
