"""The command as users start it: exit codes, one-line errors, help."""

import os
import subprocess
import sys

import onnx
import pytest

import qcompiler

COMMAND = [sys.executable, "-m", "qcompiler.cli"]


def qcompile(*words, **more):
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, **more)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: MODEL"),
        (["nosuch.onnx"], "does not exist"),
        (["."], "holds 3 .onnx files"),
        (["text.onnx"], "not an ONNX file"),
        (["relu.onnx"], "nothing in this model can be quantized"),
        (["m.onnx"], "--overhead-budget"),
        (["m.onnx", "--unknown"], "unrecognized arguments: --unknown"),
        (["m.onnx", "--calib", "nosuch.npz"], ""),
        (["m.onnx", "--bop-budget", "much"], "--bop-budget"),
        (["m.onnx", "--bop-budget", "7"], "(0, 1]"),
        (["m.onnx", "--bits", "w9a9"], ""),
        (["m.onnx", "--images", "0"], "at least 1"),
        (["m.onnx", "--mean", "a,b"], "--mean"),
        (["m.onnx", "--mean", "1,2", "--std", "1"], "1 or 3"),
        (["m.onnx", "--quiet", "--images"], "--images"),
        (["m.onnx", "--size-budget", "1.5"], "(0, 1]"),
        (["m.onnx", "--bits-file", "nosuch.json", "--bits", "w4a4"], "give one of the two"),
        (["m.onnx", "--effort", "most"], "--effort"),
        (["m.onnx", "--threads", "-1"], "--threads"),
        (["m.onnx", "--save-plan", "none/plan.json"], "--save-plan"),
        (["m.onnx", "--save-plan", "m.onnx"], "is a file that is read"),
        (["analyze"], "required: MODEL"),
        (["analyze", "nosuch.onnx"], "does not exist"),
        (["analyze", "text.onnx"], "not an ONNX file"),
        (["analyze", "relu.onnx"], "nothing in this model can be quantized"),
        (["analyze", "m.onnx", "--bop-budget", "7"], "(0, 1]"),
        (["analyze", "m.onnx", "--save-stats", "m.onnx"], "is a file that is read"),
        (["analyze", "m.onnx", "--images", "0"], "at least 1"),
        (["inspect"], "required: MODEL"),
        (["inspect", "nosuch.onnx"], "does not exist"),
        (["inspect", "text.onnx"], "not an ONNX file"),
        (["eval", "m.onnx"], "--images"),
        (["eval", "text.onnx", "--images", "x.npz"], "cannot load 'text.onnx'"),
        (["eval", "m.onnx", "--images", "nosuch.npz"], "nosuch.npz"),
        (["bench", "m.onnx", "nosuch.onnx"], "does not exist"),
        (["bench", "m.onnx", "--batch", "0"], "--batch"),
        (["bench", "m.onnx", "--threads", "-1"], "--threads"),
        (["export", "vit_tiny"], "timm:"),
        (["export", "timm:x", "--batch", "many"], "'many'"),
    ],
)
def test_what_users_can_fix_is_one_line_and_exit_code_2(model, words, says):
    folder = model.parent
    (folder / "text.onnx").write_text("certainly not a protocol buffer")
    relu = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]> g (float[n, 4] x) => (float[n, 4] y) { y = Relu (x) }'
    )
    onnx.save(relu, folder / "relu.onnx")
    before = sorted(os.listdir(folder))
    done = qcompile(*words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("qcompile: error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert sorted(os.listdir(folder)) == before


def test_version():
    done = qcompile("--version")
    assert (done.returncode, done.stdout) == (0, f"qcompile {qcompiler.__version__}\n")


def test_help_names_every_flag_and_command():
    done = qcompile("--help")
    assert done.returncode == 0
    flags = "--method --bop-budget --bits --overhead-budget --groups --first-last-bits --calib --preset --mean --std "
    flags += "--resize --crop --images --save-stats --stats --stop-after --verify-each --explain --threads --output "
    flags += "--quiet --json --verbose --version --size-budget --bits-file --save-plan --strict-bits --effort "
    flags += "--lrp-rule --executor --report --allow-collapse --resume"
    commands = ["qcompile analyze", "qcompile inspect", "qcompile eval", "qcompile bench", "qcompile export"]
    commands += ["qcompile deploy"]
    for word in [*flags.split(), *commands]:
        assert word in done.stdout, word


@pytest.mark.parametrize("command", ["analyze", "inspect", "eval", "bench", "export", "deploy"])
def test_every_command_has_help(command):
    done = qcompile(command, "--help")
    assert done.returncode == 0
    for word in (f"qcompile {command}", "--quiet", "--json"):
        assert word in done.stdout


def test_help_imports_no_extra():
    code = "import sys, qcompiler.cli; from qcompiler.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules, 'timm' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False False\n"


def test_a_reader_that_goes_away_is_no_traceback(model):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "inspect", model], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_output_for_a_terminal_that_knows_only_ascii(model):
    done = qcompile("inspect", model, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
