"""mien reads facial expressions in photos and videos.

>>> import mien
>>> for reading in mien.read("photo.jpg"):
...     print(reading.expression, f"{reading.confidence:.0%}", reading.face.box)

The names below are loaded when they are first used: importing the package costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.errors import MienError as MienError
    from mien.expressions import EXPRESSIONS as EXPRESSIONS
    from mien.expressions import Expression as Expression
    from mien.measuring.evaluation import evaluate as evaluate
    from mien.measuring.faceset import FaceSet as FaceSet
    from mien.measuring.robustness import evaluate_corrupted as evaluate_corrupted
    from mien.reading.explain import occlusion_map as occlusion_map
    from mien.reading.faces import Face as Face
    from mien.reading.label import label as label
    from mien.reading.plan import LabelOptions as LabelOptions
    from mien.reading.recognizer import Reading as Reading
    from mien.reading.recognizer import Recognizer as Recognizer
    from mien.reading.recognizer import load_model as load_model
    from mien.reading.recognizer import read as read
    from mien.reading.tracks import TrackedReading as TrackedReading
    from mien.reading.tracks import TrackOptions as TrackOptions
    from mien.reading.watch import Frame as Frame
    from mien.reading.watch import watch as watch
    from mien.recipes import RECIPES as RECIPES
    from mien.recipes import Recipe as Recipe

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime tells its makers about the computer and the models that are run, and keeps a number for that
# in the home folder, unless this is set before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "EXPRESSIONS": "expressions",
    "Expression": "expressions",
    "Face": "reading.faces",
    "FaceSet": "measuring.faceset",
    "Frame": "reading.watch",
    "LabelOptions": "reading.plan",
    "MienError": "errors",
    "RECIPES": "recipes",
    "Reading": "reading.recognizer",
    "Recipe": "recipes",
    "Recognizer": "reading.recognizer",
    "TrackOptions": "reading.tracks",
    "TrackedReading": "reading.tracks",
    "evaluate": "measuring.evaluation",
    "evaluate_corrupted": "measuring.robustness",
    "label": "reading.label",
    "load_model": "reading.recognizer",
    "occlusion_map": "reading.explain",
    "read": "reading.recognizer",
    "watch": "reading.watch",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name from the module it lives in (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'mien' has no attribute {name!r}")
    value = getattr(import_module(f"mien.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
