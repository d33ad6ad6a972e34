"""Executors: every result, every error, and no process left behind.

Tasks are Python text for `eval` and `exec`: functions that every worker knows.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import OptionError
from qcompiler.relevance import executors
from qcompiler.relevance.executors import EXECUTORS, InlineExecutor, ProcessExecutor, in_flight, make_executor
from qcompiler.relevance.ray_executor import RayExecutor

ALL = [InlineExecutor(), ProcessExecutor(2)]


@pytest.mark.parametrize("executor", ALL, ids=["inline", "processes"])
def test_every_result(executor):
    tasks = ({"x": x} for x in range(7))
    assert sorted(executor.run(eval, "10 * x", tasks)) == [(x, 10 * x) for x in range(7)]
    assert not multiprocessing.active_children()


def test_no_task():
    for executor in ALL:
        assert list(executor.run(eval, "1", [])) == []


def test_tasks_run_in_other_processes():
    found = dict(ProcessExecutor(2).run(eval, "__import__('os').getpid()", [{}] * 4))
    assert os.getpid() not in found.values()
    assert 1 <= len(set(found.values())) <= 2


@pytest.mark.parametrize("executor", ALL, ids=["inline", "processes"])
def test_an_error_of_a_task(executor):
    tasks = [{"x": x} for x in (1, 0, 2)]
    with pytest.raises(ZeroDivisionError, match="by zero"):
        list(executor.run(eval, "1 // x", tasks))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("executor", ALL, ids=["inline", "processes"])
def test_an_error_of_the_tasks_themselves(executor):
    def tasks():
        yield {"x": 1}
        raise KeyError("no such layer")

    with pytest.raises(KeyError, match="no such layer"):
        list(executor.run(eval, "1 // x", tasks()))


def test_a_task_that_does_not_pickle():
    with pytest.raises(Exception, match=r"(?i)pickle|local object"):
        list(ProcessExecutor(1).run(eval, "f(1)", [{"f": lambda x: x}]))
    assert not multiprocessing.active_children()


def test_a_worker_that_dies():
    with pytest.raises(OptionError, match=r"a worker process ended .* fewer workers"):
        list(ProcessExecutor(2).run(exec, "import os; os._exit(3)", [{}, {}]))


def test_an_iterator_that_is_closed_ends_running_tasks(tmp_path):
    late = tmp_path / "late"
    work = f"import time\ntime.sleep(wait)\nif wait: open({str(late)!r}, 'w').close()"
    running = ProcessExecutor(2).run(exec, work, [{"wait": 0}, {"wait": 30}])
    assert next(running) == (0, None)
    running.close()
    assert not multiprocessing.active_children()
    assert not late.exists()  # the second task was not waited for


def group_exists(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_interrupt_leaves_no_process():
    script = (
        # A job in the background of a shell starts with SIGINT ignored, and so would everything below it.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from qcompiler.relevance.executors import ProcessExecutor\n"
        "work = 'import time\\ntime.sleep(wait)'\n"
        "for done in ProcessExecutor(2).run(exec, work, [{'wait': 0}, {'wait': 60}, {'wait': 60}]):\n"
        "    print(done, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as started:
        assert started.stdout.readline() == "(0, None)\n"
        os.killpg(started.pid, signal.SIGINT)  # as Ctrl-C does
        _, messages = started.communicate(timeout=50)
    assert messages.rstrip().endswith("KeyboardInterrupt")
    assert messages.count("Traceback") == 1  # that of the parent: workers say nothing
    deadline = time.monotonic() + 60
    while group_exists(started.pid):  # Python's own helper process follows its parent a moment later
        assert time.monotonic() < deadline
        time.sleep(0.05)


@given(st.integers(0, 12), st.integers(1, 5), st.randoms(use_true_random=False))
def test_in_flight(count, limit, random):
    """Every task once, never more than the limit submitted and unfinished."""
    open_tasks, read = {}, []

    def tasks():
        for number in range(count):
            read.append(number)
            yield number

    def submit(task):
        future = Future()
        open_tasks[task] = future
        assert len(open_tasks) <= limit
        if len(open_tasks) == limit or task == count - 1:  # the caller would wait: finish some
            for name in random.sample(sorted(open_tasks), random.randint(1, len(open_tasks))):
                open_tasks.pop(name).set_result(-name)
            if task == count - 1:
                for name in list(open_tasks):
                    open_tasks.pop(name).set_result(-name)
        return future

    found = list(in_flight(tasks(), limit, submit))
    assert sorted(found) == [(number, -number) for number in range(count)]


def test_names():
    assert EXECUTORS == ("inline", "processes", "ray")
    assert isinstance(make_executor("inline"), InlineExecutor)
    assert isinstance(make_executor("processes", 3), ProcessExecutor)
    with pytest.raises(OptionError, match="'threads' is unknown; choose one of inline, processes, ray"):
        make_executor("threads")
    with pytest.raises(OptionError, match="workers is -1"):
        make_executor("processes", -1)


@pytest.mark.parametrize("installed", [True, False])
def test_ray_is_an_extra(monkeypatch, installed):
    monkeypatch.setattr(executors, "find_spec", lambda name: object() if installed else None)
    if installed:
        assert isinstance(make_executor("ray", 2), RayExecutor)
    else:
        with pytest.raises(OptionError, match=r"pip install 'qcompile\[ray\]'"):
            make_executor("ray", 2)
