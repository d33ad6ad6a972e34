"""The compiler works without torch, timm and scikit-learn."""

import subprocess
import sys

CODE = """
import sys
for name in ("torch", "torchvision", "timm", "sklearn", "safetensors", "onnxscript"):
    sys.modules[name] = None  # importing it fails
import qcompiler.models.atomic, qcompiler.models.digits, qcompiler.models.digits_vit
import qcompiler.models.exporters, qcompiler.models.extras, qcompiler.models.torch_onnx
import qcompiler.models.cifar10
import qcompiler.calibration.readers, qcompiler.calibration.labelled
import qcompiler.evaluation.accuracy, qcompiler.evaluation.agreement, qcompiler.evaluation.latency
from qcompiler.errors import OptionError
for call in (
    lambda: qcompiler.models.exporters.export("timm:vit_tiny_patch16_224", "m.onnx"),
    lambda: qcompiler.models.digits.make("."),
    lambda: qcompiler.models.cifar10.build("swin"),
):
    try:
        call()
    except OptionError as error:
        print(error)
"""


def test_modules_import_without_the_extras():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 3
    assert all("pip install 'qcompile[models]'" in line for line in lines)


def test_the_folder_of_the_checkout_is_not_imported_directly():
    code = (
        "import importlib.util, qcompiler.models as m; s = importlib.util.spec_from_file_location('models', m.__file__)"
    )
    code += "; s.loader.exec_module(importlib.util.module_from_spec(s))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "import qcompiler.models" in done.stderr.splitlines()[-1]
