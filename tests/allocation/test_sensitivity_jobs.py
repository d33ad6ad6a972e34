"""Jobs: the right operand of the right node with the right simulation, and only what is asked for."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from qcompiler.allocation.attention_candidates import attention_candidates
from qcompiler.allocation.candidates import linear_candidates
from qcompiler.allocation.sensitivity_jobs import (
    ATTENTION_ROLES,
    attention_jobs,
    best_inputs,
    best_weights,
    input_job,
    nearest_widths,
    weight_job,
)
from qcompiler.allocation.space import InputScheme, SearchSpace
from qcompiler.quant.blocks import fake_quantize_blocks, fake_quantize_values
from qcompiler.quant.choices import BLOCKS, GROUPS
from qcompiler.quant.groups import fake_quantize
from qcompiler.quant.planner import quantize_probability
from qcompiler.relevance.suffix import Operand

from .layers import attention, attention_samples, input_samples, linear, made_up_linear, weight

SCHEMES = (InputScheme(BLOCKS, 1, 16, 16), InputScheme(BLOCKS))
SPACE = SearchSpace((3, 4), (3, 4), SCHEMES, weight_blocks=(0, 32))
OPERAND = Operand("fc", 0, "x")


@pytest.mark.parametrize(
    ("widths", "centre", "count", "expected"),
    [
        ([3, 4, 5, 6], 4, 1, (4,)),
        ([3, 4, 5, 6], 4, 2, (3, 4)),
        ([3, 4, 5, 6], 4, 3, (3, 4, 5)),
        ([3, 4, 4, 3, 8], 6, 2, (4, 8)),
        ([5, 6, 8], 2, 1, (5,)),
        ([4], 8, 6, (4,)),
        ([2, 8], 5, 1, (2,)),
    ],
)
def test_nearest_widths(widths, centre, count, expected):
    """Each width once; of two that are equally near the narrow one."""
    assert nearest_widths(iter(widths), centre, count) == expected


def test_best_candidates_of_each_width():
    found = made_up_linear(input_bits=(3, 3, 4, 4), weight_bits=(3, 4, 4), errors=((0.3, 0.2, 0.1, 0.1), (3, 2, 1)))
    assert best_inputs(found, (3, 4), 4) == [1, 2]
    assert best_inputs(found, (4,), 4) == [2]
    assert best_weights(found, (4, 3), 4) == [0, 2]


def test_best_candidates_of_each_family_at_the_middle_width():
    """Blocks of 16, whole tokens and groups at 4 bits; at 3 bits only the best of all, here whole tokens."""
    found = made_up_linear(input_bits=(4, 4, 4, 4, 3, 3, 5), errors=((4, 1, 3, 2, 0.9, 0.8, 0.1), (1, 1)))
    schemes = [InputScheme(BLOCKS, block=16), InputScheme(BLOCKS), InputScheme(BLOCKS, rotate=64)]
    schemes += [InputScheme(GROUPS, groups=8), InputScheme(BLOCKS, block=32), InputScheme(BLOCKS), schemes[0]]
    inputs = tuple(replace(item, scheme=scheme) for item, scheme in zip(found.inputs, schemes, strict=True))
    assert best_inputs(replace(found, inputs=inputs), (3, 4), 4) == [0, 1, 3, 5]
    weights = tuple(replace(found.weights[1], block=block, error=error) for block, error in ((0, 3), (16, 1), (32, 2)))
    assert best_weights(replace(found, weights=weights), (4,), 4) == [0, 1]
    assert best_weights(replace(found, weights=weights), (4,), 3) == [1]


@pytest.fixture(scope="module")
def candidates():
    return linear_candidates(linear(), input_samples(), weight(), SPACE, norm=None, integer=True)


def test_input_job(candidates):
    job = input_job(candidates, OPERAND, [2, 0])
    assert (job.name, job.operand, job.weight, job.output) == ("fc:input", OPERAND, "fc.weight", "fc.y")
    x = input_samples(seed=5).sample
    for variant, index in zip(job.variants, (2, 0), strict=True):
        assert variant.weight is None
        np.testing.assert_array_equal(variant.simulate(x), candidates.inputs[index].item(x))


def test_weight_job(candidates):
    job = weight_job(candidates, OPERAND, [1, 3])
    assert (job.name, job.operand, job.weight, job.output) == ("fc:weight", OPERAND, "fc.weight", "fc.y")
    for variant, index in zip(job.variants, (1, 3), strict=True):
        assert variant.simulate is None
        np.testing.assert_array_equal(variant.weight, candidates.rounded(candidates.weights[index]))
        assert variant.weight.dtype == np.float32


@pytest.mark.parametrize("scheme", [BLOCKS, GROUPS])
def test_attention_jobs(scheme):
    """One job for each operand; the key lies transposed in the graph, and goes to worker processes as all others."""
    samples = attention_samples()
    space = SearchSpace((4,), (3, 5), SPACE.schemes, attention=scheme, attention_groups=(2,))
    items = attention_candidates(attention(), samples, space)[:2]
    places = {role: Operand(f"attn/{node}", 0, role) for role, node in ATTENTION_ROLES.items()}
    outputs = {"attn/scores": "s", "attn/mixing": "m"}
    jobs = {job.name: job for job in attention_jobs(attention(), items, places, outputs)}
    assert list(jobs) == [f"attn/softmax:{role}" for role in ("query", "key", "probability", "value")]
    for role, job in zip(ATTENTION_ROLES, jobs.values(), strict=True):
        assert (job.operand, job.weight) == (places[role], None)
        assert job.output == {"scores": "s", "mixing": "m"}[ATTENTION_ROLES[role]]
        x = getattr(samples, role)
        for item, variant in zip(items, job.variants, strict=True):
            plan = item.plan
            if role == "probability":
                expected = quantize_probability(x, plan.probability, plan.levels)
            elif scheme == GROUPS:
                expected = fake_quantize(x, getattr(plan, role))
            elif role == "value":
                expected = fake_quantize_values(x, plan.value)
            else:
                expected = fake_quantize_blocks(x, plan.query_key)
            simulate = pickle.loads(pickle.dumps(variant.simulate))
            given = np.ascontiguousarray(x.swapaxes(-1, -2)) if role == "key" else x
            found = simulate(given)
            assert found.shape == given.shape and found.dtype == np.float32
            np.testing.assert_array_equal(found.swapaxes(-1, -2) if role == "key" else found, expected)
