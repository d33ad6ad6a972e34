"""What is in the wheel, in the source archive, and in a package that was installed without a compiler."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from .conftest import CHECKOUT, Build

FOLDERS = {
    "qcompiler": "qcompiler",
    "passes": "qcompiler/passes",
    "runtime_ops": "qcompiler/runtime_ops",
    "models": "qcompiler/models",
}
LIBRARY = "qcompiler/runtime_ops/libqcompiler_ops.so"


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def without_compiler(tree: Path, output: Path, **environment: str) -> Build:
    return Build(tree, output, "bdist_wheel", CXX="no-such-compiler", **environment)


def test_only_one_top_level_name(native_wheel: Path) -> None:
    top = {name.split("/")[0] for name in names(native_wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"qcompiler"}


def test_every_module_is_in_the_wheel(native_wheel: Path) -> None:
    expected = {
        f"{target}/{path.relative_to(CHECKOUT / folder)}"
        for folder, target in FOLDERS.items()
        for path in (CHECKOUT / folder).rglob("*.py")
    }
    assert expected == {name for name in names(native_wheel) if name.endswith(".py")}


def test_data_files_are_in_the_wheel(native_wheel: Path) -> None:
    """The model that ships with the package, its images, and the templates of deployments."""
    suffixes = {".onnx", ".npz", ".json", ".safetensors"}
    expected = {f"qcompiler/models/{path.name}" for path in (CHECKOUT / "models").iterdir() if path.suffix in suffixes}
    templates = CHECKOUT / "qcompiler" / "deploy" / "templates"
    expected |= {f"qcompiler/deploy/templates/{path.name}" for path in templates.iterdir()}
    assert expected <= set(names(native_wheel))


def test_library_is_in_the_wheel(native_wheel: Path) -> None:
    """One library without a Python tag, no sources, and a wheel for every Python of the platform."""
    assert [name for name in names(native_wheel) if name.endswith(".so")] == [LIBRARY]
    assert not [name for name in names(native_wheel) if name.endswith((".cc", ".h", ".cu", ".o"))]
    assert "-py3-none-manylinux_2_" in native_wheel.name


def test_metadata(native_wheel: Path) -> None:
    with zipfile.ZipFile(native_wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "qcompile = qcompiler.cli:main" in archive.read(entry_points).decode()
        assert "qcompiler/py.typed" in archive.namelist()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_installed_wheel_works(native_wheel: Path, tmp_path: Path) -> None:
    """Unpacked beside the dependencies, it is imported from there, finds its library, and says its version."""
    with zipfile.ZipFile(native_wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
        "import qcompiler, qcompiler.passes, qcompiler.models\n"
        "from qcompiler import runtime_ops\n"
        "print(qcompiler.__file__, runtime_ops.library_path(), runtime_ops.library_version(), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    package, library, version = done.stdout.splitlines()
    assert Path(package).is_relative_to(tmp_path) and Path(library) == tmp_path / LIBRARY
    assert f"-{version}-" in native_wheel.name


@pytest.mark.parametrize("folder", ["passes", "runtime_ops", "models"])
def test_a_folder_is_no_package_of_its_own(folder: str) -> None:
    """In the checkout `import passes` would make a second set of classes that no isinstance knows."""
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import {folder}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and f"import qcompiler.{folder}" in done.stderr


def test_without_compiler(source_tree: Path, tmp_path: Path) -> None:
    """A pure wheel, one notice that says what is missing, and nothing left over from a build that had a compiler."""
    build = without_compiler(source_tree, tmp_path / "pure")
    assert build.done.returncode == 0, build.done.stderr
    (notice,) = build.notices
    assert "no C++ compiler was found" in notice
    (wheel,) = build.files
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names(wheel) if name.endswith(".so")]


def test_without_headers(source_tree: Path, tmp_path: Path) -> None:
    build = Build(source_tree, tmp_path / "pure", "bdist_wheel", QCOMPILER_ORT_INCLUDE=str(tmp_path))
    (notice,) = build.notices
    assert "QCOMPILER_ORT_INCLUDE is set to" in notice and build.done.returncode == 0


def test_library_can_be_insisted_on(source_tree: Path, tmp_path: Path) -> None:
    build = without_compiler(source_tree, tmp_path / "pure", QCOMPILER_NATIVE="1")
    assert build.done.returncode != 0
    assert "the operator library cannot be built: no C++ compiler" in build.done.stderr


def test_source_archive(source_tree: Path, tmp_path: Path) -> None:
    """Everything that a build and a test run need, and nothing that a build made."""
    build = Build(source_tree, tmp_path / "sdist", "sdist")
    assert build.done.returncode == 0, build.done.stderr
    (archive,) = build.files
    with tarfile.open(archive) as opened:
        inside = {name.partition("/")[2] for name in opened.getnames()}
    native = [
        path.relative_to(CHECKOUT)
        for path in (CHECKOUT / "runtime_ops").rglob("*")
        if path.suffix in {".cc", ".h", ".cu", ".cuh", ".map"}
    ]
    data = [path.relative_to(CHECKOUT) for path in (CHECKOUT / "models").iterdir() if path.suffix in {".onnx", ".npz"}]
    wanted = {str(path) for path in [*native, *data]} | {
        "setup.py",
        "pyproject.toml",
        "conftest.py",
        "LICENSE",
        "tests/conftest.py",
    }
    assert wanted <= inside
    assert not [name for name in inside if name.endswith((".so", ".o", ".pyc"))]
