"""Builds the operator library and maps the source folders; everything else about the project is in pyproject.toml.

    pip install .                                regular install, library included
    pip install -e .                             the same in place
    python setup.py build_ext --inplace          rebuild only the library (objects whose inputs did not change are kept)

The library needs a C++17 compiler and ONNX Runtime's public headers, which no onnxruntime wheel carries. They are
looked for in this order: $QCOMPILER_ORT_INCLUDE (a folder), $ORT_HOME/include (an unpacked release archive), pkg-config
libonnxruntime, and last a wheel of the package index that carries them, checked against a pinned hash and unpacked
into the build folder.
Without compiler or headers the package installs as pure Python with one notice; QCOMPILER_NATIVE=0 asks for that,
QCOMPILER_NATIVE=1 makes the lack of the library an error.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "qcompiler" / "__init__.py").read_text("utf-8"), re.M).group(1)

FOLDERS = {"qcompiler.passes": "passes", "qcompiler.runtime_ops": "runtime_ops", "qcompiler.models": "models"}

HEADER = "onnxruntime_c_api.h"
HEADER_WHEEL = ("amd-quark==0.13", "3b3e58a4cbbcff20d27815b641aa4de4d698efde3c782306cb4a6a05bcf55c8c")
HEADER_FOLDER_IN_WHEEL = "/onnxruntime-1.17.0/onnxruntime/core/session/"

# -ffp-contract=off: a fused multiply-add would round once where the operators' definition rounds twice.
# No -m flags: every kernel enables its instruction set itself, so the library loads on any processor.
COMMON_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
LINK_FLAGS = [
    "-shared",
    "-static-libstdc++",
    "-static-libgcc",
    "-Wl,--no-undefined",
    "-Wl,--version-script=runtime_ops/ort/exports.map",
]
FLAGS = [*COMMON_FLAGS, f'-DQCOMPILER_VERSION="{VERSION}"']


class UnavailableError(Exception):
    """A reason why the library cannot be built here."""


def packages() -> list[str]:
    """`qcompiler` and the folders that are installed below it, with their subpackages."""
    found = find_packages(include=["qcompiler", "qcompiler.*"])
    for name, folder in FOLDERS.items():
        found += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]
    return found


def native_sources() -> list[str]:
    """The library's translation units: reference, cpu and the glue to ONNX Runtime."""
    folders = (ROOT / "runtime_ops" / name for name in ("reference", "cpu", "ort"))
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*.cc"))


def _pkg_config_include() -> Path | None:
    try:
        answer = subprocess.run(
            ["pkg-config", "--variable=includedir", "libonnxruntime"], capture_output=True, text=True
        )
    except OSError:
        return None
    return Path(answer.stdout.strip()) if answer.returncode == 0 and answer.stdout.strip() else None


def _folder_with_header(root: Path) -> Path | None:
    layouts = ("", "onnxruntime", "onnxruntime/core/session", "core/session")  # archives, distributions, source tree
    return next((root / layout for layout in layouts if (root / layout / HEADER).is_file()), None)


def _headers_from_wheel(target: Path) -> Path:
    """Downloads the wheel that carries the headers and unpacks only them into `target`."""
    if (target / HEADER).exists():
        return target
    requirement, digest = HEADER_WHEEL
    download = target.with_name(target.name + "-download")
    shutil.rmtree(download, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--quiet",
        "--dest",
        str(download),
        requirement,
    ]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        raise UnavailableError(
            f"ONNX Runtime's headers were not found and {requirement}, which carries them, could not be downloaded; "
            "set QCOMPILER_ORT_INCLUDE to the include folder of an ONNX Runtime release"
        )
    (wheel,) = download.glob("*.whl")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != digest:
        raise UnavailableError(
            f"{wheel.name} does not have the pinned hash; set QCOMPILER_ORT_INCLUDE to ONNX Runtime's include folder"
        )
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if HEADER_FOLDER_IN_WHEEL in member and member.endswith(".h"):
                (target / Path(member).name).write_bytes(archive.read(member))
    shutil.rmtree(download)
    return target


def ort_include(build_folder: Path) -> Path:
    """The folder of ONNX Runtime's headers; raises UnavailableError when there is none to be had."""
    explicit = os.environ.get("QCOMPILER_ORT_INCLUDE")
    if explicit:
        found = _folder_with_header(Path(explicit))
        if found is None:
            raise UnavailableError(f"QCOMPILER_ORT_INCLUDE is set to {explicit}, which holds no {HEADER}")
        return found
    home = os.environ.get("ORT_HOME")
    for candidate in (Path(home) / "include" if home else None, _pkg_config_include()):
        found = _folder_with_header(candidate) if candidate else None
        if found is not None:
            return found
    return _headers_from_wheel(build_folder / "onnxruntime-headers")


def compiler() -> list[str]:
    """The C++ compiler as a command ($CXX, else c++, g++, clang++); raises UnavailableError when there is none."""
    command = shlex.split(os.environ.get("CXX", "")) or next(
        ([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), None
    )
    if not command or not shutil.which(command[0]):
        raise UnavailableError("no C++ compiler was found; install one (for example g++) or set CXX")
    return command


class BuildLibrary(build_ext):
    """Compiles the sources in parallel and links one plain shared library, or says once why there is none."""

    built = False

    def get_ext_filename(self, fullname: str) -> str:
        """No Python tag: the library is loaded by ONNX Runtime and knows nothing of Python."""
        return os.path.join(*fullname.split(".")) + ".so"

    def run(self) -> None:
        wish = os.environ.get("QCOMPILER_NATIVE", "")
        try:
            if wish == "0":
                raise UnavailableError("QCOMPILER_NATIVE=0")
            if sys.platform != "linux":
                raise UnavailableError(f"the library is built on Linux only, this is {sys.platform}")
            super().run()
            BuildLibrary.built = True
        except UnavailableError as reason:
            if wish == "1":
                raise SystemExit(f"qcompile: the operator library cannot be built: {reason}") from None
            self.extensions = []
            print(
                f"NOTICE qcompile: installing without the operator library (models run, but slowly): {reason}",
                file=sys.stderr,
            )

    def build_extension(self, ext: Extension) -> None:
        # Not in build_temp: its name holds the Python version, and objects are cached by content here instead.
        build_folder = ROOT / "build" / "native"
        cxx, headers = compiler(), ort_include(build_folder)
        flags = [*FLAGS, *shlex.split(os.environ.get("CXXFLAGS", ""))]
        objects = build_folder / "objects" / self._fingerprint(cxx, flags, headers)
        objects.mkdir(parents=True, exist_ok=True)

        def compile_one(source: str) -> Path:
            content = hashlib.sha256((ROOT / source).read_bytes()).hexdigest()[:16]
            target = objects / f"{source.replace('/', '.')}.{content}.o"
            if not target.exists():
                part = target.with_suffix(f".{os.getpid()}.part")
                includes = ["-I", str(ROOT / "runtime_ops"), "-isystem", str(headers)]
                self._call([*cxx, *flags, *includes, "-c", str(ROOT / source), "-o", str(part)])
                part.replace(target)
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = [str(path) for path in pool.map(compile_one, ext.sources)]
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        # A new file, not new contents: a process that has the old library mapped keeps it.
        part = library.with_suffix(f".{os.getpid()}.part")
        self._call([*cxx, *compiled, *LINK_FLAGS, "-ldl", "-o", str(part)])
        part.replace(library)

    @staticmethod
    def _call(command: list[str]) -> None:
        if subprocess.run(command).returncode:
            raise SystemExit(f"qcompile: this command failed: {shlex.join(command)}")

    @staticmethod
    def _fingerprint(cxx: list[str], flags: list[str], headers: Path) -> str:
        """Names everything an object depends on beside its own source, so that a stale object is never linked."""
        state = hashlib.sha256(repr((cxx, flags)).encode())
        state.update(subprocess.run([*cxx, "--version"], capture_output=True).stdout)
        for header in [headers / HEADER, *sorted((ROOT / "runtime_ops").rglob("*.h"))]:
            state.update(header.read_bytes())
        return state.hexdigest()[:16]


class Wheel(bdist_wheel):
    """The library has no Python ABI: one wheel per platform, or a pure one where it was not built."""

    def run(self) -> None:
        # pip builds in the checkout: what an earlier build left here would be packed too, deleted modules included.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2] if BuildLibrary.built else "any")


setup(
    version=VERSION,
    packages=packages(),
    package_dir=FOLDERS,
    # optional: an editable install must not insist on copying a library that was not built.
    ext_modules=[Extension("qcompiler.runtime_ops.libqcompiler_ops", native_sources(), optional=True)]
    if native_sources()
    else [],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
)
