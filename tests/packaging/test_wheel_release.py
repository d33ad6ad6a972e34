"""The wheel as it is released: `python -m build`, what auditwheel says about it, and a first use without a compiler."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from .conftest import CHECKOUT, Build

LIBRARY = "qcompiler/runtime_ops/libqcompiler_ops.so"
X86_PATHS = {"reference", "portable", "ssse3", "avx2", "avxvnni", "avx512vnni", "amx"}
ARM_COMPILER = "aarch64-linux-gnu-g++"
# A model that is run with the library holds packed weights there; without it there are none.
FIRST_USE = """
import json, sys
import numpy as np, onnxruntime
import qcompiler
from qcompiler import runtime_ops
from qcompiler.runtime_ops.library import packed_bytes
options = onnxruntime.SessionOptions()
options.register_custom_ops_library(str(runtime_ops.library_path()))
session = onnxruntime.InferenceSession(sys.argv[1], options)
data = np.load(sys.argv[2])
(name,) = (item.name for item in session.get_inputs())
(logits,) = session.run(None, {name: data[name]})
print(json.dumps({
    "package": qcompiler.__file__,
    "library": str(runtime_ops.library_path()),
    "packed": packed_bytes(),
    "paths": [path.name for path in runtime_ops.cpu_paths() if path.built],
    "top1": float((logits.argmax(1) == data["labels"]).mean()),
}))
"""


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed (pip install {module})")


@pytest.fixture(scope="module")
def released(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `python -m build` makes of the unpacked source archive.

    Compiled objects are lent to it: they are named after the contents of all sources and headers, so an archive that
    lacks one of these cannot use them.
    """
    needs("build")
    folder = tmp_path_factory.mktemp("release")
    archive = Build(source_tree, folder / "sdist", "sdist")
    assert archive.done.returncode == 0, archive.done.stderr
    with tarfile.open(archive.files[0]) as opened:
        opened.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    if (CHECKOUT / "build" / "native").is_dir():
        shutil.copytree(CHECKOUT / "build" / "native", source / "build" / "native")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "wheel"), str(source)],
        cwd=folder,
        env=os.environ | {"QCOMPILER_NATIVE": "", "QCOMPILER_CUDA": "off"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "wheel").iterdir()
    if wheel.name.endswith("-any.whl"):
        pytest.skip("the operator library was not built: no compiler or no headers of ONNX Runtime")
    return wheel


def test_tag_and_contents(released: Path) -> None:
    """Any Python 3; the C library's version in the name; the same tag inside; the library and nothing native else."""
    tag = re.fullmatch(r"qcompile-[^-]+-(py3-none-manylinux_2_\d+_\w+)\.whl", released.name)
    assert tag, released.name
    with zipfile.ZipFile(released) as archive:
        libraries = {name for name in archive.namelist() if name.endswith(".so")}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        text = archive.read(metadata).decode()
    assert libraries - {"qcompiler/runtime_ops/libqcompiler_ops_cuda.so"} == {LIBRARY}
    assert f"Tag: {tag[1]}\n" in text and "Root-Is-Purelib: false" in text


def test_auditwheel_accepts_it(released: Path) -> None:
    """It finds no newer symbol than the name says, and no library that is not part of every Linux."""
    needs("auditwheel")
    command = [sys.executable, "-m", "auditwheel", "show", "--json", "--disable-isa-ext-check", str(released)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = re.search(r"manylinux_2_(\d+)_", json.dumps(report))
    assert found, report
    (claimed,) = re.findall(r"manylinux_2_(\d+)_", released.name)
    versions = [int(version) for version in re.findall(r"GLIBC_2\.(\d+)", json.dumps(report))]
    assert versions and max(versions) == int(claimed), report


@pytest.fixture(scope="module")
def bare(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel alone; what it depends on comes from this environment's packages."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, str(released)], check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # behind the environment's own
    return folder


def test_first_use_without_a_compiler(bare: Path, tmp_path: Path) -> None:
    """The shipped model is compiled by the command of the wheel and runs on the library of the wheel."""
    (models,) = bare.glob("lib/python*/site-packages/qcompiler/models")
    environment = {"PATH": str(bare / "bin"), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    assert not any(shutil.which(name, path=environment["PATH"]) for name in ("c++", "g++", "cc", "gcc", "clang"))
    compiled = tmp_path / "digits.onnx"
    flags = ["--bits", "w8a8", "--effort", "low", "--executor", "inline", "--threads", "1", "--images", "16"]
    command = [str(bare / "bin" / "qcompile"), str(models / "digits_vit.onnx"), *flags, "-o", str(compiled), "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    command = [str(bare / "bin" / "python"), "-c", FIRST_USE, str(compiled), str(models / "digits_vit.eval.npz")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["package"]).is_relative_to(bare) and Path(found["library"]).is_relative_to(bare)
    assert found["packed"] > 0
    assert found["top1"] > 0.95
    if os.uname().machine == "x86_64":
        assert set(found["paths"]) == X86_PATHS


@pytest.mark.slow
def test_wheel_for_aarch64(source_tree: Path, tmp_path: Path) -> None:
    """Built by a cross compiler, without optimisation: the portable path, and no instruction of another processor."""
    if shutil.which(ARM_COMPILER) is None:
        pytest.skip(f"{ARM_COMPILER} is not installed (apt-get install g++-aarch64-linux-gnu)")
    build = Build(
        source_tree,
        tmp_path / "arm",
        "bdist_wheel",
        "--plat-name",
        "linux_aarch64",
        CXX=ARM_COMPILER,
        CXXFLAGS="-O0",
        QCOMPILER_NATIVE="1",
        QCOMPILER_CUDA="off",
    )
    assert build.done.returncode == 0, build.done.stderr
    (wheel,) = build.files
    assert re.search(r"-py3-none-manylinux_2_\d+_aarch64\.whl$", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        header = archive.read(LIBRARY)[:20]
    assert header[:5] == b"\x7fELF\x02" and int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64
