"""What goes wrong with pictures of faces: eleven corruptions of 48 x 48 pixels, each at five strengths.

A strength stands for what the network is given, after the crop: a sigma of 1 pixel on a face that is 480 pixels high
in its photo is a blur of 10 pixels there. The same images, strength and seed give the same pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.errors import NotFound

SIDE = 48  # pixels
_GREY = 128

Image = UInt8[np.ndarray, "48 48"]
_Apply = Callable[[Image, float, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True)
class Corruption:
    """One way in which a picture gets worse.

    Attributes:
        apply: Image, strength and random numbers to the worse image, in [0, 255] or to be cut to it.
        unit: What a strength counts.
        strengths: Five, from mild to severe.
    """

    apply: _Apply
    unit: str
    strengths: tuple[float, float, float, float, float]


def _gaussian_blur(image: Image, sigma: float, generator: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def _motion_blur(image: Image, length: float, generator: np.random.Generator) -> np.ndarray:
    """Along a line of any direction."""
    angle = generator.uniform(0, np.pi)
    steps = np.linspace(-length / 2, length / 2, 4 * int(np.ceil(length)) + 1)
    shifted = [_moved(image, step * np.exp(1j * angle)) for step in steps]
    return np.asarray(np.mean(shifted, axis=0))


def _noise(image: Image, deviation: float, generator: np.random.Generator) -> np.ndarray:
    return image + generator.normal(0, deviation, image.shape)


def _jpeg(image: Image, quality: float, generator: np.random.Generator) -> np.ndarray:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _exposure(image: Image, gain: float, generator: np.random.Generator) -> np.ndarray:
    return image.astype(float) * gain


def _contrast(image: Image, share: float, generator: np.random.Generator) -> np.ndarray:
    return np.asarray(image.mean() + share * (image - image.mean()))


def _low_resolution(image: Image, side: float, generator: np.random.Generator) -> np.ndarray:
    """Averaged down, and up again as the crop enlarges a small face."""
    small = cv2.resize(image, (int(side), int(side)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _rotation(image: Image, degrees: float, generator: np.random.Generator) -> np.ndarray:
    """To either side."""
    middle = (SIDE - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees * generator.choice((-1, 1)), 1)
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _shift(image: Image, pixels: float, generator: np.random.Generator) -> np.ndarray:
    """In any direction; the border goes on."""
    return _moved(image, pixels * np.exp(1j * generator.uniform(0, 2 * np.pi)))


def _occlusion(image: Image, side: float, generator: np.random.Generator) -> np.ndarray:
    """By a grey square at any place within."""
    covered = image.copy()
    x, y = generator.integers(0, SIDE - int(side) + 1, 2)
    covered[y : y + int(side), x : x + int(side)] = _GREY
    return covered


def _moved(image: Image, way: complex) -> np.ndarray:
    matrix = np.array([[1, 0, way.real], [0, 1, way.imag]])
    return cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


CORRUPTIONS = {
    "gaussian blur": Corruption(_gaussian_blur, "sigma, pixels", (0.5, 1, 1.5, 2, 3)),
    "motion blur": Corruption(_motion_blur, "length, pixels", (3, 5, 7, 10, 14)),
    "noise": Corruption(_noise, "standard deviation, grey levels", (3, 6, 10, 20, 30)),
    "jpeg": Corruption(_jpeg, "quality", (70, 50, 30, 15, 5)),
    "darker": Corruption(_exposure, "light left", (0.7, 0.5, 0.3, 0.2, 0.1)),
    "brighter": Corruption(_exposure, "light times", (1.25, 1.5, 2, 3, 5)),
    "contrast": Corruption(_contrast, "contrast left", (0.7, 0.5, 0.3, 0.2, 0.1)),
    "low resolution": Corruption(_low_resolution, "side, pixels", (32, 24, 16, 12, 8)),
    "rotation": Corruption(_rotation, "degrees", (10, 20, 30, 45, 60)),
    "shift": Corruption(_shift, "pixels", (2, 4, 6, 9, 12)),
    "occlusion": Corruption(_occlusion, "side of the square, pixels", (8, 12, 16, 20, 26)),
}
"""By name. Blurs, resampling, rotation and JPEG are OpenCV's."""


def corrupt(
    images: UInt8[np.ndarray, "B 48 48"], name: str, strength: float, *, seed: int = 0
) -> UInt8[np.ndarray, "B 48 48"]:
    """Worse copies of grey faces.

    Args:
        images: Grey, in [0, 255].
        name: A key of `CORRUPTIONS`.
        strength: In that corruption's unit; any between its strengths too.
        seed: Of directions, places and noise: the same for every strength.

    Raises:
        NotFound: No corruption has this name.
    """
    if name not in CORRUPTIONS:
        raise NotFound.named("corruption", name, CORRUPTIONS)
    generator = np.random.default_rng(seed)
    worse = np.empty_like(images)
    for source, target in zip(images, worse, strict=True):
        target[:] = np.clip(np.rint(CORRUPTIONS[name].apply(source, strength, generator)), 0, 255)
    return worse
