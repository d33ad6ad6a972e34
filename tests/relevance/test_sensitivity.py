"""Single layers against whole models edited by hand, and equal numbers wherever they are measured."""

import multiprocessing
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.special import rel_entr, softmax

import qcompiler.models
from qcompiler.errors import NonFiniteError, OptionError
from qcompiler.ir.importing import to_graph
from qcompiler.ir.outputs import with_outputs
from qcompiler.ir.passes import run_passes
from qcompiler.ir.saving import to_model
from qcompiler.ir.structure import find_structure
from qcompiler.passes import CANONICALISE
from qcompiler.quant.groups import GroupTable
from qcompiler.relevance.executors import InlineExecutor, ProcessExecutor, Transport
from qcompiler.relevance.jobs import Measured, SensitivityJob, Variant
from qcompiler.relevance.sensitivity import SensitivityProbe
from qcompiler.relevance.suffix import Operand

from .models import OPERANDS, constant, edited, images, model, run, with_weight

F = np.float32
SHIPPED = Path(qcompiler.models.__file__).parent
# Weight and output of the layer that reads each operand.
LAYERS = {
    "first linear": ("w1", "b"),
    "second linear": ("w2", "d"),
    "left of a product": (None, "m"),
    "right of a product": (None, "m"),
    "one of two readings": (None, "s"),
    "transposed": (None, "p"),  # behind the softmax: any tensor that depends on the operand
    "last": (None, "logits"),
}
ZERO = 1e-9  # a divergence in nats that rounding alone explains


class Counting:
    """Progress that counts."""

    def __init__(self):
        self.steps = 0

    def stage(self, name, total=None):
        raise AssertionError("the caller names the stage")

    def advance(self, steps=1):
        self.steps += steps


class OtherMachine:
    """Sends everything and takes the files away before it runs a task."""

    transport = Transport.OBJECTS

    def __init__(self, folder):
        self._folder = folder

    def run(self, function, shared, tasks):
        sent = pickle.dumps((function, shared, list(tasks)))
        for path in self._folder.rglob("*.npy"):
            path.unlink()
        function, shared, tasks = pickle.loads(sent)
        yield from enumerate(function(shared, task) for task in tasks)


def job(which, variants):
    return SensitivityJob(which, Operand(*OPERANDS[which]), *LAYERS[which], tuple(variants))


def measure(jobs, feeds, executor=None, made=None, progress=None, **options):
    with SensitivityProbe(made or model(), feeds, [item.operand for item in jobs], threads=1, **options) as probe:
        return probe.measure(jobs, executor or InlineExecutor(), progress)


def expected(made, place, function, weight, output, feeds):
    """Divergence and output error of two whole models, in double precision.

    Args:
        made: The float model.
        place: (node, index, tensor) of the operand.
        function: ONNX operator and constant put before it, or None.
        weight: Name and new value of an initialiser, or None.
        output: Tensor of the output error.
        feeds: Images.
    """
    changed = made if function is None else edited(made, place, function)
    changed = changed if weight is None else with_weight(changed, *weight)
    names = [made.graph.output[0].name, output]
    results = []
    for whole in (made, changed):
        runs = [run(with_outputs(whole, names), feed, names) for feed in feeds]
        results.append([np.concatenate([found[side] for found in runs]).astype(np.float64) for side in (0, 1)])
    (logits, exact), (new_logits, found) = results
    kl = rel_entr(softmax(logits, axis=1), softmax(new_logits, axis=1)).sum(axis=1).mean()
    return Measured(kl, ((found - exact) ** 2).sum() / (exact**2).sum())


def close(found, wanted, kl=1e-3):
    assert found.kl == pytest.approx(wanted.kl, rel=kl, abs=ZERO)
    assert found.output_error == pytest.approx(wanted.output_error, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("byte_limit", [2**30, 0])
@pytest.mark.parametrize("which", LAYERS)
def test_operands_against_the_edited_model(which, byte_limit):
    """Below the limit from stored values, without room for them from the images."""
    made, feeds, factors = model(), images(3), (0.5, 0.0)
    variants = [Variant(None), *(Variant(partial(np.multiply, F(factor))) for factor in factors)]
    (found,) = measure([job(which, variants)], feeds, byte_limit=byte_limit).values()
    assert found[0].kl == pytest.approx(0, abs=ZERO)
    assert found[0].output_error < 1e-12
    for measured, factor in zip(found[1:], factors, strict=True):
        wanted = expected(made, OPERANDS[which], ("Mul", factor), None, LAYERS[which][1], feeds)
        assert wanted.kl > 1e-6
        assert wanted.output_error > 1e-3
        close(measured, wanted)


@pytest.mark.parametrize("byte_limit", [2**30, 0])
@pytest.mark.parametrize("which", ["first linear", "second linear"])
@pytest.mark.parametrize("factor", [None, 0.75])
def test_weights_against_the_edited_model(which, byte_limit, factor):
    """Alone and together with the operand."""
    made, feeds, (name, output) = model(), images(2, batch=2), LAYERS[which]
    weight = np.round(constant(made, name))
    simulate = None if factor is None else partial(np.multiply, F(factor))
    (found,) = measure([job(which, [Variant(simulate, weight)])], feeds, byte_limit=byte_limit).values()
    function = None if factor is None else ("Mul", factor)
    wanted = expected(made, OPERANDS[which], function, (name, weight), output, feeds)
    assert wanted.output_error > 1e-3
    close(found[0], wanted)


@pytest.fixture(scope="module")
def digits():
    """The shipped model in canonical form, four images, and jobs on three of its layers."""
    graph = to_graph(onnx.load(SHIPPED / "digits_vit.onnx"))
    run_passes(graph, [make() for make in CANONICALISE])
    made, structure = to_model(graph), find_structure(graph)
    with np.load(SHIPPED / "digits_vit.calib.npz") as held:
        feeds = [{"input": held["input"][place : place + 2]} for place in (0, 100)]
    jobs = []
    for layer in (structure.linear(name) for name in ("blocks.0.attn.proj", "blocks.2.mlp.fc1", "head")):
        scale = F(np.abs(constant(made, layer.weight)).max() / 7)
        rounded = np.rint(constant(made, layer.weight) / scale) * scale
        variants = (Variant(partial(np.multiply, F(0.75))), Variant(np.round), Variant(None, rounded))
        operand = Operand(layer.name, 0, layer.source)
        jobs.append(SensitivityJob(layer.name, operand, layer.weight, layer.output, variants))
    return made, feeds, jobs


@pytest.mark.parametrize("byte_limit", [2**30, 150_000, 0])
def test_digits(digits, byte_limit):
    """Large weights are held apart from the graph here, and each limit lets other jobs start from stored values."""
    made, feeds, jobs = digits
    found = measure(jobs, feeds, made=made, byte_limit=byte_limit)
    for item in jobs:
        place = (item.operand.node, 0, item.operand.tensor)
        scaled = expected(made, place, ("Mul", 0.75), None, item.output, feeds)
        rounded = expected(made, place, None, (item.weight, item.variants[2].weight), item.output, feeds)
        close(found[item.name][0], scaled, kl=1e-2)
        close(found[item.name][2], rounded, kl=1e-2)
        assert min(scaled.kl, rounded.kl) > 100 * ZERO


def test_worker_processes_measure_the_same(digits):
    """Whatever the executor, where the values lie, and the order of the jobs."""
    made, feeds, jobs = digits
    inline = measure(jobs, feeds, made=made)
    for transport, ordered in ((Transport.FILES, jobs), (Transport.SAME_PROCESS, jobs[::-1])):
        found = measure(ordered, feeds, ProcessExecutor(2), made=made, transport=transport)
        assert list(found) == [item.name for item in ordered]
        assert found == inline
    assert measure(jobs, feeds, made=made, transport=Transport.FILES) == inline


def test_other_machines_need_no_file(digits):
    made, feeds, jobs = digits
    inline = measure(jobs, feeds, made=made)
    with SensitivityProbe(made, feeds, [item.operand for item in jobs], 1, transport=Transport.FILES) as probe:
        folder = Path(probe._folder.name)
        assert len(list(folder.rglob("*.npy"))) > len(jobs)
        assert probe.measure(jobs, OtherMachine(folder)) == inline


def test_values_and_files_of_one_probe_serve_many_measurements(digits):
    made, feeds, jobs = digits
    steps = Counting()
    with SensitivityProbe(made, feeds, [item.operand for item in jobs], 1, transport=Transport.FILES) as probe:
        folder = Path(probe._folder.name)
        whole = probe.measure(iter(jobs), InlineExecutor(), steps)
        assert steps.steps == len(jobs)
        for item in jobs:
            assert probe.measure([item], InlineExecutor()) == {item.name: whole[item.name]}
        assert folder.is_dir()
    assert not folder.exists()


def test_no_folder_is_left_when_the_float_run_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = with_weight(model(), "w2", np.full((8, 4), np.nan, F))
    with pytest.raises(NonFiniteError, match="the float model"):
        measure([], images(1), made=made, transport=Transport.FILES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("executor", [InlineExecutor(), ProcessExecutor(2)], ids=["inline", "processes"])
def test_what_a_simulation_raises(executor):
    """It arrives as it was raised, with its class and its message."""
    good, bad = Variant(np.round), Variant(partial(GroupTable.from_array, axis=-1, bits=4))
    jobs = [job("first linear", [good]), job("second linear", [good, bad]), job("last", [good])]
    with pytest.raises(OptionError, match=r"has shape \[groups, 6\], not \[1, 5, 8\]"):
        measure(jobs, images(2), executor)


class Stopping(Counting):
    """Progress that fails at the first step."""

    def advance(self, steps=1):
        raise KeyboardInterrupt


def test_workers_end_when_the_caller_is_interrupted():
    with pytest.raises(KeyboardInterrupt) as caught:  # which holds the traceback and all frames in it
        measure([job("last", [Variant(np.round)])], images(1), ProcessExecutor(2), progress=Stopping())
    assert not multiprocessing.active_children()
    assert caught.value.args == ()


def test_jobs_that_do_not_fit():
    feeds, shapes = images(1), partial(np.sum, axis=-1)
    with pytest.raises(ValueError, match="two jobs are named 'last'"):
        measure([job("last", [])] * 2, feeds)
    with pytest.raises(ValueError, match=r"'last': a simulated operand has shape \(1,\), not \(1, 4\)"):
        measure([job("last", [Variant(shapes)])], feeds)
    with pytest.raises(ValueError, match=r"'first linear': the weight of a variant has shape \(2, 2\), not \(6, 8\)"):
        measure([job("first linear", [Variant(None, np.zeros((2, 2), F))])], feeds)
    with pytest.raises(ValueError, match="'last': a variant has a weight, the job names no initialiser"):
        measure([job("last", [Variant(None, np.zeros((2, 2), F))])], feeds)


def test_a_quantizer_that_gives_nan():
    broken = Variant(partial(np.multiply, F(np.nan)))
    with pytest.raises(NonFiniteError, match="when 'second linear' is quantized"):
        measure([job("second linear", [broken])], images(1))


def test_simulations_see_the_float_operand_and_cannot_change_it():
    feeds, seen = images(2), []

    def look(x):
        seen.append(x.copy())
        with pytest.raises(ValueError, match="read-only"):
            x[:] = 0
        return x

    measure([job("first linear", [Variant(look)])], feeds)
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate([feed["x"] for feed in feeds]))


def test_an_operand_that_was_not_announced_runs_from_the_images():
    feeds, variants = images(2), [Variant(np.round)]
    announced = measure([job("second linear", variants)], feeds)
    with SensitivityProbe(model(), feeds, [], threads=1) as probe:
        found = probe.measure([job("second linear", variants)], InlineExecutor())
    close(found["second linear"][0], announced["second linear"][0])


def test_fixed_batch():
    feeds, jobs = images(2, batch=4), [job("second linear", [Variant(np.round)])]
    fixed, free = (measure(jobs, feeds, made=model(batch)) for batch in (4, "n"))
    close(fixed["second linear"][0], free["second linear"][0])
