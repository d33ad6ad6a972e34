"""A command line whose compilation is a fake, and small models to point it at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler import driver
from qcompiler.cli import main
from tests.report.samples import REPORT, float_model
from tests.report.search_samples import SEARCH


@dataclass
class FakeDriver:
    """Records what it is asked to compile."""

    calls: list[SimpleNamespace] = field(default_factory=list)
    report: Any = REPORT
    error: BaseException | None = None

    def compile_model(self, model, options=None, calibration=None, *, preprocessing=None, output=None, progress=None):
        call = {"model": model, "options": options, "calibration": calibration, "preprocessing": preprocessing}
        self.calls.append(SimpleNamespace(**call, output=output, progress=progress))
        if self.error is not None:
            raise self.error
        progress.stage("calibrate", 2)
        progress.advance()
        return SimpleNamespace(model=None, report=self.report, search=SEARCH)


@pytest.fixture
def fake(monkeypatch):
    """The compilation replaced; nothing is written."""
    made = FakeDriver()
    monkeypatch.setattr(driver, "compile_model", made.compile_model)
    return made


@pytest.fixture
def cli(capsys):
    """Runs a command line in this process: (words) -> code, out, err."""

    def run(*words: object) -> SimpleNamespace:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def model(tmp_path):
    """A small float model's file."""
    path = tmp_path / "m.onnx"
    onnx.save(float_model(), path)
    return path


@pytest.fixture
def other(tmp_path):
    """A model with other weights and the same inputs."""
    path = tmp_path / "other.onnx"
    onnx.save(float_model(seed=1), path)
    return path


@pytest.fixture
def labelled(tmp_path):
    """20 labelled inputs of those models."""
    draw = np.random.default_rng(0)
    path = tmp_path / "held_out.npz"
    np.savez(path, x=draw.standard_normal((20, 1, 2, 2)).astype(np.float32), labels=draw.integers(0, 3, 20))
    return path


@pytest.fixture
def warned(fake):
    """The fake compilation's report with a warning."""
    fake.report = replace(REPORT, warnings=("no calibration data: synthetic images",))
    return fake
