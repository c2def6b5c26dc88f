"""The verbs as a shell user meets them: what is printed where, which files appear, which exit code comes back."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import EXAMPLES, refuse
from mien.cli.program import app, main
from mien.errors import Damaged
from mien.reading.faces import CenterFace
from mien.reading.recognizer import Recognizer, model_files


def mien(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mien", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, check=False, env=os.environ | environment,
    )


class Here:
    """The program in this process, which has what it imports: to start Python for each line takes seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self.capfd.readouterr()
        with self.monkeypatch.context() as changed:
            changed.chdir(cwd)
            changed.setattr(sys, "argv", ["mien", *map(str, arguments)])
            changed.setattr(warnings, "showwarning", warnings.showwarning)
            try:
                main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                for number, handler in handlers.items():
                    if signal.getsignal(number) != handler:
                        signal.signal(number, handler)
        told = self.capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, told.out, told.err)


@pytest.fixture
def here(unchecked: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    return Here(monkeypatch, capfd)


def test_read_prints_a_table(collins: Path, hopper: Path) -> None:
    done = mien("read", collins, hopper)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert "happy" in lines[1]
    assert lines[1].startswith("eileen-collins.jpg")
    assert lines[2].startswith("grace-hopper.jpg")
    (face,) = json.loads(mien("read", "--json", hopper).stdout)["faces"]
    first, second = sorted(face["probabilities"], key=face["probabilities"].get, reverse=True)[:2]
    share = f"{face['probabilities'][second]:.0%}"
    assert re.search(rf" {first} +{face['confidence']:.0%} +{second} {share} ", lines[2])
    assert done.stderr == ""


def test_read_json_has_the_documented_form(collins: Path) -> None:
    done = mien("read", "--json", collins)
    (line,) = done.stdout.splitlines()
    photo = json.loads(line)
    assert list(photo) == ["source", "width", "height", "model", "faces"]
    assert (photo["width"], photo["height"]) == (512, 512)
    (face,) = photo["faces"]
    assert list(face) == ["box", "score", "expression", "confidence", "uncertain", "probabilities", "flags"]
    assert face["expression"] == "happy"
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_one_bad_photo_does_not_stop_the_others(collins: Path, tmp_path: Path) -> None:
    (tmp_path / "broken [1].jpg").write_bytes(collins.read_bytes()[:9_000])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "good 'ü'.jpg").write_bytes(collins.read_bytes())
    done = mien("read", "--json", tmp_path / "broken [1].jpg", tmp_path / "text.jpg", tmp_path / "missing.jpg",
                tmp_path / "good 'ü'.jpg")
    assert done.returncode == 1
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [str(tmp_path / "good 'ü'.jpg")]
    errors = done.stderr.splitlines()
    assert len(errors) == 3
    for line, name in zip(errors, ("broken [1].jpg", "text.jpg", "missing.jpg"), strict=True):
        assert line.startswith("mien: ")
        assert name in line
    assert "Traceback" not in done.stderr


def test_folder_csv_and_annotated_copies_in_input_order(collins: Path, hopper: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    (photos / "b.jpg").write_bytes(collins.read_bytes())
    (photos / "deep" / "b.jpg").write_bytes(hopper.read_bytes())
    Image.fromarray(np.full((80, 100, 3), 128, np.uint8)).save(photos / "a.png")
    done = mien("read", photos, "--csv", tmp_path / "faces.csv", "--draw", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "faces.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["source"]).name for row in rows] == ["a.png", "b.jpg", "b.jpg"]
    assert rows[0]["expression"] == ""
    assert rows[1]["expression"] == "happy"
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a.png", "b-2.jpg", "b.jpg"]
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "b.jpg"))
    assert drawn.shape == (512, 512, 3)
    assert "no face" in done.stdout


def test_a_large_photo_without_a_face_is_said_to_have_smaller_ones_perhaps(tmp_path: Path) -> None:
    for name, width in (("small.png", 1280), ("large.png", 1281)):
        Image.fromarray(np.full((200, width, 3), 128, np.uint8)).save(tmp_path / name)
    done = mien("read", tmp_path)
    assert done.stdout.count("no face") == 3
    assert "no face in large.png, which is large: small ones may be found with --size 4096" in done.stdout
    assert "--size" not in mien("read", tmp_path / "small.png").stdout
    assert "--size" not in mien("read", tmp_path, "--size", "2560").stdout
    (tmp_path / "small.png").unlink()
    Image.fromarray(np.full((200, 1300, 3), 128, np.uint8)).save(tmp_path / "larger.png")
    assert "no face in 2 large photos, large.png the first: small" in mien("read", tmp_path).stdout


def test_names_in_capitals_end_alike(collins: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    model = shutil.copy(model_files()["mien-small"], tmp_path / "FER.ONNX")
    done = mien("read", collins, "--model", model, "--csv", tmp_path / "A.CSV", "--parquet", tmp_path / "A.PARQUET")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "A.CSV", newline="", encoding="utf-8") as file:
        assert [row["expression"] for row in csv.DictReader(file)] == ["happy"]
    assert pq.read_table(tmp_path / "A.PARQUET")["expression"].to_pylist() == ["happy"]


def test_annotated_copies_never_replace_the_photos(collins: Path, tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(collins.read_bytes())
    assert mien("read", photo, "--draw", tmp_path).returncode == 0
    assert photo.read_bytes() == collins.read_bytes()
    assert (tmp_path / "a-2.jpg").exists()


def test_photos_of_one_name_are_told_apart(collins: Path, tmp_path: Path) -> None:
    photos = [tmp_path / name for name in ("a/x.jpg", "b/x.jpg", "b/y.jpg")]
    for photo in photos:
        photo.parent.mkdir(exist_ok=True)
        photo.write_bytes(collins.read_bytes())
    lines = [line for line in mien("read", "a", "b", cwd=tmp_path).stdout.splitlines() if "happy" in line]
    assert [line.split()[0] for line in lines] == ["a/x.jpg", "b/x.jpg", "y.jpg"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody may write to is needed")
@pytest.mark.parametrize("option", ["--draw", "--explain"])
def test_a_folder_that_cannot_be_written_is_told_before_photos_are_read(option: str, collins: Path) -> None:
    done = mien("read", collins, option, "/proc/pictures")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("mien: cannot write /proc/pictures/face.png: .*\n", done.stderr)


def test_pictures_of_others_and_tables_of_before_are_not_lost(collins: Path, hopper: Path, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / collins.name).write_bytes(hopper.read_bytes())  # cameras give many photos the same name
    longest = tmp_path / ("x" * 245 + ".jpg")  # a name of a picture that is made of it would be too long
    longest.write_bytes(collins.read_bytes())
    made = "--explain", tmp_path / "drawn", "--draw", tmp_path / "drawn", "--csv", tmp_path / "f.csv"
    done = mien("read", longest, collins, *made)
    assert done.returncode == 1
    assert "File name too long" in done.stderr
    assert (tmp_path / "drawn" / collins.name).read_bytes() == hopper.read_bytes()
    assert (tmp_path / "drawn" / f"{collins.stem}-2.jpg").exists()
    table = (tmp_path / "f.csv").read_text()
    assert len(table.splitlines()) == 3
    assert mien("read", tmp_path / "mistyped.jpg", "--csv", tmp_path / "f.csv").returncode == 1
    assert (tmp_path / "f.csv").read_text() == table


def test_what_cannot_begin_leaves_no_folder(small_csv: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for arguments in (
        ["evaluate", "none", "--data", small_csv, "--plots", tmp_path / "a" / "b"],
        ["predict", "none", "--data", small_csv, "--out", tmp_path / "a" / "p.csv"],
        ["read", "none.jpg", "--draw", tmp_path / "a" / "b", "--csv", tmp_path / "a" / "f.csv"],
    ):
        assert mien(*arguments).returncode in {1, 2}
    assert sorted(tmp_path.iterdir()) == before


def test_drawing_into_a_folder_of_photos_can_be_done_again(collins: Path, tmp_path: Path) -> None:
    """Photos that lie there are read and stay; what was drawn there is neither read nor kept beside a second copy."""
    photos = tmp_path / "photos"
    (photos / "best").mkdir(parents=True)
    for path in (photos / "a.jpg", photos / "best" / "a.jpg"):
        path.write_bytes(collins.read_bytes())
    told = [mien("read", photos, "--draw", photos / "best", "--json").stdout for _ in (1, 2)]
    assert [json.loads(line)["source"] for line in told[0].splitlines()] == [
        str(photos / "a.jpg"), str(photos / "best" / "a.jpg"),
    ]
    assert told[1] == told[0]
    assert (photos / "best" / "a.jpg").read_bytes() == collins.read_bytes()
    assert sorted(path.name for path in (photos / "best").iterdir()) == ["a-2.jpg", "a-3.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read", "--model", "mien-smal", "x.jpg"], "did you mean 'mien-small'"),
        (["read", "empty-folder"], "empty-folder"),  # a folder without images
        (["read", "*.nothing"], "*.nothing"),  # a pattern without matches
        (["read", "--views", "five", "x.jpg"], "single, mirror, ten"),
        (["read", "--csv", "faces.xlsx", "x.jpg"], "faces.xlsx"),
        (["read", "--model", "empty-folder", "x.jpg"], "exported first: mien export empty-folder --out FILE.onnx"),
        (["read", "--draw", "file.mp4", "file.mp4"], "annotated copies need a folder, and file.mp4 is a file"),
        (["read", "file.mp4"], "videos are read by mien watch"),
        (["watch", "photo.jpg", "--rows", "r.csv"], "is no video; pictures are read by: mien read photo.jpg"),
        (["evaluate", "runs/none", "--data", "x.csv"], "there is no run folder of this name either"),
        (["evaluate", "mien-small", "--data", "faces"], "it has Training (1 rows); name one with --split"),
        (["predict", "mien-small", "--data", "faces", "--out", "p.csv"], "name one with --split"),
        (["read", "--csv", "faces.parquet", "x.jpg"], "ends in .csv, but got 'faces.parquet'"),
        (["read", "--parquet", "faces.csv", "x.jpg"], "ends in .parquet, but got 'faces.csv'"),
        (["predict", "mien-small", "--data", "missing.csv", "--out", "p.txt"], "ends in .csv or .npz"),
        (["export", "nowhere", "--out", "m.txt"], "ends in .onnx, but got 'm.txt'"),
        (["export", "nowhere", "--out", "m.h5", "--form", "json+weights"], "ends in .json, but got 'm.h5'"),
        (["export", "nowhere", "--out", "m.onnx", "--form", "int8"], "name the data: --data FILE"),
        (["export", "a.onnx", "--checkpoint", "last", "--out", "b.onnx"], "--checkpoint last is for a run folder"),
        (["export", "a.onnx", "--out", "b.onnx"], "a.onnx is exported already: --form int8"),
        (["export", "a.json", "--checkpoint", "last", "--out", "b.onnx"], "--checkpoint last is for a run folder"),
        (["export", "a.json", "b.onnx", "--out", "c.onnx", "--data", "x.csv"], "a.json is a saved pair"),
        (["export", ".", "b.onnx", "--out", "c.onnx", "--data", "x.csv"], ". is a run folder; export it first"),
        (["train", "paul", "--data", ".", "--out", "runs/a"], "would become a part of it"),
        (["train", "paul", "--set", "votes=1", "--data", "no.csv", "--out", "run"], "has seven outputs"),
        (["evaluate", "mien-small", "--data", ".", "--plots", "plots"], "would become a part of it"),
        (["export", "a.json", "--form", "json+weights", "--out", "b.json"], "a.json is such a pair already"),
        (["export", "mien-small", "--out", "b.onnx"], "mien-small.onnx is exported already: --form int8"),
        (["export", "nowhere", "--out", "m.onnx", "--skip-bad"], "name it: --data FILE"),
        (["export", "nowhere", "--out", "m.onnx", "--without-near-twins"], "name it: --data FILE"),
        (["export", "nowhere", "--out", "m.onnx", "--mean", "weights"], "name two or more .onnx files"),
        (["export", "mien-base", "--member", "1", "--mean", "weights", "--out", "m.onnx"], "one network out of one"),
        (["evaluate", "mien-small", "--data", "x.csv", "--checkpoint", "last"], "is for a run folder; mien-small"),
        (["evaluate", "p.csv", "--data", "x.csv", "--checkpoint", "last"], "leave out --checkpoint last"),
        (["recipes", "alexnt"], "did you mean 'alexnet'"),
        (["export", "nowhere", "--out", "m.onnx"], "no checkpoint"),
        (["evaluate", "mien-small", "--data", "missing.csv"], "missing.csv"),
        (["evaluate", "p.csv", "--data", "missing.csv", "--views", "ten"], "leave out --views ten"),
        (["train", "mien-small", "--data", "x.csv", "--out", "r", "--set", "epochs"], "NAME=VALUE"),
        (["train", "mien-small", "--data", "x.csv", "--out", "r", "--labels", "x"], "ferplus, ferplus-votes"),
        (["data", "audit", "x.csv", "--out", "r", "--because", "twin"], "name the file too"),
        (["data", "audit", "x.csv", "--out", "r", "--because", "twins", "--write-clean", "c"], "did you mean 'twin'"),
        (["data", "audit", "x.csv", "--out", "r", "--quick", "--model", "mien-base"], "leave out --quick or --model"),
        (["data", "audit", ".", "--out", "empty-folder/report"], "lies in the data set ."),
        (["data", "import", ".", "--out", "."], "lies in the data set ."),
        (["data", "import", "faces/train", "--out", "faces"], "faces holds the data set faces/train"),
        (["data", "import", "x.csv", "--out", ""], "the argument after '--out' is empty"),
        (["read", "photo.heic"], "save HEIC photos as JPEG first"),
        (["data", "import", "arrays/X_train.npy", "--out", "arrays"], "would be read without it from then on"),
        (["data", "import", "arrays/images.npy", "--out", "arrays"], "would be read without it from then on"),
        (["train", "mien-small", "--data", "x.csv", "--out", "r", "--nodes", "2"], "2 nodes need a launcher"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, here: Here, tmp_path: Path) -> None:
    (tmp_path / "empty-folder").mkdir()
    (tmp_path / "file.mp4").write_bytes(b"no video")
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    (tmp_path / "photo.jpg").write_bytes((EXAMPLES / "eileen-collins.jpg").read_bytes())
    (tmp_path / "faces" / "train" / "happy").mkdir(parents=True)
    Image.new("L", (48, 48), 90).save(tmp_path / "faces" / "train" / "happy" / "1.png")
    done = here(*arguments, cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["read", "x.jpg", "--csv", "file/a.csv"],
        ["predict", "mien-small", "--data", "x.csv", "--out", "file/p.csv"],
        ["evaluate", "mien-small", "--data", "x.csv", "--plots", "file"],
        ["export", "run", "--out", "file/m.onnx"],
        ["data", "audit", "x.csv", "--out", "file"],
        ["data", "audit", "x.csv", "--out", "page", "--write-clean", "file/clean.csv"],
    ],
)
def test_a_place_that_cannot_be_written_to_is_told_before_any_work(
    arguments: list[str], here: Here, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = here(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"mien: cannot write file/\S+: .*\n", done.stderr)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_read_keeps_what_it_has_when_it_is_stopped(how: signal.Signals, collins: Path, tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number:03}.jpg").symlink_to(collins)
    command = [sys.executable, "-m", "mien", "read", str(tmp_path), "--json", "--csv", str(tmp_path / "rows.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.send_signal(how)
        told = [first, *process.stdout]
        assert re.fullmatch(rf"mien: interrupted: {len(told)} of 500 photos were read.*\n", process.stderr.read())
    assert process.returncode == 128 + how
    with open(tmp_path / "rows.csv", newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [json.loads(line)["source"] for line in told]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is played by Linux's /dev/full")
def test_read_keeps_its_table_when_nothing_can_be_printed(collins: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mien", "read", str(collins), "--csv", str(tmp_path / "rows.csv")]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stdout=full, stderr=subprocess.DEVNULL, check=False).returncode == 1
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 2


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes standard output")
def test_standard_output_may_be_closed(collins: Path) -> None:
    done = subprocess.run(f"{sys.executable} -m mien read {collins} >&-", shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_wrong_usage_is_exit_code_2() -> None:
    assert mien("read").returncode == 2
    assert mien("recipes", "nothing-like-it").returncode == 2


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = mien("--debug", "read", "--model", tmp_path / "none.onnx", "x.jpg")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_models_and_recipes_are_listed() -> None:
    models = json.loads(mien("models", "--json").stdout)
    assert "mien-small" in [model["name"] for model in models]
    table = " ".join(mien("recipes").stdout.split())
    assert "9,014,727" in table
    assert "claims 63.167 % on PrivateTest" in table
    assert "trains on Training + PublicTest; the last 20% of it chooses" in table
    assert all(name in table for name in ("workshop", "alexnet", "paul", "mien-small"))
    assert json.loads(mien("recipes", "paul", "--json").stdout)["epochs"] == 100


def test_doctor_is_content() -> None:
    done = mien("doctor")
    assert done.returncode == 0, done.stdout
    assert "mien-small" in done.stdout
    assert "WRONG" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("face detector: largest difference from its known answer")


def test_doctor_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recognizer, "self_test", lambda self: 1.0 if self.name == "mien-base" else 0.0)
    monkeypatch.setattr(CenterFace, "self_test", refuse(Damaged("the file is damaged")))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    base, small, detector = done.stdout.splitlines()[-3:]
    assert (base.endswith(": WRONG"), small.endswith(": ok")) == (True, True)
    assert detector == "face detector: the file is damaged"


def test_what_is_told_to_do_next_after_a_share_was_held_out_works(
    small_csv: Path, here: Here, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    data = "--data", small_csv, "--ferplus", small_csv.with_name("fer2013new.csv")
    listed = "--quick", "--out", "report", "--write-clean", "clean.csv"
    assert here("data", "audit", small_csv, *listed, cwd=tmp_path).returncode == 0
    share = "--set", 'protocol.train=["Training","PublicTest"]', "--set", "protocol.select=0.2"
    trial = "--set", "votes=0", "--set", "drop_non_faces=false", "--set", "batch=14", "--epochs", "1"
    said = here("train", "mien-small", *data, "--exclude", "clean.csv", "--out", "my run", *share, *trial, cwd=tmp_path)
    following = said.stdout.splitlines()[-1].removeprefix("next: mien ").replace("FILE", "mine")
    done = here(*shlex.split(following), cwd=tmp_path)
    assert done.returncode == 0, said.stderr + done.stderr
    assert (tmp_path / "mine.onnx").exists()


def test_the_whole_line_as_the_readme_has_it(small_csv: Path, here: Here, tmp_path: Path) -> None:
    """Data in, a network trained, measured, exported, and used on a photo."""
    pytest.importorskip("torch")

    def run(*arguments: object) -> str:
        alone = arguments[0] in ("train", "read")
        done = (mien if alone else here)(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Training" in run("data", "import", small_csv, "--out", "arrays")
    assert (tmp_path / "arrays" / "images.npy").exists()
    run("data", "audit", small_csv, "--quick", "--out", "report", "--write-clean", "clean.csv")
    trial = "--limit", "0.5", "--epochs", "1"
    said = run("train", "mien-small-plain", "--data", "arrays", "--exclude", "clean.csv", "--out", "run", *trial)
    assert said.endswith("next: mien export run --data arrays --out FILE.onnx\n")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["data"].endswith("without clean.csv")
    assert "PublicTest" in run("evaluate", "run", "--data", small_csv)
    run("export", "run", "--data", small_csv, "--out", "m.onnx")
    assert "selection score" in run("evaluate", "m.onnx", "--data", small_csv, "--plots", "plots")
    assert (tmp_path / "plots" / "confusion.png").exists()
    run("predict", "m.onnx", "--data", small_csv, "--out", "p.csv")
    run("predict", "m.onnx", "--data", small_csv, "--split", "PublicTest", "--out", "chosen.csv")
    own, table = (json.loads(run("evaluate", what, "--data", small_csv, "--json")) for what in ("m.onnx", "chosen.csv"))
    assert table["scores"]["as predicted, all"]["accuracy"] == own["scores"]["single view, all"]["accuracy"]
    run("export", "run", "--out", "net.json", "--form", "json+weights")
    weights = (tmp_path / "net.npz").read_bytes()
    refused = mien("predict", "net.json", "--data", small_csv, "--out", "net.npz", cwd=tmp_path)
    assert "net.npz would replace what is read" in refused.stderr
    assert (tmp_path / "net.npz").read_bytes() == weights
    pair, folder = (json.loads(run("evaluate", what, "--data", small_csv, "--json")) for what in ("net.json", "run"))
    assert pair["scores"]["single view, all"]["confusion"] == folder["scores"]["single view, all"]["confusion"]
    assert pair["model"] == folder["model"] == own["model"] == "mien-small-plain-trial"
    assert pair["notes"] == folder["notes"]
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 15
    photo = json.loads(run("read", "--json", "--model", "m.onnx", EXAMPLES / "eileen-collins.jpg"))
    assert len(photo["faces"]) == 1


def test_evaluation_by_ferplus_labels(small_csv: Path) -> None:
    votes = small_csv.with_name("fer2013new.csv")
    asked = ["evaluate", "mien-small", "--data", small_csv, "--labels", "ferplus"]
    report = json.loads(mien(*asked, "--ferplus", votes, "--json").stdout)
    assert report["labels_of"] == "ferplus"
    assert report["scores"]["single view, all"]["divergence"] > 0
    assert "--ferplus fer2013new.csv" in mien(*asked).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "audit", "fer2013.csv", "--quick", "--out", "report", "--write-clean", "fer2013.csv"),
        ("predict", "mien-small", "--data", "fer2013.csv", "--out", "fer2013.csv"),
    ],
)
def test_nothing_is_written_over_what_is_read(arguments: tuple[str, ...], small_csv: Path) -> None:
    before = small_csv.read_bytes()
    done = mien(*arguments, cwd=small_csv.parent)
    assert done.returncode == 2
    assert "fer2013.csv would replace what is read; give it another name" in done.stderr
    assert small_csv.read_bytes() == before


def test_a_reason_that_was_not_looked_for_costs_no_report(small_csv: Path, tmp_path: Path) -> None:
    audit = "data", "audit", small_csv, "--quick", "--out", tmp_path / "report", "--write-clean", tmp_path / "clean.csv"
    refused = mien(*audit, "--because", "vote")
    assert refused.returncode == 2
    assert "--because vote is told by FER+ votes" in refused.stderr
    refused = mien(*audit, "--because", "label")
    assert refused.returncode == 2
    assert "a quick audit does not look for label" in refused.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_no_name_steers_the_terminal(small_csv: Path) -> None:
    odd = small_csv.rename(small_csv.with_name("a\x1b[31m.csv"))
    done = mien("evaluate", "mien-small", "--data", odd)
    assert done.returncode == 0, done.stderr
    assert "Data: a\\x1b[31m.csv" in done.stdout


def test_blind_split_cannot_be_evaluated(small_csv: Path) -> None:
    done = mien("evaluate", "mien-small", "--data", small_csv, "--split", "PrivateTest")
    assert done.returncode == 2
    assert "mien predict" in done.stderr


def test_an_audit_and_an_evaluation_without_what_it_listed(small_csv: Path, tmp_path: Path) -> None:
    votes = small_csv.with_name("fer2013new.csv")
    listing = "--write-clean", tmp_path / "clean.csv", "--because", "vote"
    done = mien("data", "audit", small_csv, "--ferplus", votes, "--quick", "--out", tmp_path / "report", *listing)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Exact twins +images of PublicTest in Training +7 *\n", done.stdout)
    assert "108 of 140 rows to leave out" in done.stdout
    assert json.loads((tmp_path / "report" / "audit.json").read_text())["findings"]["twin"]["numbers"]["groups"] == 7
    assert (tmp_path / "report" / "index.html").exists()
    scored = mien("evaluate", "mien-small", "--data", small_csv, "--exclude", tmp_path / "clean.csv", "--json")
    report = json.loads(scored.stdout)
    assert report["scores"]["single view, all"]["n"] == 4  # the neutral ones of 28
    assert report["twins"] == 1  # Training is whole where twins are looked for
    role, counted, doubted = report["notes"][:3]
    assert "selection score" in role
    assert counted == "24 of 28 rows of PublicTest are left out by clean.csv (vote 24)."
    assert "labels that voters doubted" in doubted
    lines = small_csv.read_text().splitlines(keepends=True)
    small_csv.write_text("".join([lines[0], *lines[:0:-1]]))
    refused = mien("evaluate", "mien-small", "--data", small_csv, "--exclude", tmp_path / "clean.csv")
    assert refused.returncode == 2
    assert "made for other faces" in refused.stderr


def test_corrupt_is_a_table_and_a_plot(small_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = mien("evaluate", "mien-small", "--data", small_csv, "--corrupt", "--plots", tmp_path / "plots")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\| jpeg \| \d+ \(quality\) \|", done.stdout, re.MULTILINE)) == 5
    assert "the model's own threshold" in done.stdout
    assert (tmp_path / "plots" / "robustness.png").stat().st_size > 10_000
    (tmp_path / "p.csv").write_text("")
    refused = mien("evaluate", tmp_path / "p.csv", "--data", small_csv, "--corrupt")
    assert refused.returncode == 2
    assert "table of answers" in refused.stderr
    refused = mien("evaluate", "mien-small", "--data", small_csv, "--corrupt", "--views", "ten")
    assert (refused.returncode, "leave out --views ten" in refused.stderr) == (2, True)
    refused = mien("evaluate", "mien-small", "--data", small_csv, "--corrupt", "--near-twins")
    assert (refused.returncode, "leave out --near-twins" in refused.stderr) == (2, True)
    refused = mien("evaluate", "mien-small", "--data", small_csv, "--corrupt", "--labels", "ferplus")
    assert (refused.returncode, "--ferplus fer2013new.csv" in refused.stderr) == (2, True)


def test_explain_and_draw_write_beside_photos_and_never_over_them(collins: Path, tmp_path: Path) -> None:
    """Also where a photo has just the name that a picture of another one wants."""
    (tmp_path / "deep").mkdir()
    photos = [tmp_path / name for name in ("a.jpg", "a-face-1.png", "deep/a.jpg")]
    for photo in photos:
        photo.write_bytes(collins.read_bytes())
    done = mien("read", *photos, "--explain", tmp_path, "--draw", tmp_path / "deep")
    assert done.returncode == 0, done.stderr
    assert all(photo.read_bytes() == collins.read_bytes() for photo in photos)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file() and path not in photos}
    assert made == {
        "a-face-1-2.png", "a-face-1-face-1.png", "a-face-1-3.png",
        "deep/a-2.jpg", "deep/a-face-1.png", "deep/a-3.jpg",
    }  # fmt: skip
    assert Image.open(tmp_path / "a-face-1-2.png").size == (636, 388)


def test_skip_bad_counts_what_it_drops(small_csv: Path) -> None:
    with open(small_csv, "a") as file:
        file.write("3,1 2 3,Training\n")
    refused = mien("data", "import", small_csv)
    assert refused.returncode == 1
    assert "line 142" in refused.stderr
    taken = mien("data", "import", small_csv, "--skip-bad")
    assert taken.returncode == 0
    assert "1 damaged row" in taken.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_odd_names_break_no_output(collins: Path, tmp_path: Path) -> None:
    """Bytes that are not UTF-8, a line end, a code that clears the screen; and an output that takes ASCII alone."""
    pq = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "in").mkdir()
    photo = os.fsencode(tmp_path / "in") + b"/caf\xe9\n\x1b[2J\xc3\xbc.jpg"
    Path(os.fsdecode(photo)).write_bytes(collins.read_bytes())
    Path(os.fsdecode(photo).replace("ü", "y")).write_text("hello")
    files = "--csv", tmp_path / "f.csv", "--parquet", tmp_path / "f.parquet", "--draw", tmp_path / "drawn"
    written = mien("read", "in", *files, "--json", cwd=tmp_path, PYTHONIOENCODING="ascii")
    name = "in/caf\\udce9\n\x1b[2Jü.jpg"
    assert json.loads(written.stdout)["source"] == name
    with open(tmp_path / "f.csv", newline="", encoding="utf-8") as file:
        assert [row["source"] for row in csv.DictReader(file)] == [name]
    assert pq.read_table(tmp_path / "f.parquet").column("source").to_pylist() == [name]
    shown = mien("read", "in", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert "caf\\udce9\\n\\x1b[2J\\xfc.jpg" in shown.stdout
    for done in (written, shown):
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("mien: in/caf\\udce9\\n\\x1b[2Jy.jpg is no image")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is played by Linux's /dev/full")
@pytest.mark.parametrize("arguments", [["models"], ["recipes", "--json"], ["read", "--json", EXAMPLES]])
def test_a_full_disk_is_one_line(arguments: list[object]) -> None:
    command = [sys.executable, "-m", "mien", *map(str, arguments)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "mien: input or output failed: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="a broken pipe is a matter of POSIX shells")
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["read", "--json", EXAMPLES]])
def test_a_pipe_that_nobody_reads_is_silent(arguments: list[object]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mien", *map(str, arguments)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_version() -> None:
    assert re.fullmatch(r"mien \d+\.\d+\.\d+\n", mien("--version").stdout)


def test_a_cache_that_cannot_be_written_is_one_line(small_csv: Path, tmp_path: Path) -> None:
    done = mien("data", "import", small_csv, MIEN_CACHE=str(small_csv / "cache"))
    assert done.returncode == 0
    assert re.fullmatch(r"mien: .*cache cannot be written to \(Not a directory\), .*\n", done.stderr)


@pytest.mark.skipif(os.name != "posix", reason="a broken pipe is a matter of POSIX shells")
def test_a_closed_pipe_is_no_traceback(collins: Path) -> None:
    command = f'"{sys.executable}" -m mien read --json {" ".join([str(collins)] * 3)} | head -n 1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
