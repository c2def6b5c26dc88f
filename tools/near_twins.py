#!/usr/bin/env python3
"""Look for FER2013's near twins once, and write the list that scores without them are made by from then on.

The list stays as it is when the default network changes, of which the search depends a little: scores of before and
after could not be compared.

    python tools/near_twins.py fer2013.csv
"""

import json
import sys

import numpy as np

from mien.measuring.data import load
from mien.measuring.near import LISTS, found_in_training, list_key
from mien.measuring.sketch import checksums


def main(csv: str) -> None:
    faces = load(csv)
    lists = {}
    for split in ("PublicTest", "PrivateTest"):
        near = np.isin(faces.rows, found_in_training(faces, split))
        lists[list_key(faces, split)] = sorted(checksums(faces.images[near]))
        sys.stdout.write(f"{split}: {int(near.sum())} rows\n")
    LISTS.write_text(json.dumps(lists, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
