"""Everything a user can get wrong: one clear error, nothing written, nothing changed."""

import os
import re
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from qcompiler.driver import compile_model
from qcompiler.errors import (
    BudgetError,
    CalibrationDataError,
    ModelFileError,
    NonFiniteError,
    OptionError,
    OutputPathError,
    UnsupportedModelError,
    VerificationError,
)

from .runs import fast
from .tiny import images, save, tiny


class Reader:
    """A user's reader over single images."""

    def __init__(self, feeds):
        self.feeds = list(feeds)
        self.place = 0

    def get_next(self):
        self.place += 1
        return self.feeds[self.place - 1] if self.place <= len(self.feeds) else None

    def rewind(self):
        self.place = 0


def feeds(count=4, name="x"):
    return [{name: image[None]} for image in images(count)]


def files(folder):
    return sorted(item.name for item in folder.iterdir())


@pytest.mark.parametrize("kind", ["same", "relative", "symlink", "hardlink"])
def test_output_is_the_input(tmp_path, monkeypatch, kind):
    path = save(tmp_path)
    before = path.read_bytes()
    output = tmp_path / "link.onnx"
    if kind == "same":
        output = path
    elif kind == "relative":
        monkeypatch.chdir(tmp_path)
        output = "tiny.onnx"
    elif kind == "symlink":
        output.symlink_to(path)
    else:
        os.link(path, output)
    with pytest.raises(OutputPathError, match="is the input model"):
        compile_model(path, fast(bits="w4a4"), output=output)
    assert path.read_bytes() == before


def test_output_in_a_missing_folder(tmp_path):
    path = save(tmp_path)
    with pytest.raises(OutputPathError, match="does not exist"):
        compile_model(path, fast(bits="w8a8"), output=tmp_path / "none" / "out.onnx")
    assert files(tmp_path) == ["tiny.calib.npz", "tiny.onnx"]


def test_output_is_a_folder(tmp_path):
    path = save(tmp_path)
    (tmp_path / "out.onnx").mkdir()
    with pytest.raises(OutputPathError, match="is a folder"):
        compile_model(path, fast(bits="w8a8"), output=tmp_path / "out.onnx")
    assert files(tmp_path) == ["out.onnx", "tiny.calib.npz", "tiny.onnx"]
    assert files(tmp_path / "out.onnx") == []


def test_saving_a_result_into_a_missing_folder(tiny_path, tmp_path):
    result = compile_model(tiny_path, fast(stop_after="canonicalise"))
    with pytest.raises(OutputPathError, match="does not exist"):
        result.save(tmp_path / "none" / "out.onnx")
    assert files(tmp_path) == []
    assert result.save(tmp_path / "out.onnx") == [tmp_path / "out.onnx"]
    assert files(tmp_path) == ["out.onnx"]


@pytest.mark.parametrize("option", ["save_stats", "save_plan"])
def test_other_outputs_into_a_missing_folder(tmp_path, option):
    path = save(tmp_path)
    with pytest.raises(OutputPathError, match="does not exist"):
        compile_model(path, fast(**{option: tmp_path / "none" / "file"}), output=tmp_path / "out.onnx")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputPathError, match="is a folder"):
        compile_model(path, fast(**{option: tmp_path / "folder"}), output=tmp_path / "out.onnx")
    assert files(tmp_path) == ["folder", "tiny.calib.npz", "tiny.onnx"]


def test_nothing_is_written_when_a_budget_is_missed(tmp_path):
    """The plan costs what it costs; statistics and plan are known by then, and are not written either."""
    path = save(tmp_path)
    saved = {"save_stats": tmp_path / "stats.npz", "save_plan": tmp_path / "plan.json"}
    with pytest.raises(BudgetError, match="--size-budget"):
        compile_model(path, fast(bits="w4a4", size_budget=0.5, **saved), output=tmp_path / "out.onnx")
    assert files(tmp_path) == ["tiny.calib.npz", "tiny.onnx"]


def test_nothing_stays_when_the_model_does_not_run(tmp_path, monkeypatch):
    path = save(tmp_path)
    saved = {"save_stats": tmp_path / "stats.npz", "save_plan": tmp_path / "plan.json"}

    def broken(*_):
        raise VerificationError("it does not run")

    monkeypatch.setattr("qcompiler.driver.compile.check_written", broken)
    with pytest.raises(VerificationError):
        compile_model(path, fast(bits="w4a4", effort="low", **saved), output=tmp_path / "out.onnx")
    assert files(tmp_path) == ["tiny.calib.npz", "tiny.onnx"]


def test_an_existing_output_survives_a_failure(tmp_path):
    path = save(tmp_path)
    output = tmp_path / "out.onnx"
    output.write_bytes(b"precious")
    np.savez(tmp_path / "bad.npz", y=images(2))
    with pytest.raises(CalibrationDataError):
        compile_model(path, fast(bits="w4a4"), tmp_path / "bad.npz", output=output)
    assert output.read_bytes() == b"precious"


def named_budget(error, option):
    return float(re.search(rf"{option} (\S+) or more", str(error))[1])


def test_impossible_budget_names_one_that_works(tiny_path):
    with pytest.raises(BudgetError) as caught:
        compile_model(tiny_path, fast(bop_budget=0.05))
    budget = named_budget(caught.value, "give --bop-budget")
    assert compile_model(tiny_path, fast(bop_budget=budget)).report.bops.fraction_of_w8a8 <= budget


def test_impossible_budget_of_uniform_widths(tiny_path):
    with pytest.raises(BudgetError) as caught:
        compile_model(tiny_path, fast(method="igq", bop_budget=0.05))
    options = fast(method="igq", bop_budget=named_budget(caught.value, "give --bop-budget"), stop_after="canonicalise")
    assert compile_model(tiny_path, options).report.widths == "w3a3"


def test_widths_above_the_budget(tiny_path):
    with pytest.raises(BudgetError, match=r"--bits w8a8 costs 1\.0000 of W8A8, more than --bop-budget 0\.5"):
        compile_model(tiny_path, fast(bits="w8a8", bop_budget=0.5))
    enough = compile_model(tiny_path, fast(bits="w4a4", bop_budget=0.25, stop_after="canonicalise"))
    assert enough.report.widths == "w4a4"


def test_the_stated_cost_of_widths_is_a_budget_that_works(tiny_path):
    with pytest.raises(BudgetError) as caught:
        compile_model(tiny_path, fast(bits="w3a3", bop_budget=0.1))
    cost = float(re.search(r"costs (\S+) of W8A8", str(caught.value))[1])
    enough = compile_model(tiny_path, fast(bits="w3a3", bop_budget=cost, stop_after="canonicalise"))
    assert enough.report.widths == "w3a3"


@pytest.mark.parametrize("method", ["auto", "igq", "lrp"])
def test_impossible_overhead_budget_names_one_that_works(tiny_path, method):
    options = {"method": method, "bits": "w4a4", "effort": "low"}
    with pytest.raises(BudgetError, match="--overhead-budget allows 0;") as caught:
        compile_model(tiny_path, fast(**options, overhead_budget=0.0))
    enough = named_budget(caught.value, "give --overhead-budget")
    report = compile_model(tiny_path, fast(**options, overhead_budget=enough)).report
    assert enough - 1e-4 < report.bops.overhead <= enough  # the least one, rounded up


@pytest.mark.parametrize(
    "options",
    [
        {"method": "gptq"},
        {"groups": "free"},
        {"stop_after": "fuse"},
        {"bop_budget": 0.0},
        {"bop_budget": 1.5},
        {"bop_budget": float("nan")},
        {"overhead_budget": -0.1},
        {"overhead_budget": float("nan")},
        {"first_last_bits": 1},
        {"first_last_bits": 9},
        {"group_candidates": ()},
        {"group_candidates": (0, 4)},
        {"group_candidates": (65,)},
        {"images": 0},
        {"probe_images": 0},
        {"stats": "a", "save_stats": "b"},
        {"trial_images": 0},
        {"size_budget": 0.0},
        {"size_budget": 1.01},
        {"size_budget": float("nan")},
        {"effort": "none"},
        {"executor": "threads"},
        {"lrp_rule": "epsilon"},
        {"bits": "w4a4", "bits_file": "plan.json"},
        {"threads": -1},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options):
    with pytest.raises(OptionError):
        fast(**options)


@pytest.mark.parametrize("bits", ["4", "w1a4", "w4a9", "int8"])
def test_widths_that_make_no_sense(tiny_path, bits):
    with pytest.raises(OptionError, match="widths"):
        compile_model(tiny_path, fast(bits=bits))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_weights(value):
    model = tiny()
    tensor = next(item for item in model.graph.initializer if item.name == "fc1_weight")
    weight = onnx.numpy_helper.to_array(tensor).copy()
    weight[3, 4] = value
    tensor.CopyFrom(onnx.numpy_helper.from_array(weight, "fc1_weight"))
    with pytest.raises(NonFiniteError, match="weight 'fc1_weight' holds 1 values"):
        compile_model(model, fast(bits="w4a4"), Reader(feeds()))


def test_non_finite_calibration_data(tiny_path):
    bad = feeds()
    bad[2]["x"][0, 0, 1, 1] = np.nan
    with pytest.raises(NonFiniteError, match="'x' holds NaN or infinity"):
        compile_model(tiny_path, fast(bits="w4a4"), Reader(bad))


def test_calibration_data_that_blows_up_inside():
    """The image itself is finite, what the first layer makes of it is not."""
    model = tiny()
    tensor = next(item for item in model.graph.initializer if item.name == "patch_weight")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1e6), "patch_weight"))
    bad = feeds()
    bad[2]["x"] *= np.float32(1e35)
    with pytest.raises(NonFiniteError, match=r"activation '.*' holds NaN or infinity on calibration image 3"):
        compile_model(model, fast(bits="w4a4"), Reader(bad))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": images(3)}, "'y' but not 'x'"),
        ({"x": images(3)[:, 0]}, "has shape"),
        ({"x": images(3)[:, :, :4]}, "has shape"),
        ({"x": images(3).astype(np.uint8)}, "uint8"),
        ({"x": images(0)}, "no images"),
    ],
    ids=["name", "rank", "size", "type", "empty"],
)
def test_calibration_data_that_does_not_fit(tiny_path, tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(CalibrationDataError, match=message):
        compile_model(tiny_path, fast(bits="w4a4"), tmp_path / "data.npz")


@pytest.mark.parametrize(
    "reader",
    [Reader([]), Reader(feeds(name="y")), Reader([[1, 2]]), SimpleNamespace(get=1)],
    ids=["empty", "name", "no dict", "no reader"],
)
def test_readers_that_do_not_fit(tiny_path, reader):
    with pytest.raises(CalibrationDataError):
        compile_model(tiny_path, fast(bits="w4a4"), reader)


def test_a_reader_that_cannot_start_again(tiny_path):
    reader = Reader(feeds())
    with pytest.raises(CalibrationDataError, match=r"no rewind\(\)"):
        compile_model(tiny_path, fast(bits="w4a4"), SimpleNamespace(get_next=reader.get_next))


def test_a_reader_of_the_user(tiny_path):
    report = compile_model(tiny_path, fast(bits="w8a8"), Reader(feeds(6))).report
    assert report.calibration["kind"] == "reader"
    assert report.agreement["images"] == 6


def test_batch_that_is_not_the_fixed_one(tmp_path):
    path = save(tmp_path, batch=8)
    with pytest.raises(CalibrationDataError, match="fixed at 8"):
        compile_model(path, fast(bits="w4a4"), Reader(feeds()))


def test_missing_calibration_data(tiny_path, tmp_path):
    with pytest.raises(CalibrationDataError, match="no such file"):
        compile_model(tiny_path, fast(bits="w4a4"), tmp_path / "none.npz")


@pytest.mark.parametrize("name", ["none.npz", "tiny.calib.npz"])
def test_wrong_statistics_file(tiny_path, name):
    with pytest.raises(CalibrationDataError, match="not a statistics file"):
        compile_model(tiny_path, fast(bits="w4a4", stats=tiny_path.with_name(name)))


def test_statistics_of_another_model(tiny_path, tmp_path):
    stats = tmp_path / "stats.npz"
    compile_model(tiny_path, fast(bits="w8a8", save_stats=stats))
    other = tiny()
    for node in other.graph.node:
        node.name = f"other_{node.name}"
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = {"e": "embedded", "h": "hidden", "n1": "normed"}.get(name, name)
    with pytest.raises(CalibrationDataError, match="another model"):
        compile_model(other, fast(bits="w8a8", stats=stats), tiny_path.with_name("tiny.calib.npz"))


def test_statistics_of_images_without_the_images(tiny_path, tmp_path):
    """Synthetic images must not take their place in silence; statistics of synthetic images need no others."""
    stats = tmp_path / "stats.npz"
    compile_model(tiny_path, fast(bits="w8a8", save_stats=stats))
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(tiny_path.read_bytes())
    with pytest.raises(CalibrationDataError, match=r"images of .*tiny\.calib\.npz but no images, .* with --calib"):
        compile_model(alone, fast(bits="w8a8", stats=stats))
    compile_model(alone, fast(bits="w8a8", stats=stats), tiny_path.with_name("tiny.calib.npz"))
    compile_model(alone, fast(bits="w8a8", save_stats=stats))
    assert compile_model(alone, fast(bits="w8a8", stats=stats)).report.calibration["kind"] == "synthetic"


def test_statistics_of_a_model_with_other_sizes(tiny_path, tmp_path):
    """The same names, twice the hidden channels."""
    stats = tmp_path / "stats.npz"
    compile_model(tiny_path, fast(bits="w8a8", save_stats=stats))
    wider = tiny()
    for tensor in wider.graph.initializer:
        axis = {"fc1_weight": 1, "fc1_bias": 0, "fc2_weight": 0}.get(tensor.name)
        if axis is not None:
            value = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.concatenate([value, value], axis), tensor.name))
    with pytest.raises(CalibrationDataError):
        compile_model(wider, fast(bits="w8a8", stats=stats), tiny_path.with_name("tiny.calib.npz"))


@pytest.mark.parametrize("content", [b"", b"not a model", None], ids=["empty", "text", "missing"])
def test_files_that_are_no_model(tmp_path, content):
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelFileError):
        compile_model(tmp_path / "m.onnx", fast(bits="w4a4"))


def test_a_model_without_attention():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 1, 8, 8] x) => (float[n, 1, 8, 8] y) { y = Relu (x) }"""
    )
    with pytest.raises(UnsupportedModelError, match="no attention block"):
        compile_model(model, fast(bits="w4a4"), Reader(feeds()))
