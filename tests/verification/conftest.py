"""Written models to tamper with."""

import onnx
import pytest

from qcompiler.driver import compile_model

from ..driver.runs import fast
from ..driver.tiny import save


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A float model, its calibration data, and what it is compiled to; tests do not write there."""
    place = tmp_path_factory.mktemp("verification")
    source = save(place)
    made = {
        "blocks": {},
        "groups": {"method": "igq"},
        "readable": {"stop_after": "quantize"},
        "bytes": {"bits": "w8a8"},
    }
    for name, options in made.items():
        fixed = {"bits": "w4a4", "effort": "low", "executor": "inline", **options}
        compile_model(source, fast(**fixed), output=place / f"{name}.onnx")
    return place


@pytest.fixture
def tampered(folder, tmp_path):
    """Writes a changed copy: tampered(change, name="blocks") -> its path; `change` edits the model in place."""

    def write(change, name="blocks"):
        model = onnx.load(folder / f"{name}.onnx")
        change(model)
        path = tmp_path / "tampered.onnx"
        onnx.save(model, path)
        return path

    return write
