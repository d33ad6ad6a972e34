"""A latency budget from start to end, with operators that are really timed."""

import json
import re
from pathlib import Path

import pytest

import qcompiler.models
from qcompiler import runtime_ops
from qcompiler.driver import compile_model
from qcompiler.driver.latency import PlanTimes
from qcompiler.errors import BudgetError, OptionError
from qcompiler.options import DEFAULT_BOP_BUDGET, CompileOptions
from qcompiler.report.metadata import read_report
from tests.driver.runs import fast
from tests.driver.tiny import save

SHIPPED = Path(qcompiler.models.__file__).parent / "digits_vit.onnx"
LOOSE = 50.0  # more than any machine needs: so small a model may be slower than float


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """All tests of the module share what was measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QCOMPILER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compilations of a model of one block, quick enough for one a test: compiled(latency_budget=0.5)."""
    path = save(tmp_path_factory.mktemp("tiny"))
    return lambda **options: compile_model(path, fast(**{"effort": "low", **options}))


@pytest.fixture(scope="module")
def loose(compiled):
    try:
        runtime_ops.library_path()
    except runtime_ops.LibraryError as error:
        pytest.skip(str(error))
    return compiled(latency_budget=LOOSE)


@pytest.fixture(scope="module")
def least(compiled, loose):
    """The smallest fraction that any plan reaches, as an error names it."""
    with pytest.raises(BudgetError) as caught:
        compiled(latency_budget=0.001)
    message = str(caught.value)
    assert "--latency-budget allows 0.001" in message
    return float(re.search(r"give --latency-budget (\S+) or more", message)[1])


def test_the_shipped_model(library):
    """The report says what was predicted and what came out; without a limit of bit operations widths are wide."""
    report = compile_model(SHIPPED, fast(bits="w8a8", effort="low", latency_budget=LOOSE)).report
    latency = report.latency
    assert report.bops.fraction_of_w8a8 > DEFAULT_BOP_BUDGET
    assert (latency.budget, latency.threads) == (LOOSE, 1)
    assert 0 < latency.predicted <= LOOSE
    assert latency.measured > 0
    assert "on this processor" in latency.widths
    ratio = latency.predicted / latency.measured
    print(f"predicted {latency.predicted:.3f}, measured {latency.measured:.3f}: {ratio:.2f}")


def test_without_a_limit_of_bit_operations_widths_are_wide(loose):
    assert loose.report.bops.fraction_of_w8a8 > DEFAULT_BOP_BUDGET


def test_the_budget_that_the_message_names_is_enough(compiled, least):
    found = compiled(latency_budget=least)
    assert found.report.latency.predicted <= least * (1 + 1e-4)


def test_equal_commands_give_equal_bytes(compiled, least):
    """Times are in the cache now; what differs from run to run is not in the file."""
    first, second = (compiled(latency_budget=2 * least) for _ in range(2))
    assert first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)
    stored = read_report(first.model)
    assert stored.latency.predicted == first.report.latency.predicted
    assert stored.latency.measured is None
    assert json.loads(json.dumps(first.report.to_dict()))["latency"]["measured"] > 0


def test_both_limits_hold_together(compiled, loose):
    found = compiled(latency_budget=LOOSE, bop_budget=0.25)
    assert found.report.bops.fraction_of_w8a8 <= 0.25
    assert found.report.latency.predicted <= LOOSE


@pytest.mark.parametrize("method", ["igq", "mixq", "lrp"])
def test_every_method_takes_one(compiled, least, method):
    """But what ``igq`` may spend on products stays as it is: only its group counts are free."""
    found = compiled(latency_budget=LOOSE, method=method).report
    assert 0 < found.latency.predicted <= LOOSE
    assert (found.bops.fraction_of_w8a8 <= DEFAULT_BOP_BUDGET) == (method == "igq")


def test_a_plan_from_a_file_is_checked(compiled, loose, tmp_path):
    plan = tmp_path / "plan.json"
    compiled(latency_budget=LOOSE, save_plan=plan)
    again = compiled(latency_budget=LOOSE, bits_file=plan)
    assert again.report.latency.predicted == pytest.approx(loose.report.latency.predicted)
    with pytest.raises(BudgetError, match=r"the plan takes .* --latency-budget allows 0\.001; give --latency-budget"):
        compiled(latency_budget=0.001, bits_file=plan)


def test_models_without_a_latency_budget_are_not_timed(compiled, monkeypatch):
    monkeypatch.setattr(PlanTimes, "__init__", lambda *_: pytest.fail("timed"))
    assert compiled(bits="w4a4").report.latency is None


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_fractions_that_make_no_sense(wrong):
    with pytest.raises(OptionError, match="--latency-budget"):
        CompileOptions(latency_budget=wrong)


def test_it_is_about_the_lowered_model():
    with pytest.raises(OptionError, match="--stop-after"):
        CompileOptions(latency_budget=0.5, stop_after="quantize")


def test_what_limits_the_products():
    assert CompileOptions().product_budget == DEFAULT_BOP_BUDGET
    assert CompileOptions(latency_budget=0.5).product_budget is None
    assert CompileOptions(latency_budget=0.5, bop_budget=0.3).product_budget == 0.3
    assert CompileOptions(latency_budget=0.5, method="igq").product_budget == DEFAULT_BOP_BUDGET
    assert CompileOptions(bits="w4a4").product_budget is None
