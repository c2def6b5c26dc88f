"""Near twins: the same picture cropped, mirrored, lightened or compressed in another way. Needs scikit-learn.

A network's features propose neighbours; pixels decide. Features alone find similar looks, which are no twins.
Another network proposes others, a few in a thousand, so those of FER2013's test rows are listed once and for all
(`near_twins.json`): scores that leave them out can be compared from one version to the next.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import onnx
from jaxtyping import Bool, Float, Int64, UInt8

from mien.errors import Damaged, need_extra
from mien.measuring.faceset import FaceSet
from mien.measuring.sketch import checksum, checksums
from mien.reading.recognizer import DEFAULT_MODEL, model_files
from mien.reading.runtime import open_session

LISTS = Path(__file__).with_name("near_twins.json")
"""By `list_key` of Training and another split: what `listed` reads. `tools/near_twins.py` writes it."""

SIMILAR = 0.9
"""Correlation from which two pictures are one. Between 0.80 and 0.85 FER2013 has hardly any pairs, above and below
many (benchmarks/LOG.md)."""

FLAT = 6.0
"""Standard deviation of the pixels below which a picture shows nothing: FER2013's darkest face has 9."""

_NEIGHBOURS = 3  # proposed for each picture, and as many for its mirror image
_PATCH = 36  # pixels a side of the middle part that is looked for in the other picture, six in every direction
_ZOOMS = (0.84, 0.92, 1.09, 1.19)  # sizes at which it is looked for, beside its own
_WORTH = 0.35  # correlation at its own size from which the others are tried
_FINE, _COARSE = 1.0, 5.0  # pixels; detail between these scales is compared: light and compression are elsewhere
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows that show one picture.

    Attributes:
        first: Index into the FaceSet.
        second: Another one, larger.
        similarity: Correlation of their details at the best shift and zoom, in [-1, 1].
        mirrored: One is the other's mirror image.
    """

    first: int
    second: int
    similarity: float
    mirrored: bool


def near_in_training(faces: FaceSet, split: str) -> Int64[np.ndarray, "K"]:
    """The row numbers of a split whose pictures stand in Training, cropped, mirrored or lit in another way.

    Those of FER2013 are listed, in whatever form it is read. Others are looked for: a minute for as many.

    Raises:
        NotFound: The data has no such split.
        MissingExtra: They have to be looked for, and scikit-learn is not installed.
    """
    known = listed(faces, split)
    return found_in_training(faces, split) if known is None else known


def listed(faces: FaceSet, split: str) -> Int64[np.ndarray, "K"] | None:
    """What the list says of a split; None where that or Training has other images than those it was made of.

    Raises:
        NotFound: The data has no such split.
    """
    lists: dict[str, list[str]] = json.loads(LISTS.read_text(encoding="utf-8"))
    near = lists.get(list_key(faces, split))
    if near is None:
        return None
    index = np.flatnonzero(faces.where(split))
    rows: Int64[np.ndarray, "K"] = faces.rows[[k for k in index if checksum(faces.images[k]) in near]]
    return rows


def found_in_training(faces: FaceSet, split: str) -> Int64[np.ndarray, "K"]:
    """What a search finds that the features of the default network begin. Takes about a minute on FER2013.

    Raises:
        NotFound: The data has no such split.
        MissingExtra: scikit-learn is not installed.
    """
    both = faces.take(faces.where(split) | (faces.splits == "Training"))
    shown = shown_in(both, near_twins(both, model_files()[DEFAULT_MODEL]), "Training")
    rows: Int64[np.ndarray, "K"] = both.rows[shown & (both.splits == split)]
    return rows


def list_key(faces: FaceSet, split: str) -> str:
    """The same for the same distinct images in Training and in a split, whatever their order and form.

    Raises:
        NotFound: The data has no such split.
    """
    both = (np.flatnonzero(where) for where in (faces.splits == "Training", faces.where(split)))
    training, own = (" ".join(sorted(checksums(faces.images[k] for k in index))) for index in both)
    return sha256(f"{training}|{own}".encode()).hexdigest()


def near_twins(faces: FaceSet, model: Path, *, similar: float = SIMILAR) -> list[Pair]:
    """Pairs of different images that show the same picture, the most similar first.

    Of exact twins only the first is looked at, and flat images are not. Memory grows by 4 kB a row.

    Args:
        faces: The data set.
        model: The .onnx file whose features propose neighbours.
        similar: Correlation from which two images are one picture.

    Raises:
        MissingExtra: scikit-learn is not installed.
        Damaged: The model has no layer whose input could be the features.
    """
    distinct = (faces.twin_numbers() == np.arange(len(faces))) & (deviations(faces) >= FLAT)
    index = np.flatnonzero(distinct)
    if len(index) < 2:
        return []
    images = faces.images[index]
    details = np.stack([detail(image) for image in images])
    found: dict[tuple[int, int], Pair] = {}
    for mirrored, proposed in zip((False, True), _proposed(images, model), strict=True):
        for a, b in sorted({(min(a, b), max(a, b)) for a, row in enumerate(proposed) for b in row if a != b}):
            first = np.ascontiguousarray(details[a][:, ::-1]) if mirrored else details[a]
            value = correlation(first, details[b])
            if value >= similar and ((a, b) not in found or found[a, b].similarity < value):
                found[a, b] = Pair(int(index[a]), int(index[b]), value, mirrored)
    return sorted(found.values(), key=lambda pair: (-pair.similarity, pair.first, pair.second))


def shown_in(faces: FaceSet, pairs: Iterable[Pair], split: str) -> Bool[np.ndarray, "N"]:
    """Rows whose picture is paired with one of a split; exact copies are one picture, longer chains are not."""
    picture = faces.twin_numbers()  # of exact copies, the one that pairs name
    known = np.zeros(len(faces), bool)
    known[picture[faces.splits == split]] = True
    shown = np.zeros(len(faces), bool)
    for pair in pairs:
        shown[pair.first] |= known[pair.second]
        shown[pair.second] |= known[pair.first]
    rows: Bool[np.ndarray, "N"] = shown[picture]
    return rows


def deviations(faces: FaceSet) -> Float[np.ndarray, "N"]:
    """The standard deviation of each image's pixels; one image at a time, since all at once are eight times the set."""
    return np.array([image.std() for image in faces.images], np.float64)


def detail(image: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """An image without its light and its noise: what is between two scales, of one contrast, about 128."""
    pixels = image.astype(np.float32)
    band = cv2.GaussianBlur(pixels, (0, 0), _FINE) - cv2.GaussianBlur(pixels, (0, 0), _COARSE)
    even = np.rint(128 + 32 * band / max(float(band.std()), 1e-6))
    grey: UInt8[np.ndarray, "H W"] = even.clip(0, 255).astype(np.uint8)
    return grey


def correlation(first: UInt8[np.ndarray, "48 48"], second: UInt8[np.ndarray, "48 48"]) -> float:
    """The best correlation of the middle of one detail image with any place in another, over zooms, in [-1, 1]."""

    def best(zoom: float) -> float:
        side = round(len(first) * zoom)
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        image = first if zoom == 1 else cv2.resize(first, (side, side), interpolation=how)
        edge = (side - _PATCH) // 2
        patch = image[edge : edge + _PATCH, edge : edge + _PATCH]
        return float(cv2.matchTemplate(second, patch, cv2.TM_CCOEFF_NORMED).max())

    alike = best(1)
    return max(alike, *map(best, _ZOOMS)) if alike >= _WORTH else alike


def _proposed(
    images: UInt8[np.ndarray, "N 48 48"], model: Path
) -> tuple[Int64[np.ndarray, "N k"], Int64[np.ndarray, "N k"]]:
    """The nearest neighbours of each image, and those of its mirror image."""
    need_extra("audit", "looking for near twins", "sklearn")
    from sklearn.neighbors import NearestNeighbors

    straight = features(images, model)
    mean = straight.mean(0)
    search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS + 1, len(images)), algorithm="brute", metric="euclidean")
    search.fit(_directions(straight - mean))
    mirror = features(images[:, :, ::-1], model)
    near, mirrored = (search.kneighbors(_directions(each - mean), return_distance=False) for each in (straight, mirror))
    return near.astype(np.int64), mirrored.astype(np.int64)


def _directions(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float[np.ndarray, "N D"] = vectors / np.maximum(lengths, 1e-9)
    return unit


def features(images: UInt8[np.ndarray, "N 48 48"], model: Path) -> Float[np.ndarray, "N D"]:
    """What a network's last layer sees of each image.

    Raises:
        Damaged: The graph has no such layer.
    """
    graph = onnx.load(model, load_external_data=False)
    layers = [node for node in graph.graph.node if node.op_type in {"Gemm", "MatMul"}]
    if not layers:
        raise Damaged(f"{model} has no dense layer whose input could tell images apart")
    name = layers[-1].input[0]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = open_session(graph.SerializeToString())
    (source,) = (each.name for each in session.get_inputs())
    parts = [
        session.run([name], {source: np.ascontiguousarray(images[k : k + _CHUNK])})[0]
        for k in range(0, len(images), _CHUNK)
    ]
    return np.concatenate([part.reshape(len(part), -1) for part in parts]).astype(np.float32)
