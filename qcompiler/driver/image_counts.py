"""How much a search measures: of a small model on many images and in many plans, of a large one on few."""

from __future__ import annotations

from qcompiler.driver.effort import LEVELS
from qcompiler.ir.structure import Structure
from qcompiler.options import CompileOptions
from qcompiler.quant.sites import attention_products, linear_product

PROBES, TRIALS = (8, 32), (64, 192)  # least and most
PROBE_MACS, TRIAL_MACS = 1.5e11, 1.2e12  # multiply-accumulates of all images together that decide in between
FINALISTS, FINAL_MACS = (1, 4), 1e10  # likewise of one image in all plans whose weights are fitted to all images
LEAST_MOVES, MOVE_MACS = 4, 8e10  # likewise of one image in all plans with other weights of parts


def probe_images(options: CompileOptions, structure: Structure) -> int:
    """Images that sensitivities are measured on."""
    return options.probe_images or _affordable(structure, PROBE_MACS, *PROBES)


def trial_images(options: CompileOptions, structure: Structure) -> int:
    """Images that whole plans are tried out on."""
    return options.trial_images or _affordable(structure, TRIAL_MACS, *TRIALS)


def finalists(structure: Structure) -> int:
    """Plans that get their final weights before one of them is chosen."""
    return _affordable(structure, FINAL_MACS, *FINALISTS)


def part_moves(options: CompileOptions, structure: Structure) -> int:
    """Plans with other weights of parts that are tried out: as many as the effort asks for, or fewer."""
    most = LEVELS[options.effort].trials
    return _affordable(structure, MOVE_MACS, min(LEAST_MOVES, most), most)


def _affordable(structure: Structure, macs: float, least: int, most: int) -> int:
    products = [linear_product(layer) for layer in structure.linears]
    products += [product for block in structure.attentions for product in attention_products(block)]
    one = sum(product.macs for product in products) or 1
    return min(max(int(macs / one), least), most)
