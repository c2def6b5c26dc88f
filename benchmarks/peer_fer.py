#!/usr/bin/env python3
"""The network inside fer 25.10.3 on the same images, under the same protocol.

    mien data import fer2013.csv --out arrays
    FER_PYTHON benchmarks/peer_fer.py arrays fer-25.10.3.csv [--split PublicTest]
    mien evaluate fer-25.10.3.csv --data fer2013.csv

FER_PYTHON is an environment of its own with fer 25.10.3, setuptools<81, tensorflow and opencv-contrib-python<5
(OpenCV 5 no longer has the cascade files that fer loads). It needs nothing of mien. The images go straight to fer's
classifier, prepared as fer prepares them: 64 x 64, scaled to [-1, 1]; what it answers is written as a table of
probabilities, whose columns are in the order of our labels, as fer's are.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
from fer.fer import FER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arrays", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="PublicTest")
    options = parser.parse_args()
    images, splits, rows = (np.load(options.arrays / f"{name}.npy") for name in ("images", "splits", "rows"))
    where = splits == options.split
    faces = np.stack([cv2.resize(image, (64, 64)) for image in images[where]]).astype(np.float32)
    probabilities = FER()._classify_emotions((faces / 255 - 0.5) * 2)
    with open(options.out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", *(f"p{k}" for k in range(7))])
        for row, values in zip(rows[where], probabilities, strict=True):
            writer.writerow([int(row), *(f"{p:.5f}" for p in values)])


if __name__ == "__main__":
    main()
