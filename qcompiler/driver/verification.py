"""Verification of a written model, against nothing but itself, its calibration data and the model it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from qcompiler.calibration.preprocess import Preprocessing
from qcompiler.calibration.readers import CalibrationSource, open_calibration
from qcompiler.driver.canonical import model_inputs
from qcompiler.driver.checks import LEAST_AGREEMENT, MOST_ERROR
from qcompiler.driver.sessions import open_models
from qcompiler.errors import CalibrationDataError, ModelFileError, NonFiniteError, OptionError, UnsupportedModelError
from qcompiler.evaluation.agreement import Agreement, measure_agreement
from qcompiler.ir.loading import load_model
from qcompiler.progress import Progress, Silent
from qcompiler.report.metadata import read_report
from qcompiler.verification.bodies import check_bodies
from qcompiler.verification.budget import check_budget
from qcompiler.verification.checks import Check, Verification
from qcompiler.verification.constants import check_constants
from qcompiler.verification.contents import check_contents
from qcompiler.verification.kernels import check_kernels
from qcompiler.verification.structure import check_structure

_IMAGES = 64  # that a model is compared with float on


@dataclass(frozen=True)
class Evidence:
    """What a file is held against beside itself.

    Attributes:
        against: The float model that it was compiled from.
        calibration: The data that it was calibrated on, as a compilation takes it.
        images: Images to compare both models on; None for the calibration data, or synthetic ones without it.
        preprocessing: How image files become values; None for what the file's report says.
        limit: Most images for the comparison.
        least_agreement: Share of equal predictions from which models agree, percent; None for a third, which is asked
            for on real images only.
        most_error: Relative error up to which the outputs agree.
    """

    against: Path | None = None
    calibration: str | None = None
    images: str | None = None
    preprocessing: Preprocessing | None = None
    limit: int = _IMAGES
    least_agreement: float | None = None
    most_error: float = MOST_ERROR


def verify_file(
    path: Path, evidence: Evidence | None = None, *, threads: int = 0, progress: Progress | None = None
) -> Verification:
    """Check a written model from scratch; it is read and run, and nothing is written.

    Args:
        path: A model that qcompile wrote, in either of its forms.
        evidence: What to hold it against; None for itself alone.
        threads: Threads of ONNX Runtime; 0 for all cores.
        progress: Told about the checks.

    Returns:
        One entry per check, also of those that were skipped.

    Raises:
        CalibrationDataError: The data that is given cannot be used.
        RuntimeLibraryError: The operator library is there but cannot be used.
    """
    evidence, progress = evidence or Evidence(), progress or Silent()
    progress.stage("read the file")
    try:
        model = load_model(path)
    except (ModelFileError, NonFiniteError, UnsupportedModelError) as error:
        return Verification((Check("file", "failed", str(error)),))
    size = f"ONNX, IR version {model.ir_version}, {len(model.graph.initializer)} constants, all finite"
    structure = check_structure(model)
    checks = [Check("file", "ok", size), structure, check_contents(model), check_bodies(model)]
    if structure.status == "failed":
        broken = "the structure must hold first"
        names = ("constants", "budget", "kernels", "calibration", "agreement")
        return Verification((*checks, *(Check(name, "skipped", broken) for name in names)))
    checks += [check_constants(model), check_budget(model)]
    progress.stage("run the operators")
    checks.append(check_kernels(model))
    progress.stage("compare")
    checks += [_calibration(model, evidence), _agreement(path, model, evidence, threads)]
    return Verification(tuple(checks))


def _calibration(model: onnx.ModelProto, evidence: Evidence) -> Check:
    """The data that was given against the hash in the report."""
    name, report = "calibration", read_report(model)
    recorded = None if report is None else report.calibration.get("sha256")
    if report is None or not recorded:
        return Check(name, "skipped", "the file records no hash of its calibration data")
    if evidence.calibration is None:
        return Check(name, "skipped", f"sha256 {recorded}; give the data with --calib to compare it")
    limit = report.options.get("images")
    data = _open(model, evidence.calibration, evidence, limit if isinstance(limit, int) else None)
    found = data.content_hash()
    if found != recorded:
        return Check(
            name, "failed", f"{data.description} with sha256 {found}: the model was calibrated on data with {recorded}"
        )
    return Check(name, "ok", f"{data.description}, sha256 {found}")


def _agreement(path: Path, model: onnx.ModelProto, evidence: Evidence, threads: int) -> Check:
    """Both models on the same images."""
    name = "agreement"
    if evidence.against is None:
        return Check(name, "skipped", "give the float model with --against to compare with it")
    data = _open(model, evidence.images or evidence.calibration, evidence, evidence.limit)
    try:
        models = open_models([evidence.against, path], threads, without_library=False)
        first, second = models.all_runs.values()
        found = measure_agreement(first, second, data.reader, data.count)
    except (ModelFileError, NonFiniteError, OptionError, UnsupportedModelError) as error:
        return Check(name, "failed", str(error))
    problem = _disagreement(found, evidence, real=data.kind != "synthetic")
    if problem is not None:
        return Check(name, "failed", f"{problem} on {data.description}")
    same = "" if found.agreement is None else f"top-1 {found.agreement:.1f} %, "
    return Check(name, "ok", f"{same}relative error {found.relative_error:.3f} on {data.description}")


def _disagreement(found: Agreement, evidence: Evidence, real: bool) -> str | None:
    """What is wrong; near-ties of synthetic images say little about predictions, so that errors decide there."""
    least = evidence.least_agreement
    if least is None and real:
        least = LEAST_AGREEMENT
    if found.agreement is not None and least is not None and found.agreement < least:
        return f"top-1 agrees with '{evidence.against}' on {found.agreement:.1f} %, below {least:.1f} %,"
    if found.relative_error > evidence.most_error:
        error = f"{found.relative_error:.3f}, above {evidence.most_error:g},"
        return f"the relative error of output '{found.worst}' to '{evidence.against}' is {error}"
    return None


def _open(model: onnx.ModelProto, spec: str | None, evidence: Evidence, limit: int | None) -> CalibrationSource:
    report = read_report(model)
    preprocessing = evidence.preprocessing
    if preprocessing is None and report is not None:
        preprocessing = _recorded(report.calibration.get("preprocessing"))
    return open_calibration(spec, model_inputs(model), preprocessing, limit)


def _recorded(values: object) -> Preprocessing | None:
    """The preprocessing that a report tells of."""
    if not isinstance(values, Mapping):
        return None
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    try:
        return Preprocessing(**fields)
    except TypeError as error:
        raise CalibrationDataError("the report's preprocessing is unreadable: give it with --preset") from error
