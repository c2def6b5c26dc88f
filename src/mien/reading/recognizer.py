"""Faces to expressions: an ONNX session and the metadata inside its file.

A model file carries everything that its use needs: labels, preprocessing (in the graph: uint8 in, logits out),
temperature, threshold, recipe and measured scores. Nothing is decided by a file's name.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from jaxtyping import Float32, UInt8

from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.faces import CenterFace, Face, FaceDetector, crop, session_options
from mien.reading.images import ImageSource, open_image

FORMAT = "mien-1"
"""Value of the metadata key `format`; another value means a file that this version does not know."""

DEFAULT_MODEL = "mien-small"
SIDE = 48  # pixels of a network input
VIEWS = ("single", "mirror")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one face expresses.

    Attributes:
        face: Where it is, in pixels of the upright image.
        expression: The most probable of the seven.
        confidence: Its probability, calibrated, in [0, 1].
        uncertain: The confidence is below the model's threshold: better take no answer than this one.
        probabilities: One number an expression, in their order; they sum to 1.
        flags: What speaks against trusting it: `small` (fewer pixels than the network takes), `cut` (the face
            reaches beyond the image).
    """

    face: Face
    expression: Expression
    confidence: float
    uncertain: bool
    probabilities: dict[Expression, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """The metadata inside a model file.

    Attributes:
        name: The model's name.
        labels: The expression of each output.
        temperature: What logits are divided by before the softmax.
        threshold: Confidence below which an answer is called uncertain.
        recipe: The recipe, as JSON text.
        scores: Measured scores, by split.
        licence: Terms of the weights.
        data_sha256: Checksum of the data set that it learned from.
        probe: Logits of `probe_image`, by which any machine can check that it computes the same.
        precision: "float32", or "int8": weights and activations in 8 bits.
    """

    name: str
    labels: tuple[Expression, ...]
    temperature: float
    threshold: float
    recipe: str
    scores: dict[str, Any]
    licence: str
    data_sha256: str
    probe: tuple[float, ...]
    precision: str = "float32"

    @property
    def tolerance(self) -> float:
        """How far a logit of the probe may be off on another machine: the last bit of 8 is worth more than of 24."""
        return 0.1 if self.precision == "int8" else 1e-3

    def to_metadata(self) -> dict[str, str]:
        """As ONNX `metadata_props`: text by key, JSON where it is no plain text."""
        return {
            "format": FORMAT,
            "name": self.name,
            "labels": json.dumps(self.labels),
            "temperature": repr(self.temperature),
            "threshold": repr(self.threshold),
            "recipe": self.recipe,
            "scores": json.dumps(self.scores),
            "licence": self.licence,
            "data_sha256": self.data_sha256,
            "probe": json.dumps(self.probe),
            "precision": self.precision,
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], source: str) -> "Card":
        """Read back what `to_metadata` wrote.

        Raises:
            Damaged: The file is not a mien model, or its metadata make no sense.
        """
        if metadata.get("format") != FORMAT:
            raise Damaged(
                f"{source} is no model of this package: its metadata key 'format' should be {FORMAT!r}, but is "
                f"{metadata.get('format')!r}; make one with: mien export RUN --out FILE.onnx"
            )
        try:
            card = cls(
                name=metadata["name"],
                labels=tuple(Expression(label) for label in json.loads(metadata["labels"])),
                temperature=float(metadata["temperature"]),
                threshold=float(metadata["threshold"]),
                recipe=metadata["recipe"],
                scores=json.loads(metadata["scores"]),
                licence=metadata["licence"],
                data_sha256=metadata["data_sha256"],
                probe=tuple(float(v) for v in json.loads(metadata["probe"])),
                precision=metadata.get("precision", "float32"),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise Damaged(f"the metadata of {source} are damaged: {error}") from error
        if sorted(card.labels) != sorted(EXPRESSIONS) or not card.temperature > 0:
            raise Damaged(f"{source} should name the seven expressions and a temperature above 0 in its metadata")
        return card


def probe_image() -> UInt8[np.ndarray, "48 48"]:
    """A fixed picture of all 256 greys, without a face."""
    return (np.arange(SIDE * SIDE) * 7 % 256).astype(np.uint8).reshape(SIDE, SIDE)


class Recognizer:
    """A network that tells expressions, ready to use.

    Args:
        path: An .onnx file that mien exported.
        views: "single", or "mirror" to average with the mirrored face (twice the time).
        threads: Threads of ONNX Runtime; 0 for one a core, eight at most.
        providers: ONNX Runtime's execution providers, in order of preference.

    Raises:
        FileError: The file is missing or cannot be read.
        Damaged: It is no ONNX model, or none of ours.
        InputError: Unknown views, or a provider that is not installed.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        views: str = "single",
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        if views not in VIEWS:
            raise InputError(f"views should be one of {', '.join(VIEWS)}, but is {views!r}")
        if missing := set(providers) - set(ort.get_available_providers()):
            raise InputError(
                f"ONNX Runtime has no {', '.join(sorted(missing))} here; it has "
                f"{', '.join(ort.get_available_providers())}"
            )
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise FileError(f"cannot read the model {path}: {error.strerror}") from error
        try:
            # From bytes, so that a model cannot name other files to load.
            self._session = ort.InferenceSession(content, session_options(threads), providers=list(providers))
        except Exception as error:  # ONNX Runtime's own errors share no base but Exception
            raise Damaged(f"{path} is not an ONNX model that can be run: {error}") from error
        self.path = Path(path)
        self.card = Card.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self.views = views
        (self._input,) = (i.name for i in self._session.get_inputs())
        # Files list outputs in their own order; readings and tables have one order.
        self._order = [self.card.labels.index(e) for e in EXPRESSIONS]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    def self_test(self) -> float:
        """Largest difference between the probe's logits here and where the model was made; `card.tolerance` at most."""
        return float(np.abs(self.logits(probe_image()[None])[0] - np.array(self.card.probe)).max())

    @cached_property
    def detector(self) -> FaceDetector:
        """Finds the faces for `read`; made when it is first needed, and may be replaced."""
        return CenterFace()

    def logits(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float32[np.ndarray, "B 7"]:
        """The network's raw outputs in the order of `EXPRESSIONS`, before temperature and softmax; single view.

        Raises:
            InputError: Not uint8 or not (B, 48, 48).
        """
        if not isinstance(faces, np.ndarray) or faces.dtype != np.uint8 or faces.shape[1:] != (SIDE, SIDE):
            came = f"{faces.dtype} {faces.shape}" if isinstance(faces, np.ndarray) else type(faces).__name__
            raise InputError(
                f"expected grey faces as uint8 (B, {SIDE}, {SIDE}), but got {came}; mien.read takes whole photos"
            )
        if not len(faces):
            return np.empty((0, len(EXPRESSIONS)), np.float32)
        (logits,) = self._session.run(None, {self._input: faces})
        ordered: Float32[np.ndarray, "B 7"] = logits[:, self._order]
        return ordered

    def probabilities(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float32[np.ndarray, "B 7"]:
        """Calibrated probabilities of grey faces, in the order of `EXPRESSIONS`.

        Raises:
            InputError: Not uint8 or not (B, 48, 48).
        """
        logits = self.logits(faces) / self.card.temperature
        if self.views == "mirror":
            mirrored = self.logits(np.ascontiguousarray(faces[:, :, ::-1])) / self.card.temperature
            mean: Float32[np.ndarray, "B 7"] = (_softmax(logits) + _softmax(mirrored)) / 2
            return mean
        return _softmax(logits)

    def read(self, source: ImageSource) -> list[Reading]:
        """Find the faces of one photo and say what each expresses, the largest face first.

        Args:
            source: A path, encoded bytes, an RGB or grey uint8 array, or a PIL image.

        Returns:
            One reading a face; an empty list where there is none.

        Raises:
            FileError, Damaged, InputError: As `mien.reading.images.open_image`.
        """
        return self.read_image(open_image(source))

    def read_image(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Reading]:
        """`read` for an upright RGB image that is decoded already."""
        faces, crops = self.find_faces(image)
        rows = self.probabilities(crops)
        return [self.reading(face, row, image.shape[1], image.shape[0]) for face, row in zip(faces, rows, strict=True)]

    def find_faces(self, image: UInt8[np.ndarray, "H W 3"]) -> tuple[list[Face], UInt8[np.ndarray, "B 48 48"]]:
        """First half of `read_image`: the faces, and each as the network takes it."""
        faces = self.detector.find(image)
        return faces, np.stack([crop(image, face) for face in faces]) if faces else np.empty((0, SIDE, SIDE), np.uint8)

    def reading(self, face: Face, row: Float32[np.ndarray, "7"], width: int, height: int) -> Reading:
        """What one row of `probabilities` says of a face in an image of `width` x `height` pixels."""
        best = int(row.argmax())
        x, y, w, h = face.box
        cut = x < 0 or y < 0 or x + w > width or y + h > height
        flags = [name for name, raised in (("small", h < SIDE), ("cut", cut)) if raised]
        return Reading(
            face=face,
            expression=EXPRESSIONS[best],
            confidence=float(row[best]),
            uncertain=bool(row[best] < self.card.threshold),
            probabilities={e: float(p) for e, p in zip(EXPRESSIONS, row, strict=True)},
            flags=tuple(flags),
        )


def _softmax(logits: Float32[np.ndarray, "B 7"]) -> Float32[np.ndarray, "B 7"]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: Float32[np.ndarray, "B 7"] = powers / powers.sum(1, keepdims=True)
    return result


def model_files() -> dict[str, Path]:
    """The models inside the package, by name."""
    folder = Path(str(resources.files("mien") / "models"))
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def load_model(
    model: str | PathLike[str] = DEFAULT_MODEL,
    *,
    views: str = "single",
    threads: int = 0,
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> Recognizer:
    """A recognizer by name or from a file.

    Args:
        model: The name of a model in the package, or the path of an .onnx file.
        views: "single", or "mirror" to average with the mirrored face.
        threads: Threads of ONNX Runtime; 0 for one a core, eight at most.
        providers: ONNX Runtime's execution providers, in order of preference.

    Raises:
        NotFound: No model has this name.
        FileError, Damaged, InputError: As `Recognizer`.
    """
    known = model_files()
    if str(model) in known:
        return Recognizer(known[str(model)], views=views, threads=threads, providers=providers)
    if Path(model).suffix != ".onnx":
        raise NotFound.named("model", str(model), [*known, "(or the path of an .onnx file)"])
    return Recognizer(model, views=views, threads=threads, providers=providers)


@lru_cache(maxsize=1)
def _default() -> Recognizer:
    return load_model()


def read(source: ImageSource) -> list[Reading]:
    """Find the faces of one photo and say what each expresses, with the default model.

    Args:
        source: A path, encoded bytes, an RGB or grey uint8 array, or a PIL image.

    Returns:
        One reading a face, the largest face first; an empty list where there is none.

    Raises:
        FileError: The file is missing or may not be read.
        Damaged: It is no image, or a broken one.
        InputError: An array or image of a kind that is not taken, or too many pixels.
    """
    return _default().read(source)
