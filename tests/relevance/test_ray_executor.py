"""A cluster of two workers on this machine."""

import os
import socket
from functools import partial

import numpy as np
import pytest

from qcompiler.errors import OptionError
from qcompiler.relevance.executors import InlineExecutor
from qcompiler.relevance.jobs import SensitivityJob, Variant
from qcompiler.relevance.ray_executor import RayExecutor
from qcompiler.relevance.sensitivity import SensitivityProbe
from qcompiler.relevance.suffix import Operand

from .models import OPERANDS, constant, images, model

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'qcompile[ray]'")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        executor = RayExecutor(2)
        yield executor
        executor.close()
    assert not ray.is_initialized()


# Functions inside functions: Ray sends their code, where a test module is unknown to its workers.
def test_every_result_from_another_process(cluster):
    def work(shared, task):
        return os.getpid(), float(shared["x"].sum()) * task

    found = dict(cluster.run(work, {"x": np.ones(10**6, np.float32)}, iter(range(9))))
    assert {index: value for index, (_, value) in found.items()} == {task: 1e6 * task for task in range(9)}
    assert os.getpid() not in {process for process, _ in found.values()}


def test_an_error_of_a_task(cluster):
    def work(shared, task):
        raise OptionError(f"no {task}")

    with pytest.raises(OptionError, match=r"^no 1$") as caught:
        list(cluster.run(work, None, [1]))
    assert type(caught.value) is OptionError


def test_a_worker_that_dies(cluster):
    def work(shared, task):
        os._exit(1)

    with pytest.raises(OptionError, match="a worker of the Ray cluster failed"):
        list(cluster.run(work, None, [1]))


def test_measures_what_one_process_measures(cluster):
    made, feeds = model(), images(3)
    variants = (Variant(partial(np.multiply, np.float32(0.5))), Variant(None, np.round(constant(made, "w2"))))
    jobs = [
        SensitivityJob("second", Operand(*OPERANDS["second linear"]), "w2", "d", variants),
        SensitivityJob("product", Operand(*OPERANDS["left of a product"]), None, "m", variants[:1]),
    ]
    for byte_limit in (2**30, 0):
        with SensitivityProbe(
            made, feeds, [job.operand for job in jobs], 1, byte_limit, transport=cluster.transport
        ) as probe:
            assert probe.measure(jobs, cluster) == probe.measure(jobs, InlineExecutor())


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there(monkeypatch, scheme):
    """The user hears of it at once, from a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        with pytest.raises(OptionError, match=rf"RAY_ADDRESS={address} cannot be reached \(.*refused\): start the"):
            list(RayExecutor(1).run(eval, "1", [{}]))


def test_a_cluster_that_lets_nobody_in(monkeypatch):
    def refused(address, **options):
        raise ConnectionError(f"no entry to {address}\nand more")

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refused)
    with pytest.raises(OptionError, match=r"RAY_ADDRESS=auto cannot be reached \(no entry to auto\): start the"):
        list(RayExecutor(1).run(eval, "1", [{}]))
