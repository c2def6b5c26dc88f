"""What the golden values are computed from: formulas that Keras' side and ours both evaluate. numpy alone.

`tools/golden_keras.py` fed them to Keras once and wrote `tests/golden/*.json`; the tests feed them to torch.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

BATCH = 4
LABELS = (3, 0, 6, 1)
DECAY = 0.1  # large beside the published 1e-6, which would not show within five steps
GLOROT_SHAPES = ((3, 3, 1, 64), (5, 5, 64, 128), (2, 2, 256, 384), (2048, 512), (128, 7))


def uniform(shape: tuple[int, ...], seed: int, low: float, high: float) -> Array:
    """Hashed counters as numbers in [low, high): the same on every machine, unlike a random generator.

    Source: the 32-bit integer hash "lowbias32", https://nullprogram.com/blog/2018/07/31/.
    """
    bits = np.arange(prod(shape), dtype=np.uint32)
    bits += np.uint32(seed * 0x9E3779B1 % 2**32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        bits ^= bits >> np.uint32(shift)
        bits *= np.uint32(factor)
    # 24 bits are what a float32 holds exactly.
    unit = (bits >> np.uint32(8)).astype(np.float32) / np.float32(2**24)
    return (np.float32(low) + np.float32(high - low) * unit).reshape(shape)


def weights(shapes: list[tuple[int, ...]]) -> list[Array]:
    """One array for each shape of Keras' `model.get_weights()`, in its order and layout.

    Kernels are uniform within sqrt(6 / fan_in), which keeps the signal's size through many ReLUs; gamma and
    moving variance lie around 1, everything else around 0.
    """
    arrays = []
    since_kernel = 0
    for seed, shape in enumerate(shapes, start=1):
        if len(shape) > 1:
            limit = (6 / prod(shape[:-1])) ** 0.5
            arrays.append(uniform(shape, seed, -limit, limit))
            since_kernel = 0
            continue
        # After a kernel: 1 its bias, then of a batch norm 2 gamma, 3 beta, 4 moving mean, 5 moving variance.
        since_kernel += 1
        around_one = since_kernel in (2, 5)
        arrays.append(uniform(shape, seed, 0.6, 1.4) if around_one else uniform(shape, seed, -0.1, 0.1))
    return arrays


def images() -> Array:
    """(BATCH, 48, 48, 1) in [0, 1): patterns of growing fineness, so that outputs differ between images."""
    row, column = np.mgrid[0:48, 0:48]
    patterns = [(row * (i + 1) + column * (2 * i + 1) + row * column // (i + 5)) % 48 for i in range(BATCH)]
    return (np.stack(patterns)[..., None] / 48).astype(np.float32)


def start() -> Array:
    """Where the optimizers' small vector starts, (6,); small, so that float32 resolves single steps."""
    return uniform((6,), 1, -0.01, 0.01)


def gradients() -> Array:
    """Five gradients for it, (5, 6): from ordinary ones to 1e-8, where the place of epsilon matters most."""
    return uniform((5, 6), 2, -1, 1) * np.float32([1, 1e-2, 1e-4, 1e-6, 1e-7, 1e-8])


def scores() -> Array:
    """Logits (6, 7) for the losses; one row is certain and right, one certain and wrong: both get clipped."""
    rows = uniform((6, 7), 3, -3, 3)
    rows[4, 2] = rows[5, 2] = 40
    return rows


SCORE_LABELS = (0, 3, 6, 1, 2, 5)

# Validation loss and accuracy of the hundred published epochs of Jerin Paul's network: a real curve to try
# callbacks on. Source: the notebook's printed log, https://github.com/Paulymorphous/Facial-Emotion-Recognition
# at 5eb5f11.
PAUL_LOSS = (
    1.8632, 1.8373, 1.8307, 1.8241, 1.8181, 1.8182, 1.8051, 1.8087, 1.8026, 1.7916,
    1.7996, 1.7768, 1.9112, 1.7457, 1.6799, 1.7334, 1.5791, 1.6363, 1.5124, 1.4550,
    1.4805, 1.4034, 1.3723, 1.3896, 1.4201, 1.3892, 1.3851, 1.3637, 1.3062, 1.3092,
    1.2831, 1.2813, 1.3171, 1.2500, 1.2903, 1.3026, 1.1968, 1.2566, 1.1729, 1.2121,
    1.2705, 1.1888, 1.1911, 1.1846, 1.1845, 1.2226, 1.1779, 1.1815, 1.2371, 1.2138,
    1.2533, 1.2457, 1.2572, 1.2591, 1.2804, 1.3362, 1.2753, 1.2741, 1.3251, 1.2691,
    1.3048, 1.3361, 1.4147, 1.4144, 1.4474, 1.4521, 1.4289, 1.4690, 1.4637, 1.5473,
    1.4593, 1.6198, 1.5702, 1.5547, 1.5858, 1.6442, 1.6104, 1.6643, 1.6637, 1.6958,
    1.6776, 1.7085, 1.7577, 1.7455, 1.7401, 1.7579, 1.7705, 1.8005, 1.8083, 1.8132,
    1.8226, 1.8359, 1.8492, 1.8657, 1.8535, 1.8659, 1.8615, 1.9016, 1.9755, 1.9594,
)
PAUL_ACCURACY = (
    0.2489, 0.2489, 0.2489, 0.2489, 0.2489, 0.2489, 0.2489, 0.2489, 0.2489, 0.2497,
    0.2488, 0.2489, 0.2489, 0.2854, 0.3116, 0.2690, 0.3822, 0.3441, 0.3831, 0.4283,
    0.3884, 0.4317, 0.4416, 0.4458, 0.4022, 0.4249, 0.4341, 0.4519, 0.4663, 0.4745,
    0.4983, 0.5043, 0.4916, 0.5138, 0.4964, 0.5193, 0.5372, 0.5204, 0.5675, 0.5515,
    0.5341, 0.5613, 0.5543, 0.5831, 0.5794, 0.5760, 0.5881, 0.5825, 0.5865, 0.5794,
    0.5940, 0.5918, 0.5960, 0.6046, 0.6022, 0.5977, 0.6051, 0.6128, 0.6025, 0.6031,
    0.6042, 0.6099, 0.5994, 0.6173, 0.6132, 0.6098, 0.6193, 0.6122, 0.6164, 0.6195,
    0.6090, 0.6068, 0.6119, 0.6164, 0.6158, 0.6138, 0.6176, 0.6217, 0.6159, 0.6211,
    0.6203, 0.6198, 0.6234, 0.6170, 0.6200, 0.6198, 0.6263, 0.6212, 0.6204, 0.6178,
    0.6193, 0.6243, 0.6262, 0.6226, 0.6212, 0.6215, 0.6226, 0.6203, 0.6226, 0.6243,
)

# name: (monitored values, factor, patience). Each hides one trap.
PLATEAUS: dict[str, tuple[tuple[float, ...], float, int]] = {
    "published": (PAUL_LOSS, 0.9, 3),
    "gains below 1e-4 do not count": ((1.0, 0.99995, 0.99992, 0.99985, 0.9997, 0.99965, 0.99962), 0.5, 2),
    "absolute, not relative": ((50.0, 49.999, 49.998, 49.997, 49.997, 49.997), 0.5, 1),
    "patience 1 acts on the first bad epoch": ((1.0, 1.1, 0.9, 0.95, 0.95, 0.8), 0.1, 1),
    "patience 0 means 1": ((1.0, 1.1, 0.9, 0.9), 0.1, 0),
}

# name: (monitored values, patience); the greater the better.
STOPPINGS: dict[str, tuple[tuple[float, ...], int]] = {
    "published": (PAUL_ACCURACY, 6),
    "published, more patient": (PAUL_ACCURACY, 9),
    "an equal value is no gain": ((0.2, 0.3, 0.3, 0.3, 0.4, 0.4), 2),
    "never": ((0.1, 0.2, 0.15, 0.25, 0.2, 0.3), 2),
}
