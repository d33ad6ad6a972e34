"""What these tests need of the machine; each one skips with what is missing."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import onnxruntime
import pytest

from qcompiler import runtime_ops

CHECKOUT = Path(__file__).resolve().parents[2]
PROVIDER = "CUDAExecutionProvider"


def find_nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def device_count() -> int:
    """CUDA devices that the driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


@pytest.fixture(scope="session")
def nvcc() -> str:
    found = find_nvcc()
    if found is None:
        pytest.skip("nvcc is not installed")
    if not (CHECKOUT / "setup.py").is_file():
        pytest.skip("this test compiles the sources of the checkout")
    return found


@pytest.fixture(scope="session")
def device() -> None:
    if device_count() == 0:
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def cuda_library() -> str:
    """The operator library, in a process whose sessions on the CUDA provider get CUDA kernels."""
    if PROVIDER not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider (install onnxruntime-gpu)")
    if device_count() == 0:
        pytest.skip("no CUDA device")
    try:
        path = str(runtime_ops.library_path())
    except runtime_ops.LibraryError as error:
        pytest.skip(f"no operator library: {error}")
    onnxruntime.SessionOptions().register_custom_ops_library(path)
    status = ctypes.CDLL(path).qcompiler_cuda_status
    status.restype = ctypes.c_char_p
    reason = status()
    if reason is not None:
        pytest.skip(f"no CUDA kernels: {reason.decode()}")
    return path
