"""What tests of models share."""

import importlib.util

import pytest

from qcompiler.models.extras import require_timm


@pytest.fixture(scope="session")
def timm():
    """timm, imported as the exporters do it (importorskip fails beside a torchvision that does not load)."""
    pytest.importorskip("torch")
    for name in ("timm", "torchvision"):  # timm imports the other
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    return require_timm("the test")
