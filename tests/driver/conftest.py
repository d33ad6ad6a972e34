"""Compilations that many tests look at, made once."""

import pytest

from qcompiler.driver import compile_model

from .runs import fast
from .tiny import save


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    """The tiny model with its calibration data beside it; tests do not write there."""
    return save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def wide_path(tmp_path_factory):
    """The same with 64 channels."""
    return save(tmp_path_factory.mktemp("wide"), name="wide", dim=64)


@pytest.fixture(scope="session")
def compiled(tiny_path):
    """Compilations of the tiny model by their options, made on first use: compiled(bits="w4a4")."""
    return _made_once(tiny_path)


@pytest.fixture(scope="session")
def wide(wide_path):
    """Likewise of the wide model."""
    return _made_once(wide_path)


def _made_once(path):
    made = {}

    def get(**options):
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = compile_model(path, fast(**options))
        return made[key]

    return get
