"""The same images again, with a noise that nobody sees and no float model notices.

Many activations lie near the edge between two codes. Which side they fall on is chance, and what one low-bit model says
of one image changes with it: a noise of a millionth moved the top-1 of a W4A4 model on 650 images by 2.5 points. Models
that are compared on one draw of each image are compared by luck, too.
"""

from __future__ import annotations

import numpy as np

from qcompiler.evaluation.runs import Feed

NOISE = 1e-4  # standard deviation, in standard deviations of the input: a fortieth of a grey level


def redrawn(feed: Feed, draw: int, batch: int) -> Feed:
    """One draw of one batch.

    Args:
        feed: The batch.
        draw: Which draw, from 0: the batch as it is.
        batch: Number of the batch: other batches get other noise, the same one always the same.

    Returns:
        The feed with normal noise on its floating-point inputs; the others, constants and inputs with values that are
        not finite stay what they are.
    """
    if draw == 0:
        return feed
    random = np.random.default_rng([draw, batch])
    noisy = dict(feed)
    for name, values in feed.items():
        if np.issubdtype(values.dtype, np.floating):
            wide = values.astype(np.float64)
            scale = NOISE * float(np.std(wide)) if np.isfinite(wide).all() else 0.0
            noisy[name] = (wide + scale * random.standard_normal(values.shape)).astype(values.dtype)
    return noisy
