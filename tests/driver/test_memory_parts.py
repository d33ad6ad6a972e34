"""Parts: every layer once, in order, within the limit unless a layer alone is above it."""

from hypothesis import given
from hypothesis import strategies as st

from qcompiler.driver.memory_parts import memory_parts


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(0, 40))
def test_parts(sizes, limit):
    named = {f"layer {index}": size for index, size in enumerate(sizes)}
    parts = list(memory_parts(named, limit))
    assert [name for part in parts for name in part] == list(named)
    held = [sum(named[name] for name in part) for part in parts]
    assert all(bytes_held <= limit or len(part) == 1 for part, bytes_held in zip(parts, held, strict=True))
    # No part ends earlier than it must.
    assert all(bytes_held + named[after[0]] > limit for bytes_held, after in zip(held, parts[1:], strict=False))


def test_no_layers():
    assert list(memory_parts({}, 10)) == []
