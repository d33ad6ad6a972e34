"""Measurements on a Ray cluster: on other machines, or on the cores of this one."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any

from qcompiler.errors import OptionError
from qcompiler.relevance.executors import Result, Shared, Task, Transport, in_flight


class RayExecutor:
    """Tasks of a Ray cluster, one core each.

    The cluster is the one that ``RAY_ADDRESS`` names; qcompile must be installed on its machines. Without that
    variable one is started on this machine at the first run, which takes seconds, and stopped by :meth:`close`. A Ray
    that the process already uses is used as it is. What tasks share travels once to each machine, through Ray's object
    store.

    Args:
        workers: Cores of a cluster that is started here.
    """

    transport = Transport.OBJECTS

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._connected = False

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task]
    ) -> Generator[tuple[int, Result], None, None]:
        """See :class:`qcompiler.relevance.executors.Executor`."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        self._connect()
        remote, held = ray.remote(num_cpus=1, max_retries=1)(function), ray.put(shared)
        pending: set[Any] = set()  # no longer than needed: Ray keeps the arguments of every task that is referred to

        def submit(task: Task) -> Future[Result]:
            sent = remote.remote(held, task)
            pending.add(sent)
            future: Future[Result] = sent.future()
            future.add_done_callback(lambda _: pending.discard(sent))
            return future

        limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            yield from in_flight(tasks, limit, submit)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise OptionError(
                f"a worker of the Ray cluster failed ({str(error).splitlines()[0]}): use fewer workers, or the "
                "executor 'processes'"
            ) from error
        finally:
            for sent in list(pending):
                ray.cancel(sent)

    def close(self) -> None:
        """Leave the cluster, and stop it if it was started here."""
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
        address = os.environ.get("RAY_ADDRESS")
        try:
            if address:
                _knock(address)
                ray.init(address="auto", **quiet)
            else:
                # A compiler reports to nobody: Ray counts its uses by default.
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                ray.init(address="local", num_cpus=self._workers, include_dashboard=False, **quiet)
        except Exception as error:  # of no narrower class where a node does not start in time
            failed = f"the Ray cluster at RAY_ADDRESS={address} cannot be reached" if address else "Ray cannot start"
            first = "start the cluster, unset RAY_ADDRESS, or " if address else ""
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise OptionError(f"{failed} ({reason}): {first}choose the executor 'processes'") from error
        self._connected = True


def _knock(address: str) -> None:
    """Raise OSError at once where nobody listens: Ray itself goes on trying for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
