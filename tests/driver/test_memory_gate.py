"""Work in threads stays within a bound of bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.driver.memory_gate import MemoryGate


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 100), st.lists(st.integers(0, 120), min_size=1, max_size=30))
def test_the_bound_is_kept(limit, sizes):
    gate, lock, held, seen = MemoryGate(limit), threading.Lock(), [], []

    def work(size):
        with gate.hold(size):
            with lock:
                held.append(size)
                seen.append(list(held))
            with lock:
                held.remove(size)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, sizes))
    assert len(seen) == len(sizes)
    for together in seen:
        needed = [size for size in together if size]
        assert sum(needed) <= limit or len(needed) == 1


def test_what_fits_runs_side_by_side():
    """Each waits for the other inside: one after the other they would wait for ever."""
    gate, together = MemoryGate(10), threading.Barrier(2, timeout=30)

    def work(_):
        with gate.hold(5):
            return together.wait()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(work, range(2))) == [0, 1]


def test_a_failure_gives_its_bytes_back():
    gate = MemoryGate(10)
    with pytest.raises(ValueError, match="inside"), gate.hold(20):
        raise ValueError("inside")
    entered = threading.Event()

    def work():
        with gate.hold(10):
            entered.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert entered.wait(30)
