#!/usr/bin/env python3
"""What finding and cropping a face costs in accuracy: PublicTest pasted into larger pictures and found again.

    python benchmarks/crop.py fer2013.csv [--model mien-small] [--rows 3589]

Every image is enlarged to a random side and laid at a random place on a canvas: plain grey, its own blurred
enlargement, or its border, repeated. The direct path gives the image itself to the network. Scores are over the images
in which a face is found on that canvas; the share that is not found is told apart.
"""

import argparse

import cv2
import numpy as np

from mien.measuring import metrics
from mien.measuring.data import load
from mien.reading.faces import CenterFace, crop
from mien.reading.recognizer import load_model

WIDTH, HEIGHT = 640, 480


def paste(image: np.ndarray, canvas: str, generator: np.random.Generator) -> np.ndarray:
    """An image as part of a larger picture, RGB."""
    side = int(generator.integers(80, 301))
    face = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    x, y = generator.integers(0, WIDTH - side + 1), generator.integers(0, HEIGHT - side + 1)
    if canvas == "blurred":
        wide = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        picture = cv2.GaussianBlur(wide, (0, 0), 40)
    elif canvas == "border":
        picture = np.pad(face, ((y, HEIGHT - side - y), (x, WIDTH - side - x)), "edge")
    else:
        picture = np.full((HEIGHT, WIDTH), 128, np.uint8)
    picture[y : y + side, x : x + side] = face
    return np.repeat(picture[..., None], 3, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="mien-small")
    parser.add_argument("--rows", type=int, default=3589)
    options = parser.parse_args()
    faces = load(options.data).split("PublicTest")
    chosen = np.sort(np.random.default_rng(0).permutation(len(faces))[: options.rows])
    faces = faces.take(chosen)
    recognizer, detector = load_model(options.model), CenterFace()
    direct = recognizer.probabilities(faces.images)
    accuracy = metrics.accuracy(direct, faces.labels)
    print(f"{options.model}, PublicTest, n = {len(faces):,}: direct accuracy {accuracy:.2%}")
    print("| canvas | found | direct, of those | found and cropped | loss, points | same answer |")
    print("| --- | --- | --- | --- | --- | --- |")
    for canvas in ("grey", "blurred", "border"):
        generator = np.random.default_rng(1)
        found, crops = [], []
        for row, image in enumerate(faces.images):
            picture = paste(image, canvas, generator)
            if seen := detector.find(picture):
                found.append(row)
                crops.append(crop(picture, seen[0]))
        rows = np.array(found)
        labels, before = faces.labels[rows], direct[rows]
        after = recognizer.probabilities(np.stack(crops))
        one, other = metrics.accuracy(before, labels), metrics.accuracy(after, labels)
        same = (before.argmax(1) == after.argmax(1)).mean()
        loss = 100 * (one - other)
        print(f"| {canvas} | {len(rows) / len(faces):.1%} | {one:.2%} | {other:.2%} | {loss:.2f} | {same:.1%} |")


if __name__ == "__main__":
    main()
