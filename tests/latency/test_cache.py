"""The cache of measured times: found again by the same machine only, and never a reason to fail."""

import json
from dataclasses import fields, replace

import pytest

from qcompiler.latency.cache import LatencyCache, cache_folder
from qcompiler.latency.machine import Machine


def test_what_is_added_is_found_by_the_next_process(machine, tmp_path):
    LatencyCache(machine, tmp_path).add("ratios", {"a": 0.5, "b": 1.23456789})
    LatencyCache(machine, tmp_path).add("shares", {"a": 0.25})
    found = LatencyCache(machine, tmp_path)
    assert found.get("ratios", "a") == 0.5
    assert found.get("ratios", "b") == 1.23457
    assert found.get("shares", "a") == 0.25
    assert found.get("shares", "b") is None


def test_the_writer_sees_the_rounded_value_too(machine, tmp_path):
    """Else the first compilation would differ from the second."""
    cache = LatencyCache(machine, tmp_path)
    cache.add("ratios", {"a": 1 / 3})
    assert cache.get("ratios", "a") == LatencyCache(machine, tmp_path).get("ratios", "a") == 0.333333


@pytest.mark.parametrize("field", [field.name for field in fields(Machine)])
def test_another_machine_finds_nothing(machine, tmp_path, field):
    LatencyCache(machine, tmp_path).add("ratios", {"a": 0.5})
    changed = 2 if field == "threads" else "another"
    other = LatencyCache(replace(machine, **{field: changed}), tmp_path)
    assert other.get("ratios", "a") is None
    other.add("ratios", {"a": 0.75})
    assert LatencyCache(machine, tmp_path).get("ratios", "a") == 0.5
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_of_another_machine_under_this_name_is_not_read(machine, tmp_path):
    cache = LatencyCache(machine, tmp_path)
    other = LatencyCache(replace(machine, processor="Other"), tmp_path)
    other.add("ratios", {"a": 0.5})
    other.path.rename(cache.path)
    assert LatencyCache(machine, tmp_path).get("ratios", "a") is None


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '{"format": 1}', "\x00\xff"])
def test_a_broken_file_is_the_same_as_none(machine, tmp_path, content):
    path = LatencyCache(machine, tmp_path).path
    path.write_bytes(content.encode("latin-1"))
    cache = LatencyCache(machine, tmp_path)
    assert cache.get("ratios", "a") is None
    cache.add("ratios", {"a": 0.5})
    assert LatencyCache(machine, tmp_path).get("ratios", "a") == 0.5


@pytest.mark.parametrize("wrong", [-1.0, 0, "0.5", None, True, float("nan"), float("inf"), [1]])
def test_values_that_are_no_times_are_left_out(machine, tmp_path, wrong):
    cache = LatencyCache(machine, tmp_path)
    cache.add("ratios", {"good": 0.5})
    content = json.loads(cache.path.read_text("utf-8"))
    content["ratios"]["bad"] = wrong
    cache.path.write_text(json.dumps(content), "utf-8")
    found = LatencyCache(machine, tmp_path)
    assert (found.get("ratios", "good"), found.get("ratios", "bad")) == (0.5, None)


def test_two_processes_end_up_with_the_same(machine, tmp_path):
    """What was written first stays; nothing of the other one is lost."""
    first, second = LatencyCache(machine, tmp_path), LatencyCache(machine, tmp_path)
    first.add("ratios", {"a": 0.5, "b": 0.6})
    second.add("ratios", {"b": 0.7, "c": 0.8})
    assert [second.get("ratios", key) for key in "abc"] == [0.5, 0.6, 0.8]
    again = LatencyCache(machine, tmp_path)
    assert [again.get("ratios", key) for key in "abc"] == [0.5, 0.6, 0.8]
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]  # and no half-written file


def test_a_folder_that_cannot_be_written_is_no_error(machine, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    cache = LatencyCache(machine, tmp_path / "file" / "folder")
    cache.add("ratios", {"a": 0.5})
    assert cache.get("ratios", "a") == 0.5


def test_where_the_file_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("QCOMPILER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / ".cache" / "qcompile"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "qcompile"
    monkeypatch.setenv("QCOMPILER_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
