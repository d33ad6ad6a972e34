"""The C++ example: built as its reader would build it, and compared with Python on the same pixels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import qcompiler.models
from qcompiler import runtime_ops
from qcompiler.cli import main

from .conftest import CHECKOUT

SOURCE = CHECKOUT / "examples" / "cpp" / "classify.cc"
SHIPPED = Path(qcompiler.models.__file__).parent

pytestmark = pytest.mark.skipif(not SOURCE.is_file(), reason="these tests need the checkout")


@pytest.fixture(scope="module")
def classify(compiler: list[str], headers: Path, ort_libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    program = tmp_path_factory.mktemp("cpp") / "classify"
    # -ffp-contract=off: the comparison below is exact, so nothing may be rounded once where Python rounds twice.
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-isystem", str(headers)]
    link = [f"-L{ort_libraries}", "-lonnxruntime", f"-Wl,-rpath,{ort_libraries}"]
    subprocess.run([*compiler, *flags, str(SOURCE), *link, "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="module")
def library() -> str:
    try:
        return str(runtime_ops.library_path())
    except runtime_ops.LibraryNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def digits(library: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, compiled."""
    folder = tmp_path_factory.mktemp("digits")
    for name in ("digits_vit.onnx", "digits_vit.calib.npz"):
        shutil.copy(SHIPPED / name, folder)
    words = ["--bits", "w4a8", "--effort", "low", "--images", "8", "--threads", "1", "--quiet"]
    assert main([str(folder / "digits_vit.onnx"), *words, "-o", str(folder / "digits.onnx")]) == 0
    return folder / "digits.onnx"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Held-out images of the shipped model as it was trained on them, uint8 [8, 24, 24]."""
    with np.load(SHIPPED / "digits_vit.eval.npz") as data:
        return np.rint((data["input"][:8, 0] * 0.5 + 0.5) * 255).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> Path:
    """[height, width] as PGM, [height, width, 3] as PPM."""
    kind = "P5" if image.ndim == 2 else "P6"
    path.write_bytes(f"{kind}\n{image.shape[1]} {image.shape[0]}\n255\n".encode() + image.tobytes())
    return path


def test_cmake_builds_it(headers, ort_libraries, compiler, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake was not found")
    home, build = tmp_path / "release", tmp_path / "build"
    home.mkdir()
    (home / "include").symlink_to(headers)
    (home / "lib").symlink_to(ort_libraries)
    for words in (["-S", SOURCE.parent, "-B", build, f"-DORT_HOME={home}"], ["--build", build]):
        done = subprocess.run(["cmake", *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "usage: classify" in run(build / "classify").stderr


def run(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, words)], capture_output=True, text=True, check=False, timeout=120)


def test_it_is_short():
    assert len(SOURCE.read_text("utf-8").splitlines()) < 100


def test_the_same_scores_as_python(classify, library, digits, pixels, tmp_path):
    session = runtime_ops.session(digits)
    for number, image in enumerate(pixels):
        done = run(classify, digits, library, write(tmp_path / f"{number}.pgm", image))
        assert (done.returncode, done.stderr) == (0, "")
        values = (image.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        (scores,) = session.run(None, {"input": values[None, None]})[0]
        order = np.argsort(-scores, kind="stable")[:5]
        lines = [line.split() for line in done.stdout.splitlines()]
        assert [int(line[0]) for line in lines] == order.tolist()
        # Nine digits name every float32.
        np.testing.assert_array_equal(np.array([line[2] for line in lines], np.float32), scores[order])
        shares = np.exp(scores.astype(np.float64)) / np.exp(scores.astype(np.float64)).sum()
        np.testing.assert_allclose([float(line[1]) for line in lines], shares[order], atol=2e-6)


def test_the_kernels_of_the_library_run(classify, library, digits, pixels, tmp_path):
    """The library is really used: a CPU path that does not exist is its complaint, and nobody else's."""
    image = write(tmp_path / "0.pgm", pixels[0])
    command = ["env", "QCOMPILER_CPU_PATH=nonsense", str(classify), str(digits), library, str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nonsense" in done.stderr


def test_colours_and_their_normalisation(classify, library, tmp_path):
    """Channels keep their order, and each has its own mean and deviation: a model that adds up what it reads."""
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    graph = onnx.helper.make_graph(
        [node],
        "sum",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 2, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes")],
    )
    opset = onnx.helper.make_opsetid("", 21)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "sum.onnx")
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 3), np.uint8)
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.25, 2.0])
    flags = [",".join(map(str, values)) for values in (mean, std)]
    done = run(classify, tmp_path / "sum.onnx", library, write(tmp_path / "i.ppm", image), *flags)
    assert (done.returncode, done.stderr) == (0, "")
    found = {int(line.split()[0]): float(line.split()[2]) for line in done.stdout.splitlines()}
    expected = ((image / 255 - mean) / std).sum((0, 1))
    np.testing.assert_allclose([found[channel] for channel in range(3)], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"", "not a binary PPM"),
        (b"P3\n2 2\n255\n", "not a binary PPM"),
        (b"P5\n24 24\n65535\n", "not a binary PPM"),
        (b"P5\n-4 24\n255\n", "not a binary PPM"),
        (b"P5\n24 24\n255\n" + b"\0" * 575, "truncated"),
        (b"P5\n20 24\n255\n" + b"\0" * 480, "input"),
    ],
)
def test_an_image_that_does_not_fit(classify, library, digits, tmp_path, image, says):
    (tmp_path / "i.pgm").write_bytes(image)
    done = run(classify, digits, library, tmp_path / "i.pgm")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("classify: ")
    assert says in done.stderr


def test_usage(classify):
    assert "usage: classify MODEL LIBRARY IMAGE" in run(classify).stderr
