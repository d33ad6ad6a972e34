"""Every family of the zoo: exported, compiled at 8 bits, run, and compared."""

import collections
import functools

import pytest

from qcompiler.errors import OptionError

from .expected import EXPECTED
from .outcome import compiled

pytestmark = pytest.mark.zoo

MOST_ERROR = 0.04  # of an output at W8A8
MOST_DEVIATION = 1e-4  # of the fused operators from the readable graph: sums of float32 in another order
# Families with operators that relevance has to cope with: several outputs, index notation, resizing, pooling. That of
# restored images (SwinIR) is not measured, which is a warning.
# WTPose is not among them: steps of blocks are found anew for every token, and with its number of tokens and layers no
# image is without a value that falls on the other side of an edge, as MOST_DEVIATION asks.
IN_BLOCKS = (
    "DeiT, two outputs", "SAM encoder", "SegFormer", "MobileViT", "XCiT", "Mask R-CNN", "ViTPose",
)  # fmt: skip
# Families whose models are compiled in a few seconds; the others have more layers than the search is quick for.
QUICK = (
    "ViT", "DeiT, two outputs", "SigLIP", "BEiT", "CaiT", "EVA-02", "CoAtNet", "LeViT", "XCiT", "SAM encoder",
    "ViTPose", "DETR",
)  # fmt: skip
GROUPS = {"method": "igq", "bits": "w8a8", "group_candidates": (4,)}
BLOCKS = {"bits": "w8a8", "effort": "low"}


def cases(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A function from (family, exporter) to an ONNX file."""
    pytest.importorskip("torch", reason="the zoo needs torch")
    try:
        from . import exporting
    except OptionError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("zoo")

    @functools.cache
    def export(name, exporter):
        path = folder / f"{sorted(EXPECTED).index(name)}_{exporter}.onnx"
        exporting.export(name, path, exporter)
        return path

    return export


def check(name, outcome):
    expected = EXPECTED[name]
    assert outcome.deviations[0] <= MOST_DEVIATION
    assert outcome.deviations[-1] <= MOST_ERROR
    assert outcome.error <= MOST_ERROR
    assert outcome.attentions == expected.attention
    assert outcome.linears > 0
    found = collections.Counter(
        next((part for part in expected.left if part in item.reason), item.reason) for item in outcome.left
    )
    assert found == expected.left


def test_the_table_names_the_families(exported):
    from . import families

    assert exported is not None
    assert set(families.FAMILIES) == set(EXPECTED)


@pytest.mark.parametrize("name", cases(EXPECTED))
def test_family_in_groups(exported, tmp_path, name):
    check(name, compiled(exported(name, "legacy"), tmp_path, **GROUPS))


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_BLOCKS)
def test_family_in_blocks(exported, tmp_path, name):
    """The default method at its lowest effort, whose relevance has to cope with every operator."""
    outcome = compiled(exported(name, "legacy"), tmp_path, **BLOCKS)
    check(name, outcome)
    assert not any("equally relevant" in text for text in outcome.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT", "BEiT", "EVA-02", "Swin V2", "SwinIR"])
def test_family_from_the_other_exporter(exported, tmp_path, name):
    check(name, compiled(exported(name, "dynamo"), tmp_path, **GROUPS))
