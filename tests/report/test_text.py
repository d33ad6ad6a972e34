"""The report of a compilation as text."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from qcompiler.report import text

from .samples import LONG_NAME, MIXED, REPORT, STOPPED


def shown(part, width=100_000):
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, emoji=False, highlight=False).print(part)
    return stream.getvalue()


def lines(part):
    return {line.split("  ")[0]: line for line in shown(part).splitlines()}


def test_summary_says_what_it_cost():
    found = lines(text.summary(REPORT, Path("vit.onnx"), Path("vit.igq.onnx")))
    assert list(found) == ["model", "calibration", "agreement", "BOPs", "size", "written"]
    assert "vit.onnx: igq, w4a4, first and last layer at 8 bits, 3 quantized layers" in found["model"]
    assert "128 images of photos; mean 0.5 0.5 0.5, resize 248" in found["calibration"]
    assert "float and quantized agree on 96.1 % +- 1.7 of 128 calibration images; KL 0.0421" in found["agreement"]
    assert "26.0 M products (0.2500 of W8A8) + 566 k bookkeeping (0.0218 of the products)" in found["BOPs"]
    assert "+ 3.59 M fixed layers = 30.2 M (0.0181 of float32)" in found["BOPs"]
    assert "22.9 MB -> 4.12 MB (0.180 of float)" in found["size"]
    assert "vit.igq.onnx (42.3 s)" in found["written"]


def test_agreement_of_outputs_without_classes():
    measured = {"images": 8, "agreement": None, "agreement_se": None, "kl": None, "relative_error": 0.0123}
    measured |= {"psnr": 41.26, "worst": "y", "outputs": {"y": {}}}
    assert text.agreement(measured) == "relative error 0.0123 on 8 calibration images; PSNR 41.3 dB"
    several = text.agreement(measured | {"psnr": None, "outputs": {"x": {}, "y": {}}})
    assert several == "relative error 0.0123 in output 'y', the worst of 2 on 8 calibration images"


def test_agreement_of_several_outputs():
    measured = dict(REPORT.agreement) | {"psnr": 30.0, "worst": "boxes", "outputs": {"scores": {}, "boxes": {}}}
    found = text.agreement(measured)
    assert "agree on 96.1 %" in found
    assert found.endswith("relative error 0.1130 in output 'boxes', the worst of 2")


def test_summary_of_an_early_stage():
    found = lines(text.summary(STOPPED, Path("vit.onnx"), Path("vit.igq.onnx")))
    assert "canonical float graph" in found["model"]
    assert "not measured" in found["agreement"]
    assert "none" in found["BOPs"]


def test_no_fixed_layers_no_fixed_bits():
    report = replace(REPORT, layers=REPORT.layers[1:])
    assert text.method(report) == "igq, w4a4, 2 quantized layers"


def test_calibration_without_description():
    assert text.calibration({"kind": "reader", "preprocessing": None}) == "reader"
    assert text.calibration({}) == "none"


def test_layer_table():
    found = shown(text.layer_table(REPORT.layers)).splitlines()
    attention = next(line for line in found if line.strip().startswith("blocks.0.attn"))
    assert " ".join(attention.split()).endswith(" groups, codebook - 4/4 8/4/2/16 37 x 32 x 37 4.21 M 314 k")
    assert found[0] == "Layers"
    assert found[2].split()[-2:] == ["products", "bookkeeping"]  # nothing was measured
    assert any(LONG_NAME in line for line in found)
    assert any("patch[proj]" in line and "patch_embed (fixed)" in line for line in found)


def test_layer_table_of_mixed_widths_and_blocks():
    found = shown(text.layer_table(MIXED.layers)).splitlines()
    assert found[0] == "Layers (in parentheses: bits with the multiples and zero points of blocks)"
    assert found[2].split()[-5:] == ["products", "bookkeeping", "relevance", "KL", "alone"]
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in found[3:] if line.strip()}
    sizes = "37 x 96 x 288 12.0 M 1.00 M"
    blocks = "blocks 32, rotate 16; weight blocks 32"
    assert rows["blocks.0.qkv"] == f"qkv {blocks} 4 (4.25) 3 (3.26) - {sizes} 12.5 % 0.00421"
    assert rows["blocks.0.attn"] == "attention blocks 32, uniform - 4/5 8 37 x 32 x 37 4.21 M 314 k 50 % -"
    # Without metadata of blocks the effective bits are the nominal ones, and are not repeated.
    assert rows["blocks.0.fc1"] == rows["blocks.1.fc1"]
    assert rows["blocks.0.fc1"].startswith("fc1 channels 4 4 8 ")


def test_summary_of_mixed_widths_and_a_measured_loss():
    found = lines(text.summary(MIXED, Path("vit.onnx"), Path("q.onnx")))
    assert list(found) == ["model", "widths", "calibration", "agreement", "loss", "BOPs", "size", "written"]
    assert "auto, mixed, w4.12a3.90 on average, first and last layer at 8 bits" in found["model"]
    assert found["widths"].split(maxsplit=1)[1].strip() == "2 x w4a4, 1 x w4a3; attention 1 x 4/5"
    assert "KL 0.0375 nats" in found["loss"]


def test_layer_table_on_a_narrow_terminal_keeps_names_whole():
    assert "…" not in shown(text.layer_table(REPORT.layers), width=60)


def test_passes_stages_and_refusals():
    assert "fuse_epilogue" in shown(text.pass_table(REPORT.passes))
    assert "12.30" in shown(text.stage_table(REPORT.seconds))
    refusals = shown(text.refusal_table(REPORT.passes, "fuse_epilogue"))
    assert "its result has several readers" in refusals
    assert "fuse_gelu" not in refusals
