"""`mien export`."""

import logging
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from mien.cli.console import Checkpoint, Exclude, FerPlus, SkipBad, fail, load_faces, need_lab, out
from mien.errors import InputError
from mien.storage import suffix_of

if TYPE_CHECKING:
    from mien.measuring.faceset import FaceSet


class Mean(StrEnum):
    """Of what several models are made one."""

    ANSWERS = "answers"
    WEIGHTS = "weights"


class Form(StrEnum):
    """What `export` writes."""

    ONNX = "onnx"
    INT8 = "int8"
    PAIR = "json+weights"


def export(
    sources: Annotated[
        list[Path],
        typer.Argument(help="A run folder, or the .json of a pair; for int8 also an .onnx file; several of these, or "
                       "models by name, for an ensemble."),
    ],
    output: Annotated[Path, typer.Option("--out", help="The .onnx file, or .json for json+weights.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Calibrate on its PublicTest, or on the rows that chose the epoch.")
    ] = None,
    ferplus: FerPlus = None,
    exclude: Exclude = None,
    checkpoint: Checkpoint = "best",
    name: Annotated[str | None, typer.Option("--name", help="The model's name, instead of the recipe's.")] = None,
    form: Annotated[Form, typer.Option("--form", help="What to write.")] = Form.ONNX,
    member: Annotated[
        int | None, typer.Option("--member", min=1, help="Take this network, from 1 on, out of an ensemble.")
    ] = None,
    mean: Annotated[
        Mean, typer.Option("--mean", help="Of several models: of their answers, or of their weights, as one network.")
    ] = Mean.ANSWERS,
    new: Annotated[
        bool,
        typer.Option("--without-near-twins", help="Calibrate on pictures that Training has in no version."),
    ] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Write a run or a saved pair as one ONNX file, checked against torch, with calibration and scores inside.

    --form int8 writes it in 8 bits: a quarter of the size, faster, scored again; it needs --data. --form
    json+weights writes the architecture as JSON and the weights beside it, for the laboratory alone. Several exported
    .onnx files, or models of the package by name, become one whose answer is the mean of theirs; that needs --data too.
    --member takes one of them out again. With --mean weights they become one network instead, which takes the time of
    one; they must be the same network, trained on from the same weights in several ways.
    """
    from mien.reading.recognizer import model_files
    from mien.storage import check_suffix, need_other, need_writable

    sources = [source if source.exists() else model_files().get(str(source), source) for source in sources]
    need_other(output, *sources, data, ferplus, exclude)
    check_suffix(output, ".json" if form is Form.PAIR else ".onnx")  # another file could not be read
    need_writable(output)
    if data is None and (ferplus or exclude or skip_bad or new):
        raise InputError(
            "--ferplus, --exclude, --skip-bad and --without-near-twins are about the data to calibrate on; name it: "
            "--data FILE"
        )
    need_lab("exporting")
    if member is None:
        _check_sources(sources, form, checkpoint, mean)
    elif len(sources) > 1 or form is not Form.ONNX or checkpoint != "best" or mean is not Mean.ANSWERS:
        raise InputError("--member takes one network out of one ensemble, as --form onnx and without --checkpoint")
    faces = None
    if form is Form.PAIR:
        written = _write_pair(sources[0], output, checkpoint, of_onnx=data is not None or name is not None)
    else:
        if data is None and (len(sources) > 1 or form is Form.INT8):
            raise InputError("an ensemble and --form int8 are calibrated and scored; name the data: --data FILE")
        faces = load_faces(data, ferplus, skip_bad, exclude) if data is not None else None
        if member is not None:
            from mien.lab.ensemble import take_member

            written = [take_member(sources[0], member, output, faces=faces, name=name, new=new)]
        elif faces is not None and len(sources) > 1:
            written = [_of_several(sources, output, faces, mean, name, new)]
        else:
            written = [_write_onnx(sources[0], output, faces, form, checkpoint, name, new)]
    for path in written:
        out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
    if data is None and form is Form.ONNX:
        how = "as trained" if member is None else "as calibrated in the ensemble"
        fail(f"no --data was given, so confidences are {how} and no answer is called uncertain")
    if faces is not None:
        _tell_few(written[0])


def _tell_few(path: Path) -> None:
    """Say so where a model was calibrated on few rows."""
    from mien.measuring.metrics import FEW
    from mien.reading.recognizer import load_model

    scores = load_model(path).card.scores
    split, rows = (scores["calibration"][key] for key in ("split", "n"))
    if rows < FEW:
        fail(
            f"calibrated on the {rows:,} rows of {split} alone: by one temperature for all expressions (from {FEW:,} "
            "rows on each has its own), and with a threshold that is a guess"
        )


def _check_sources(sources: list[Path], form: Form, checkpoint: str, mean: Mean) -> None:
    files = [source for source in sources if suffix_of(source) in (".onnx", ".json")]
    if files and checkpoint != "best":
        raise InputError(f"--checkpoint {checkpoint} is for a run folder; {files[0]} holds one network alone")
    if len(sources) > 1:
        if form is not Form.ONNX:
            raise InputError(f"an ensemble is made of exported .onnx files, as --form onnx, not {form}")
        if pairs := [source for source in sources if suffix_of(source) == ".json"]:
            raise InputError(f"an ensemble is made of .onnx files, but {pairs[0]} is a saved pair; export it first")
        if runs := [source for source in sources if source.is_dir()]:
            raise InputError(f"an ensemble is made of .onnx files, but {runs[0]} is a run folder; export it first")
    elif mean is Mean.WEIGHTS:
        raise InputError("--mean weights is of several models; name two or more .onnx files")
    elif suffix_of(sources[0]) == ".onnx" and form is not Form.INT8:
        raise InputError(
            f"{sources[0]} is exported already: --form int8 writes it in 8 bits, several .onnx files make an "
            "ensemble, and everything else starts from a run folder or a saved pair"
        )
    elif suffix_of(sources[0]) == ".json" and form is Form.PAIR:
        raise InputError(f"{sources[0]} is such a pair already; --form onnx or int8 makes a model of it")


def _write_pair(source: Path, output: Path, checkpoint: str, *, of_onnx: bool) -> list[Path]:
    """Both files; `of_onnx`: whether an option was given that is for ONNX files alone."""
    from mien.lab.saved import save
    from mien.storage import real_path

    if real_path(output).parent == real_path(source):
        raise InputError(f"{output} would lie among the run's own records; name a place outside of {source}")
    if of_onnx:
        raise InputError("--data and --name are for ONNX files; json+weights keeps the network as it was trained")
    return list(save(source, output, checkpoint=checkpoint))


def _of_several(
    sources: list[Path], output: Path, faces: "FaceSet", mean: Mean, name: str | None, new: bool
) -> Path:
    from mien.lab.average import average
    from mien.lab.ensemble import combine

    if mean is Mean.WEIGHTS:
        _without_remarks()
        return average(sources, output, faces, name=name, new=new)
    return combine(sources, output, faces, name=name or "ensemble", new=new)


def _write_onnx(
    source: Path, output: Path, faces: "FaceSet | None", form: Form, checkpoint: str, name: str | None, new: bool
) -> Path:
    from mien.lab.export import export as write
    from mien.lab.quantize import quantize

    _without_remarks()
    if faces is None or form is Form.ONNX:
        return write(source, output, faces=faces, checkpoint=checkpoint, name=name, new=new)
    if suffix_of(source) == ".onnx":
        return quantize(source, output, faces, name=name, new=new)
    with TemporaryDirectory() as folder:
        plain = write(source, Path(folder) / "plain.onnx", checkpoint=checkpoint, name=name)
        return quantize(plain, output, faces, name=name, new=new)


def _without_remarks() -> None:
    """Torch's exporter misses torchvision, which we do not use; torch sets its own levels as it is imported."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
