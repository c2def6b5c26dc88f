"""Faces to expressions: an ONNX session and the metadata inside its file.

A model file carries everything that its use needs: labels, preprocessing (in the graph: uint8 in, logits out),
calibration, threshold, recipe and measured scores. Nothing is decided by a file's name.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, partial
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import EXPRESSIONS, Expression
from mien.reading import quality
from mien.reading.faces import CenterFace, Face, FaceDetector, crop, share_outside
from mien.reading.graphs import MAX_BYTES, check_graph
from mien.reading.images import ImageSource, open_image
from mien.reading.runtime import CPU, open_session
from mien.storage import need_file, parse_json, suffix_of

FORMAT = "mien-2"
"""Value of the metadata key `format`; another value means a file that this version does not know."""

DEFAULT_MODEL = "mien-small"
SIDE = 48  # pixels of a network input
VIEWS = ("single", "mirror", "ten")
"""How often the network looks at a face: once; also at its mirror image; at five places of the frame, each with its
mirror image. The answers are averaged."""

PRECISIONS = ("float32", "int8")
_BATCH = 256  # faces: larger batches take memory and are no faster
_SHIFTS = ((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3))  # pixels down and right, of the five places
_MEMBER = {"name": str, "precision": str, "recipe": dict, "trainings": list, "data_sha256": str}
_COLDEST = 1e-3  # temperature; logits by a lower one are not finite
_FARTHEST = 1e3  # bias


@dataclass(frozen=True, slots=True)
class Reading:
    """What one face expresses.

    Attributes:
        face: Where it is, in pixels of the upright image.
        expression: The most probable of those the network knows: the seven, or contempt too.
        confidence: Its probability, calibrated, in [0, 1].
        uncertain: The confidence is below the model's threshold, which is higher for some flagged faces: better take
            no answer than this one.
        probabilities: One number an expression, in their order; they sum to 1.
        flags: What speaks against trusting it, of `small`, `blurred`, `dark`, `bright`, `rotated` and `cut`: see
            `mien.reading.quality`.
    """

    face: Face
    expression: Expression
    confidence: float
    uncertain: bool
    probabilities: dict[str, float]
    flags: tuple[str, ...] = ()

    @property
    def marks(self) -> str:
        """What a reader should doubt, in words: "uncertain" where it is, and the flags."""
        return " ".join((*(("uncertain",) if self.uncertain else ()), *self.flags))


@dataclass(frozen=True, slots=True)
class Card:
    """The metadata inside a model file.

    Attributes:
        name: The model's name.
        labels: The expression of each output: the seven `EXPRESSIONS`, or every `Expression`, in their order.
        temperatures: What each output is divided by before the softmax.
        biases: What is added to it then.
        threshold: Confidence below which an answer is called uncertain.
        recipe: The recipe, as JSON text.
        scores: Measured scores, by split.
        licence: Terms of the weights.
        data_sha256: Checksum of the files that it learned from, one after the other.
        probe: Logits of `probe_image`, by which any machine can check that it computes the same.
        precision: "float32", or "int8": weights and activations in 8 bits.
        trainings: In words, the trainings that made the weights, first to last; none in older files and ensembles,
            whose members' stand in the scores.
        learned: Sketches of the faces that it and its teachers learned from (`mien.measuring.sketch`); empty where that
            is not known.
    """

    name: str
    labels: tuple[Expression, ...]
    temperatures: tuple[float, ...]
    biases: tuple[float, ...]
    threshold: float
    recipe: str
    scores: dict[str, Any]
    licence: str
    data_sha256: str
    probe: tuple[float, ...]
    precision: str = "float32"
    trainings: tuple[str, ...] = ()
    learned: str = ""

    @property
    def tolerance(self) -> float:
        """How far a logit of the probe may be off on another machine: the last bit of 8 is worth more than of 24."""
        return 0.1 if self.precision == "int8" else 1e-3

    def to_metadata(self) -> dict[str, str]:
        """As ONNX `metadata_props`: text by key, JSON where it is no plain text."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {"format": FORMAT} | {name: v if isinstance(v, str) else json.dumps(v) for name, v in values}

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
                labels=tuple(Expression(label) for label in parse_json(metadata["labels"])),
                temperatures=tuple(float(v) for v in parse_json(metadata["temperatures"])),
                biases=tuple(float(v) for v in parse_json(metadata["biases"])),
                threshold=float(metadata["threshold"]),
                recipe=metadata["recipe"],
                scores=parse_json(metadata["scores"]),
                licence=metadata["licence"],
                data_sha256=metadata["data_sha256"],
                probe=tuple(float(v) for v in parse_json(metadata["probe"])),
                precision=metadata.get("precision", "float32"),
                trainings=tuple(str(v) for v in parse_json(metadata.get("trainings", "[]"))),
                learned=metadata.get("learned", ""),
            )
            json.dumps(card.scores, allow_nan=False)  # the server passes them on
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise Damaged(f"the metadata of {source} are damaged: {error}") from error
        if reason := card._senseless():
            raise Damaged(f"the metadata of {source} make no sense: {reason}")
        return card

    def _senseless(self) -> str:
        """What is wrong with the values of a card from a file; nothing where all is well."""
        if self.labels not in (EXPRESSIONS, tuple(Expression)):
            return f"expected the labels {', '.join(Expression)} in this order, with or without the last"
        if not len(self.temperatures) == len(self.biases) == len(self.probe) == len(self.labels):
            return "expected a temperature, a bias and a logit of the probe for each label"
        if not all(_COLDEST <= value <= 1 / _COLDEST for value in self.temperatures) or not 0 <= self.threshold <= 1:
            return "expected temperatures above 0 and a threshold in [0, 1]"
        if not all(abs(value) <= _FARTHEST for value in self.biases) or not np.isfinite(self.probe).all():
            return "expected finite biases and a finite probe"
        if not isinstance(self.scores, dict) or self.precision not in PRECISIONS:
            return f"expected scores by split, and a precision of {' or '.join(PRECISIONS)}"
        if not all(isinstance(found, list if name == "members" else dict) for name, found in self.scores.items()):
            return "expected scores by split, and a list of members"
        if not all(map(_is_member, self.scores.get("members", []))):
            return f"expected members that each have {', '.join(_MEMBER)}"
        return ""


def _is_member(found: Any) -> bool:
    """Whether this is what an ensemble's file says of one of its networks."""
    known = isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in _MEMBER.items())
    return known and isinstance(found.get("learned", ""), str)


def probe_image() -> UInt8[np.ndarray, "48 48"]:
    """A fixed picture of all 256 greys, without a face."""
    return (np.arange(SIDE * SIDE) * 7 % 256).astype(np.uint8).reshape(SIDE, SIDE)


class Recognizer:
    """A network that tells expressions, ready to use.

    Args:
        path: An .onnx file that mien exported.
        views: One of `VIEWS`: "single", "mirror" for twice the time, "ten" for ten times.
        threads: Threads of ONNX Runtime, up to 1024, for each of network and detector; 0 for one a core, eight at most.
        providers: ONNX Runtime's execution providers for both, in order of preference.

    Raises:
        FileError: The file is missing or cannot be read.
        Damaged: It is no ONNX model, or none of ours, or asks for more than a network for faces needs.
        InputError: Unknown views, a number of threads out of its range, or a provider that is not installed.

    Attributes:
        card: The metadata of the file.
        labels: What it answers, in this order: the seven `EXPRESSIONS`, or every `Expression`.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        views: str = "single",
        threads: int = 0,
        providers: Sequence[str] = CPU,
    ) -> None:
        check_views(views)
        need_file(path, most=MAX_BYTES)
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise FileError(f"cannot read the model {path}: {error.strerror}") from error
        check_graph(content, str(path), SIDE, (len(EXPRESSIONS), len(Expression)))
        try:
            self._session = open_session(content, threads=threads, providers=providers)
        except InputError:
            raise
        except Exception as error:  # ONNX Runtime's own errors share no base but Exception
            raise Damaged(f"{path} is not an ONNX model that can be run: {error}") from error
        self.path = Path(path)
        self.card = Card.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self.views = views
        self._threads, self._providers = threads, providers
        (self._input,) = (i.name for i in self._session.get_inputs())
        self.labels = self.card.labels
        self._temperatures = np.array(self.card.temperatures, np.float32)
        self._biases = np.array(self.card.biases, np.float32)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: it is loaded anew from its file, in another process too, and keeps its detector."""
        path, threads, providers = self.path.absolute(), self._threads, self._providers
        kept = {name: value for name, value in vars(self).items() if name == "detector"}
        return partial(type(self), path, views=self.views, threads=threads, providers=providers), (), kept

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
        return CenterFace(threads=self._threads, providers=self._providers)

    def logits(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float32[np.ndarray, "B C"]:
        """The network's raw outputs in the order of `labels`, before calibration and softmax; single view.

        Raises:
            InputError: Not uint8 or not (B, 48, 48).
        """
        check_faces(faces)
        if not len(faces):
            return np.empty((0, len(self.labels)), np.float32)
        try:
            batches = (faces[start : start + _BATCH] for start in range(0, len(faces), _BATCH))
            logits = np.concatenate([self._session.run(None, {self._input: batch})[0] for batch in batches])
        except Exception as error:  # as above
            raise Damaged(f"{self.path} cannot be run on {len(faces)} faces: {error}") from error
        if logits.shape != (len(faces), len(self.labels)) or not np.isfinite(logits).all():
            raise Damaged(
                f"{self.path} should give {len(self.labels)} finite logits for each of {len(faces)} faces, but gave "
                f"{logits.shape} or numbers that are none; export it again"
            )
        return logits

    def probabilities(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float32[np.ndarray, "B C"]:
        """Calibrated probabilities of grey faces, in the order of `labels`.

        Raises:
            InputError: Not uint8 or not (B, 48, 48).
        """
        check_faces(faces)
        views = views_of(faces, self.views)
        rows = _softmax(self.logits(np.concatenate(views)) / self._temperatures + self._biases)
        mean: Float32[np.ndarray, "B C"] = rows.reshape(len(views), len(faces), len(self.labels)).mean(0)
        return mean

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
        height, width = image.shape[:2]
        return self.readings(faces, crops, rows, width, height)

    def find_faces(self, image: UInt8[np.ndarray, "H W 3"]) -> tuple[list[Face], UInt8[np.ndarray, "B 48 48"]]:
        """First half of `read_image`: the faces, and each as the network takes it.

        Raises:
            InputError: Not a uint8 array (H, W, 3), as `mien.reading.images.open_image` makes of a path.
        """
        faces = self.detector.find(image)
        return faces, np.stack([crop(image, face) for face in faces]) if faces else np.empty((0, SIDE, SIDE), np.uint8)

    def readings(
        self,
        faces: Sequence[Face],
        crops: Iterable[UInt8[np.ndarray, "48 48"]],
        rows: Iterable[Float32[np.ndarray, "C"]],
        width: int,
        height: int,
    ) -> list[Reading]:
        """Second half of `read_image`: what the rows of `probabilities` say of its faces."""
        return [self.reading(*each, width, height) for each in zip(faces, crops, rows, strict=True)]

    def reading(
        self, face: Face, crop: UInt8[np.ndarray, "48 48"], row: Float32[np.ndarray, "C"], width: int, height: int
    ) -> Reading:
        """What one row of `probabilities` says of a face in an image of `width` x `height` pixels."""
        best = int(row.argmax())
        outside = share_outside(face, width, height)
        flags = quality.flags(quality.measure(crop, height=face.box[3], tilt=face.tilt, outside=outside))
        return Reading(
            face=face,
            expression=self.labels[best],
            confidence=float(row[best]),
            uncertain=bool(row[best] < quality.needed(self.card.threshold, flags)),
            probabilities={e: float(p) for e, p in zip(self.labels, row, strict=True)},
            flags=flags,
        )


def check_faces(faces: object) -> None:
    """Refuse what no network here takes.

    Raises:
        InputError: Not uint8 or not (B, 48, 48).
    """
    if not isinstance(faces, np.ndarray) or faces.dtype != np.uint8 or faces.shape[1:] != (SIDE, SIDE):
        came = f"{faces.dtype} {faces.shape}" if isinstance(faces, np.ndarray) else type(faces).__name__
        raise InputError(
            f"expected grey faces as uint8 (B, {SIDE}, {SIDE}), but got {came}; mien.read takes whole photos"
        )


def check_views(views: str) -> None:
    """Refuse a word that is none of `VIEWS`.

    Raises:
        InputError: It is none.
    """
    if views not in VIEWS:
        raise InputError(f"views should be one of {', '.join(VIEWS)}, but is {views!r}")


def views_of(faces: UInt8[np.ndarray, "B 48 48"], views: str) -> list[UInt8[np.ndarray, "B 48 48"]]:
    """The faces as each of the views sees them, the faces themselves first.

    Args:
        faces: Grey faces. Where one is moved, its border fills the gap.
        views: One of `VIEWS`.

    Raises:
        InputError: Another word.
    """
    check_views(views)
    if views == "single":
        return [faces]
    places = [_moved(faces, down, right) for down, right in _SHIFTS] if views == "ten" else [faces]
    return [view for place in places for view in (place, np.ascontiguousarray(place[:, :, ::-1]))]


def _moved(faces: UInt8[np.ndarray, "B 48 48"], down: int, right: int) -> UInt8[np.ndarray, "B 48 48"]:
    line = np.arange(SIDE)
    return faces[:, (line - down).clip(0, SIDE - 1)][:, :, (line - right).clip(0, SIDE - 1)]


def need_seven(recognizer: Recognizer, purpose: str) -> None:
    """Refuse a network of eight labels where seven are expected.

    Raises:
        InputError: It answers contempt too.
    """
    if recognizer.labels != EXPRESSIONS:
        raise InputError(
            f"{purpose} takes networks of the seven expressions, but {recognizer.name!r} answers contempt too; "
            "mien read and mien.read take it, or choose another model"
        )


def _softmax(logits: Float32[np.ndarray, "B C"]) -> Float32[np.ndarray, "B C"]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: Float32[np.ndarray, "B C"] = powers / powers.sum(1, keepdims=True)
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
    providers: Sequence[str] = CPU,
) -> Recognizer:
    """A recognizer by name or from a file.

    Args:
        model: The name of a model in the package, or the path of an .onnx file.
        views: One of `VIEWS`: "single", "mirror" or "ten".
        threads: Threads of ONNX Runtime, up to 1024, for each of network and detector; 0 for one a core, eight at most.
        providers: ONNX Runtime's execution providers for both, in order of preference.

    Raises:
        NotFound: No model has this name.
        InputError: It is neither a name nor a path, or a run's folder; or as `Recognizer`.
        FileError, Damaged: As `Recognizer`.
    """
    if not isinstance(model, str | PathLike):
        raise InputError(f"expected a model by name or the path of an .onnx file, but got {type(model).__name__}")
    known = model_files()
    if str(model) in known:
        return Recognizer(known[str(model)], views=views, threads=threads, providers=providers)
    if Path(model).is_dir():
        raise InputError(f"{model} is a folder; a run is exported first: mien export {model} --out FILE.onnx")
    if suffix_of(model) != ".onnx":
        raise NotFound.named("model", str(model), [*known, "(or the path of an .onnx file)"])
    return Recognizer(model, views=views, threads=threads, providers=providers)


@lru_cache(maxsize=2)
def default_model(threads: int = 0) -> Recognizer:
    """The default model, loaded once for each number of threads that is asked for."""
    return load_model(threads=threads)


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
    return default_model().read(source)
