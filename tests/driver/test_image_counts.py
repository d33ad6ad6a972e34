"""Images to measure on: many of a small model, few of a large one, and what an option says comes first."""

from types import SimpleNamespace

import pytest

from qcompiler.driver import image_counts
from qcompiler.driver.image_counts import finalists, part_moves, probe_images, trial_images
from qcompiler.options import CompileOptions
from qcompiler.quant.bops import ProductShape


@pytest.fixture
def structure(monkeypatch):
    """A function that makes structures of so many multiply-accumulates, a third of them in attention."""
    monkeypatch.setattr(image_counts, "linear_product", lambda layer: layer)
    monkeypatch.setattr(image_counts, "attention_products", lambda block: block)

    def made(macs):
        one = ProductShape(1, 1, round(macs / 6))
        return SimpleNamespace(linears=[one, one, one, one], attentions=[[one, one]])

    return made


@pytest.mark.parametrize(
    ("macs", "probes", "trials", "moved", "plans"),
    [
        (6e6, 32, 192, 16, 4),
        (1.25e9, 32, 192, 16, 4),  # ViT-Tiny
        (4.6e9, 32, 192, 16, 2),  # ViT-Small
        (1.2e10, 12, 100, 6, 1),
        (1.8e10, 8, 66, 4, 1),  # ViT-Base
        (6e11, 8, 64, 4, 1),
    ],
)
def test_by_size(structure, macs, probes, trials, moved, plans):
    found = structure(macs)
    assert finalists(found) == plans
    assert part_moves(CompileOptions(), found) == moved
    assert part_moves(CompileOptions(effort="low"), found) == 0
    assert (probe_images(CompileOptions(), found), trial_images(CompileOptions(), found)) == (probes, trials)


def test_options_come_first(structure):
    options = CompileOptions(probe_images=3, trial_images=5)
    assert (probe_images(options, structure(6e11)), trial_images(options, structure(6))) == (3, 5)


def test_nothing_to_quantize():
    empty = SimpleNamespace(linears=[], attentions=[])
    assert (probe_images(CompileOptions(), empty), trial_images(CompileOptions(), empty)) == (32, 192)
