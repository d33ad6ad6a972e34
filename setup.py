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

A second library holds the operators' CUDA kernels. It is built where nvcc is found ($CUDACXX, $CUDA_HOME/bin, the path,
/usr/local/cuda/bin) and needs neither a GPU nor a driver. QCOMPILER_CUDA=off leaves it out, QCOMPILER_CUDA=on makes its
lack an error, and QCOMPILER_CUDA_ARCHITECTURES ("80;90") chooses what it is compiled for; PTX of the last one serves
newer devices.
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
    "-Wl,--gc-sections",  # unused parts of the static libstdc++ would ask for a newer C library than the rest
    "-Wl,--version-script=runtime_ops/ort/exports.map",
]
FLAGS = [*COMMON_FLAGS, f'-DQCOMPILER_VERSION="{VERSION}"']

CUDA_LIBRARY = "qcompiler.runtime_ops.libqcompiler_ops_cuda"
CUDA_ARCHITECTURES = "80;90"
# Constants are checked and unpacked as on the CPU.
CUDA_SHARED_SOURCES = ("checks", "error", "quantizer", "weights")
# -fmad=false is what -ffp-contract=off is to the CPU's kernels.
CUDA_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "--threads", "0", f'-DQCOMPILER_VERSION="{VERSION}"']
CUDA_HOST_FLAGS = ["-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall"]
CUDA_LINK_FLAGS = [
    "-shared",
    "-cudart=static",
    "-Xcompiler=-static-libstdc++,-static-libgcc",
    "-Xlinker=--no-undefined,--exclude-libs=ALL,--version-script=runtime_ops/cuda/exports.map",
]


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


def cuda_sources() -> list[str]:
    """The translation units of the CUDA library."""
    kernels = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "runtime_ops" / "cuda").glob("*.cu"))
    return kernels and [*kernels, *(f"runtime_ops/cpu/{name}.cc" for name in CUDA_SHARED_SOURCES)]


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


def cuda_compiler() -> str:
    """nvcc ($CUDACXX, or where it usually is); raises UnavailableError when there is none."""
    explicit, home = os.environ.get("CUDACXX"), os.environ.get("CUDA_HOME")
    places = (explicit,) if explicit else (home and f"{home}/bin/nvcc", "nvcc", "/usr/local/cuda/bin/nvcc")
    found = next((path for path in (shutil.which(place) for place in places if place) if path), None)
    if found is None:
        name = explicit or "nvcc"
        raise UnavailableError(f"{name} was not found; install the CUDA toolkit or set CUDACXX to its nvcc")
    return found


def cuda_architectures() -> list[str]:
    """What nvcc compiles for: machine code of every architecture, and PTX of the last one."""
    numbers = os.environ.get("QCOMPILER_CUDA_ARCHITECTURES", CUDA_ARCHITECTURES).split(";")
    kinds = [f"sm_{number}" for number in numbers]
    kinds[-1] = f"[{kinds[-1]},compute_{numbers[-1]}]"
    return [f"-gencode=arch=compute_{number},code={kind}" for number, kind in zip(numbers, kinds, strict=True)]


class BuildLibrary(build_ext):
    """Compiles the sources in parallel and links plain shared libraries, or says once why there is none."""

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
            self._choose_cuda()
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

    def _choose_cuda(self) -> None:
        """Leaves the CUDA library out where it is not wanted or cannot be built."""
        wish = os.environ.get("QCOMPILER_CUDA") or "auto"
        if wish not in ("auto", "on", "off"):
            raise SystemExit(f"qcompile: QCOMPILER_CUDA is '{wish}', expected auto, on or off")
        try:
            if wish != "off":
                cuda_compiler()
                return
        except UnavailableError as reason:
            if wish == "on":
                raise SystemExit(f"qcompile: the CUDA library cannot be built: {reason}") from None
        self.extensions = [ext for ext in self.extensions if ext.name != CUDA_LIBRARY]

    def build_extension(self, ext: Extension) -> None:
        if ext.name == CUDA_LIBRARY:
            self._build_cuda(ext)
            return
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

    def _build_cuda(self, ext: Extension) -> None:
        nvcc, cxx = cuda_compiler(), compiler()
        flags = [*CUDA_FLAGS, *cuda_architectures(), "-ccbin", cxx[0], *(f"-Xcompiler={x}" for x in CUDA_HOST_FLAGS)]
        objects = ROOT / "build" / "native" / "cuda" / self._fingerprint([nvcc], [*cxx, *flags], None)
        objects.mkdir(parents=True, exist_ok=True)

        def compile_one(source: str) -> Path:
            content = hashlib.sha256((ROOT / source).read_bytes()).hexdigest()[:16]
            target = objects / f"{source.replace('/', '.')}.{content}.o"
            if not target.exists():
                part = target.with_suffix(f".{os.getpid()}.part")
                command = [nvcc, *flags] if source.endswith(".cu") else [*cxx, *FLAGS]
                self._call([*command, "-I", str(ROOT / "runtime_ops"), "-c", str(ROOT / source), "-o", str(part)])
                part.replace(target)
            return target

        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        part = library.with_suffix(f".{os.getpid()}.part")
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = [str(path) for path in pool.map(compile_one, ext.sources)]
            self._call([nvcc, "-ccbin", cxx[0], *cuda_architectures(), *compiled, *CUDA_LINK_FLAGS, "-o", str(part)])
        except SystemExit as failure:
            # Who did not ask for it still gets everything else.
            if os.environ.get("QCOMPILER_CUDA") == "on":
                raise
            self.extensions = [other for other in self.extensions if other is not ext]
            print(f"NOTICE qcompile: installing without the CUDA library: {failure}", file=sys.stderr)
            return
        part.replace(library)

    @staticmethod
    def _call(command: list[str]) -> None:
        if subprocess.run(command).returncode:
            raise SystemExit(f"qcompile: this command failed: {shlex.join(command)}")

    @staticmethod
    def _fingerprint(cxx: list[str], flags: list[str], headers: Path | None) -> str:
        """Names everything an object depends on beside its own source, so that a stale object is never linked."""
        state = hashlib.sha256(repr((cxx, flags)).encode())
        state.update(subprocess.run([*cxx, "--version"], capture_output=True).stdout)
        own = sorted(path for path in (ROOT / "runtime_ops").rglob("*") if path.suffix in (".h", ".cuh"))
        if headers:  # the operator library, which includes one header of the CUDA library
            kernels = ROOT / "runtime_ops" / "cuda"
            own = [headers / HEADER, *(path for path in own if kernels not in path.parents or path.stem == "interface")]
        for header in own:
            state.update(header.read_bytes())
        return state.hexdigest()[:16]


class Wheel(bdist_wheel):
    """The library has no Python ABI: one wheel per platform, or a pure one where it was not built."""

    def run(self) -> None:
        # pip builds in the checkout: what an earlier build left here would be packed too, deleted modules included.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", self._platform() if BuildLibrary.built else "any")

    def _platform(self) -> str:
        """`manylinux_2_35_x86_64`: the platform with the C library's version that the built files ask for.

        Beside the C library they need nothing: libstdc++ and libgcc are linked in.
        """
        platform = super().get_tag()[2]
        files = Path(self.get_finalized_command("build").build_lib).rglob("*.so")
        found = [re.findall(rb"\0GLIBC_(\d+)\.(\d+)", file.read_bytes()) for file in files]
        versions = {(int(major), int(minor)) for pairs in found for major, minor in pairs}
        if not platform.startswith("linux_") or not versions:
            return platform  # another C library, or a platform that was asked for
        major, minor = max(versions)
        return platform.replace("linux_", f"manylinux_{major}_{minor}_", 1)


setup(
    version=VERSION,
    packages=packages(),
    package_dir=FOLDERS,
    # optional: an editable install must not insist on copying a library that was not built.
    ext_modules=[
        Extension(name, sources, optional=True)
        for name, sources in (
            ("qcompiler.runtime_ops.libqcompiler_ops", native_sources()),
            (CUDA_LIBRARY, cuda_sources()),
        )
        if sources
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
)
