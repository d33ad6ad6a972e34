"""Where independent measurements run: in this process, in several processes, or on a Ray cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from enum import Enum
from functools import partial
from importlib.util import find_spec
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Protocol, TypeVar

from qcompiler.errors import OptionError

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

EXECUTORS = ("inline", "processes", "ray")


class Transport(Enum):
    """How the values that all tasks share reach them best."""

    SAME_PROCESS = "as they are"
    FILES = "in files that processes of this machine map"
    OBJECTS = "in memory, sent to machines that see no file of this one"


class Executor(Protocol):
    """Runs tasks that do not depend on each other.

    Attributes:
        transport: How ``shared`` should hold large arrays.
    """

    transport: Transport

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task]
    ) -> Generator[tuple[int, Result], None, None]:
        """Run ``function(shared, task)`` for every task.

        Args:
            function: A function of a module.
            shared: Sent once to each worker.
            tasks: Read from this thread, only a few ahead of the workers.

        Yields:
            The number of a task and its result, in the order in which tasks finish.

        Raises:
            OptionError: Workers cannot be started, or one died.
            Exception: What a task raised, unchanged. The tasks that still run are given up then, as they are when the
                generator is closed early.
        """

    def close(self) -> None:
        """Give back what outlives a run."""


def make_executor(name: str, workers: int = 0) -> Executor:
    """The executor of this name.

    Args:
        name: One of ``EXECUTORS``.
        workers: Tasks at a time; 0 for one per core. A running Ray cluster decides for itself.

    Raises:
        OptionError: The name is unknown, the number is negative, or Ray is not installed.
    """
    if workers < 0:
        raise OptionError(f"the number of workers is {workers}; give 1 or more, or 0 for one per core")
    count = workers or os.cpu_count() or 1
    if name == "inline":
        return InlineExecutor()
    if name == "processes":
        return ProcessExecutor(count)
    if name == "ray":
        if find_spec("ray") is None:
            raise OptionError("the executor 'ray' needs Ray: pip install 'qcompile[ray]', or choose 'processes'")
        from qcompiler.relevance.ray_executor import RayExecutor  # it imports this module

        return RayExecutor(count)
    raise OptionError(f"the executor '{name}' is unknown; choose one of {', '.join(EXECUTORS)}")


class InlineExecutor:
    """One task after the other in this process."""

    transport = Transport.SAME_PROCESS

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task]
    ) -> Generator[tuple[int, Result], None, None]:
        """See :class:`Executor`."""
        for index, task in enumerate(tasks):
            yield index, function(shared, task)

    def close(self) -> None:
        """Nothing outlives a run."""


class ProcessExecutor:
    """Worker processes of this machine, started for each run.

    They are started afresh (``spawn``), because a forked copy of a process whose libraries have threads may hang. A
    script that uses them therefore starts its work below ``if __name__ == "__main__":``.

    Args:
        workers: Most processes.
    """

    transport = Transport.FILES

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task]
    ) -> Generator[tuple[int, Result], None, None]:
        """See :class:`Executor`."""
        context = _RecordingSpawn()
        pool = ProcessPoolExecutor(self._workers, context, _start_worker, (function, shared))
        finished = False
        try:
            yield from in_flight(tasks, 2 * self._workers, lambda task: pool.submit(_run_task, task))
            finished = True
        except BrokenProcessPool as error:
            raise OptionError(
                "a worker process ended before its task was done: out of memory (use fewer workers or the executor "
                "'inline'), or a script without `if __name__ == '__main__':` around its work"
            ) from error
        finally:
            if not finished:
                context.terminate()
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Nothing outlives a run."""


def in_flight(
    tasks: Iterable[Task], limit: int, submit: Callable[[Task], Future[Result]]
) -> Generator[tuple[int, Result], None, None]:
    """Results as they come, with at most ``limit`` tasks submitted and not yet done."""
    numbered = enumerate(tasks)
    pending: dict[Future[Result], int] = {}
    while True:
        while len(pending) < limit and (item := next(numbered, None)) is not None:
            pending[submit(item[1])] = item[0]
        if not pending:
            return
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            yield pending.pop(future), future.result()


class _Worker(SpawnProcess):
    """A process that Ctrl-C does not reach, from its first instruction: the parent ends its workers."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the new process
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _RecordingSpawn(SpawnContext):
    """Remembers the processes it makes: a pool offers no way to end workers in the middle of a task."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[_Worker] = []

    def Process(self, *args: Any, **kwargs: Any) -> _Worker:  # type: ignore[override]  # noqa: N802
        self._made.append(_Worker(*args, **kwargs))
        return self._made[-1]

    def terminate(self) -> None:
        for process in self._made:
            if process.is_alive():
                process.kill()  # a worker that is still starting may not take a milder signal


_work: Callable[[Any], Any] | None = None
"""What a worker process does with a task."""


def _start_worker(function: Callable[[Shared, Task], Result], shared: Shared) -> None:
    global _work
    _work = partial(function, shared)


def _run_task(task: Any) -> Any:
    assert _work is not None
    return _work(task)
