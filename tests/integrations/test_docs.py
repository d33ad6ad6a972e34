"""The blocks of docs/export.md that need torch, timm or Olive; the others are run with all of the documentation."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler.errors import OptionError
from qcompiler.models.extras import require_timm
from tests.docs.blocks import CHECKOUT, blocks_of

PAGE = "docs/export.md"
# timm beside a torchvision of another build than torch, as qcompile's own exporters import it.
TIMM = "from qcompiler.models.extras import require_timm; require_timm('the documentation')\n"
BLOCKS = [block for block in blocks_of(PAGE) if block.title.startswith("run by tests/integrations")]


def _workflow() -> str:
    (block,) = (block for block in blocks_of(PAGE) if block.title == "workflow.json")
    return block.text


def test_all_are_known():
    assert [block.title.rpartition(": ")[2] for block in BLOCKS] == ["python", "bash", "bash"]


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {block.line}")
def test_run(block, tmp_path):
    if "olive" in block.text:
        if importlib.util.find_spec("olive") is None:
            pytest.skip("Microsoft Olive is not installed (pip install olive-ai)")
    else:
        try:
            require_timm("the documentation")
        except OptionError as error:
            pytest.skip(str(error))
    (tmp_path / "models").mkdir()
    for name in ("digits_vit.onnx", "digits_vit.calib.npz"):
        shutil.copy(CHECKOUT / "models" / name, tmp_path / "models" / name)
    (tmp_path / "workflow.json").write_text(_workflow())
    environment = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    python = [sys.executable, "-c", TIMM + block.text]
    words = python if block.title.endswith("python") else ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("vit.onnx")) or list((tmp_path / "optimised").rglob("*.onnx"))
