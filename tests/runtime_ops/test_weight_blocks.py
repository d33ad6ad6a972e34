"""The input `w_blocks` of the grouped operators: a multiplier and a zero point per block of weights and output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import reference
from .nodes import (
    F32,
    MODES,
    WIDEST,
    divisors,
    linear_node,
    one_group,
    plain_blocks,
    random_blocks,
    random_table,
    random_weight,
)

PROPERTY = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@PROPERTY
@given(
    seed=st.integers(0, 2**31),
    mode=st.sampled_from(sorted(MODES)),
    tokens=st.integers(1, 20),
    channels=st.integers(1, 120),
    outputs=st.integers(1, 50),
    bits=st.integers(2, 8),
    int4=st.booleans(),
    data=st.data(),
)
def test_definition(
    cpu_path: str,
    seed: int,
    mode: str,
    tokens: int,
    channels: int,
    outputs: int,
    bits: int,
    int4: bool,
    data: st.DataObject,
) -> None:
    """Any number of blocks that divides the channels, any byte: the same bits as the definition."""
    rng = np.random.default_rng(seed)
    axis, segments = MODES[mode]
    bits = min(bits, WIDEST[mode])
    rest = {
        "weight": random_weight(rng, channels, outputs, int4),
        "w_scale": rng.uniform(0.001, 0.02, outputs).astype(F32),
        "w_blocks": random_blocks(rng, data.draw(st.sampled_from(divisors(channels))), outputs),
        "groups": random_table(rng, mode, bits, 4),
        "bias": rng.normal(size=outputs).astype(F32),
        "bits": bits,
        "axis": axis,
        "segments": segments,
    }
    x = rng.normal(size=(2, tokens, channels)).astype(F32)
    y = linear_node(**rest, int4=int4).run({"X": x})
    np.testing.assert_array_equal(y, reference.linear(x, **rest)[0])


@pytest.mark.parametrize("int4", [False, True])
def test_every_byte(cpu_path: str, int4: bool) -> None:
    """One output per byte and identity activations: the outputs are the operands of the weights themselves."""
    weights = np.arange(-8, 8) if int4 else np.array([-128, -127, -64, -20, -9, -1, 0, 1, 8, 9, 20, 64, 100, 118, 127])
    blocks = np.arange(16, 256, dtype=np.uint8)
    w = np.repeat(weights[:, None], len(blocks), axis=1).astype(np.int8)
    x = np.eye(len(weights), dtype=F32)[None]
    y = linear_node(w, one_group(), w_blocks=blocks[None], int4=int4).run({"X": x})
    expected = [
        [max(-127, min(127, (b >> 4) * (v - ((b & 15) - 8)))) for b in range(16, 256)] for v in weights.tolist()
    ]
    np.testing.assert_array_equal(y[0], expected)


def test_blocks_are_runs_of_channels(cpu_path: str) -> None:
    """Six channels in three blocks of two; interleaved blocks would give other multipliers."""
    multipliers = np.array([[1, 2], [3, 4], [5, 6]])
    y = linear_node(np.ones((6, 2), np.int8), one_group(), w_blocks=(multipliers << 4 | 8).astype(np.uint8)).run(
        {"X": np.eye(6, dtype=F32)[None]}
    )
    np.testing.assert_array_equal(y[0], np.repeat(multipliers, 2, axis=0))


@pytest.mark.parametrize("mode", MODES)
def test_plain_weights_in_many_blocks(cpu_path: str, mode: str) -> None:
    """Multiplier 1 and zero point 0 change nothing, however many blocks say so."""
    rng = np.random.default_rng(1)
    axis, segments = MODES[mode]
    rest = {"groups": random_table(rng, mode, 4, 3), "bits": 4, "axis": axis, "segments": segments}
    w = random_weight(rng, 24, 9, True)
    feeds = {"X": rng.normal(size=(2, 5, 24)).astype(F32)}
    expected = linear_node(w, **rest, int4=True).run(feeds)
    many = np.repeat(plain_blocks(9), 8, axis=0)
    np.testing.assert_array_equal(linear_node(w, **rest, int4=True, w_blocks=many).run(feeds), expected)


@pytest.mark.parametrize("mode", MODES)
def test_transformer_size(cpu_path: str, mode: str) -> None:
    """197 tokens, 192 -> 576 in blocks of 32, with operands at the limit."""
    rng = np.random.default_rng(2)
    axis, segments = MODES[mode]
    rest = {
        "weight": random_weight(rng, 192, 576, True),
        "w_scale": rng.uniform(0.001, 0.02, 576).astype(F32),
        "w_blocks": random_blocks(rng, 6, 576),
        "groups": random_table(rng, mode, 4, 8),
        "bias": rng.normal(size=576).astype(F32),
        "bits": 4,
        "axis": axis,
        "segments": segments,
    }
    x = rng.normal(size=(1, 197, 192)).astype(F32)
    y = linear_node(**rest, int4=True).run({"X": x})
    np.testing.assert_array_equal(y, reference.linear(x, **rest)[0])
