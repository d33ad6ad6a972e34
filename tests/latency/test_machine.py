"""What measured times are kept by."""

import json

import pytest

from qcompiler import runtime_ops
from qcompiler.errors import RuntimeLibraryError
from qcompiler.latency import machine
from qcompiler.latency.machine import this_machine


def test_of_this_process(library):
    found = this_machine(1)
    assert found.threads == 1
    assert found.processor
    assert found.path in {path.name for path in runtime_ops.cpu_paths() if path.detected} | {"reference"}
    assert found.library.startswith(runtime_ops.library_version())
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


def test_the_path_is_the_active_one(library):
    try:
        runtime_ops.select_cpu_path("reference")
        assert this_machine(1).path == "reference"
    finally:
        runtime_ops.select_cpu_path(None)


def test_the_processor_is_named_as_the_system_names_it(library, tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Abacus 9000 @ 1 Hz: fast\nmodel name\t: Other\n", "utf-8")
    monkeypatch.setattr(machine, "_CPU_INFO", file)
    assert this_machine(1).processor == "Abacus 9000 @ 1 Hz: fast"
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "none")
    assert this_machine(1).processor


def test_without_the_library_there_is_nothing_to_time(monkeypatch, tmp_path):
    monkeypatch.setenv("QCOMPILER_LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(RuntimeLibraryError, match="--latency-budget times the operators"):
        this_machine(1)
