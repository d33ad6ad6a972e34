"""Every change of a file is found, and named where it is."""

import numpy as np
import onnx
import pytest

from qcompiler import runtime_ops
from qcompiler.driver.verification import Evidence, verify_file

from . import edits

LIBRARY = runtime_ops.library.library_path


def statuses(found):
    return {check.name: check.status for check in found.checks}


def failures(path, evidence=None):
    """Name -> text of the checks that failed."""
    found = verify_file(path, evidence, threads=1)
    failed = {check.name: check.text for check in found.checks if check.status == "failed"}
    assert found.passed == (not failed)
    return failed


def has_library():
    try:
        return bool(LIBRARY())
    except runtime_ops.LibraryError:
        return False


needs_library = pytest.mark.skipif(not has_library(), reason="the operator library is not installed")


@pytest.mark.parametrize("name", ["blocks", "groups", "readable", "bytes"])
def test_untouched(folder, name):
    evidence = Evidence(against=folder / "tiny.onnx", calibration=str(folder / "tiny.calib.npz"))
    found = statuses(verify_file(folder / f"{name}.onnx", evidence, threads=1))
    kernels = found.pop("kernels")
    assert set(found.values()) == {"ok"}
    assert kernels == ("ok" if name != "readable" and has_library() else "skipped")


def test_alone(folder):
    """What there is nothing to compare with is skipped, not passed."""
    found = statuses(verify_file(folder / "blocks.onnx", threads=1))
    assert (found["calibration"], found["agreement"]) == ("skipped", "skipped")


def test_a_flipped_code(tampered):
    failed = failures(tampered(edits.flip_code))
    assert failed.keys() == {"contents"}
    assert "'mlp.fc2'" in failed["contents"]


@pytest.mark.parametrize(("factor", "caught"), [(1.01, {"contents"}), (-1, {"contents", "constants"})])
def test_a_changed_scale(tampered, factor, caught):
    def change(model):
        scale = edits.read_by(model, "mlp.fc2", 2)
        values = edits.values_of(scale)
        values[0] *= factor
        edits.stored(scale, values)

    failed = failures(tampered(change))
    assert failed.keys() == caught
    assert all("'mlp.fc2'" in text for text in failed.values())


def test_a_scale_that_is_not_finite(tampered):
    def change(model):
        scale = edits.read_by(model, "mlp.fc2", 2)
        edits.stored(scale, np.full_like(edits.values_of(scale), np.inf))

    failed = failures(tampered(change))
    assert failed.keys() == {"file"}
    assert "infinite" in failed["file"]


def test_a_code_beyond_its_width(tampered):
    """Found without digests too: as the width of the codes, and as products that the report does not tell of."""

    def change(model):
        tensor = edits.read_by(model, "head", 1)  # 8 bits in a byte
        edits.change_report(model, narrow)
        edits.stored(tensor, edits.values_of(tensor))
        node = edits.node_of(model, "head")
        node.metadata_props[0].value = node.metadata_props[0].value.replace('"weight_bits": 8', '"weight_bits": 4')

    def narrow(values):
        values["layers"][-1]["weight_bits"] = 4

    failed = failures(tampered(change))
    assert "need 8 bits and its metadata claims 4" in failed["constants"]


@pytest.mark.parametrize("what", ["products", "bookkeeping", "fixed"])
def test_a_wrong_budget(tampered, what):
    def less(values):
        values["bops"][what] -= 32

    failed = failures(tampered(lambda model: edits.change_report(model, less)))
    assert failed.keys() == {"contents", "budget"}
    assert what in failed["budget"]
    assert "report" in failed["contents"]


def test_a_budget_that_was_not_kept(tampered):
    def tighten(values):
        values["options"]["bop_budget"] = 0.2

    assert "--bop-budget 0.2" in failures(tampered(lambda model: edits.change_report(model, tighten)))["budget"]


def test_a_wrong_width_of_a_layer(tampered):
    def widen(model):
        node = edits.node_of(model, "mlp.fc1")
        next(item for item in node.attribute if item.name == "bits").i = 5

    failed = failures(tampered(widen))
    assert "'mlp.fc1' claims 4 activation bits and has 5" in failed["budget"]
    assert "'mlp.fc1'" in failed["contents"]


def test_a_removed_body(tampered):
    def remove(model):
        kept = [item for item in model.functions if item.name != "RowRotate"]
        del model.functions[:]
        model.functions.extend(kept)

    failed = failures(tampered(remove))
    assert "'RowRotate'" in failed["bodies"]
    assert "BlockQuantizeLinear" in failed["bodies"]


def test_a_removed_metadata_says_nothing(tampered):
    found = statuses(verify_file(tampered(edits.drop_metadata), threads=1))
    assert {found[name] for name in ("contents", "budget", "calibration")} == {"skipped"}
    assert "failed" not in found.values()


@needs_library
def test_a_changed_body(tampered):
    """Found by its text, and on its own by what it computes."""

    def change(model):
        body = next(item for item in model.functions if item.name == "RowLayerNorm")
        last = next(node for node in body.node if node.output[0] == "Y")
        last.op_type = "Sub"  # of beta, instead of its addition

    failed = failures(tampered(change))
    assert "'RowLayerNorm'" in failed["bodies"]
    assert "LayerNorm" in failed["kernels"]
    assert "head" in failed["kernels"] or "attn.qkv" in failed["kernels"]


def test_a_renamed_domain(tampered):
    def rename(model):
        edits.node_of(model, "mlp.fc1").domain = "elsewhere"
        model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))

    failed = failures(tampered(rename))
    assert "'mlp.fc1'" in failed["structure"]
    assert "elsewhere" in failed["structure"]


def test_attributes_and_inputs_of_an_operator(tampered):
    def remove(model):
        del edits.node_of(model, "mlp.fc2").attribute[:1]

    assert "'mlp.fc2'" in failures(tampered(remove))["structure"]

    def shorten(model):
        del edits.node_of(model, "mlp.fc2").input[-1:]

    assert "'mlp.fc2'" in failures(tampered(shorten))["structure"]


def test_a_float_model(folder):
    failed = failures(folder / "tiny.onnx")
    assert "structure" in failed


def test_other_calibration_data(folder, tmp_path):
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros((16, 1, 8, 8), np.float32))
    failed = failures(folder / "blocks.onnx", Evidence(calibration=str(other)))
    assert failed.keys() == {"calibration"}
    assert "other.npz" in failed["calibration"]


def test_another_float_model(folder, tmp_path):
    from ..driver.tiny import tiny

    other = tmp_path / "other.onnx"
    onnx.save(tiny(seed=7), other)
    assert "other.onnx" in failures(folder / "blocks.onnx", Evidence(against=other))["agreement"]
    narrow = Evidence(against=folder / "tiny.onnx", most_error=1e-6)
    assert "above 1e-06" in failures(folder / "blocks.onnx", narrow)["agreement"]


def test_a_float_model_with_other_inputs(folder, tmp_path):
    other = onnx.load(folder / "tiny.onnx")
    other.graph.input[0].name = "pixels"
    for node in other.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = "pixels" if name == "x" else name
    onnx.save(other, tmp_path / "other.onnx")
    assert "pixels" in failures(folder / "blocks.onnx", Evidence(against=tmp_path / "other.onnx"))["agreement"]
