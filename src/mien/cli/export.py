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

if TYPE_CHECKING:
    from mien.measuring.faceset import FaceSet


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
    skip_bad: SkipBad = False,
) -> None:
    """Write a run or a saved pair as one ONNX file, checked against torch, with calibration and scores inside.

    --form int8 writes it in 8 bits: a quarter of the size, faster, scored again; it needs --data. --form
    json+weights writes the architecture as JSON and the weights beside it, for the laboratory alone. Several exported
    .onnx files, or models of the package by name, become one whose answer is the mean of theirs; that needs --data too.
    --member takes one of them out again.
    """
    from mien.reading.recognizer import model_files
    from mien.storage import check_suffix, need_other, need_writable, real_path

    sources = [source if source.exists() else model_files().get(str(source), source) for source in sources]
    need_other(output, *sources, data, ferplus, exclude)
    check_suffix(output, ".json" if form is Form.PAIR else ".onnx")  # another file could not be read
    need_writable(output)
    if data is None and (ferplus or exclude or skip_bad):
        raise InputError("--ferplus, --exclude and --skip-bad are about the data to calibrate on; name it: --data FILE")
    need_lab("exporting")
    if member is None:
        _check_sources(sources, form, checkpoint)
    elif len(sources) > 1 or form is not Form.ONNX or checkpoint != "best":
        raise InputError("--member takes one network out of one ensemble, as --form onnx and without --checkpoint")
    faces = None
    if form is Form.PAIR:
        if real_path(output).parent == real_path(sources[0]):
            raise InputError(f"{output} would lie among the run's own records; name a place outside of {sources[0]}")
        if data is not None or name is not None:
            raise InputError("--data and --name are for ONNX files; json+weights keeps the network as it was trained")
        from mien.lab.saved import save

        written = list(save(sources[0], output, checkpoint=checkpoint))
    else:
        if data is None and (len(sources) > 1 or form is Form.INT8):
            raise InputError("an ensemble and --form int8 are calibrated and scored; name the data: --data FILE")
        faces = load_faces(data, ferplus, skip_bad, exclude) if data is not None else None
        if member is not None:
            from mien.lab.ensemble import take_member

            written = [take_member(sources[0], member, output, faces=faces, name=name)]
        else:
            written = [_write_onnx(sources, output, faces, form, checkpoint, name)]
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
    split = scores["calibration"]["split"]
    if (rows := scores[split]["single view, all"]["n"]) < FEW:
        fail(
            f"calibrated on the {rows:,} rows of {split} alone: by one temperature for all expressions (from {FEW:,} "
            "rows on each has its own), and with a threshold that is a guess"
        )


def _check_sources(sources: list[Path], form: Form, checkpoint: str) -> None:
    files = [source for source in sources if source.suffix in (".onnx", ".json")]
    if files and checkpoint != "best":
        raise InputError(f"--checkpoint {checkpoint} is for a run folder; {files[0]} holds one network alone")
    if len(sources) > 1:
        if form is not Form.ONNX:
            raise InputError(f"an ensemble is made of exported .onnx files, as --form onnx, not {form}")
        if pairs := [source for source in sources if source.suffix == ".json"]:
            raise InputError(f"an ensemble is made of .onnx files, but {pairs[0]} is a saved pair; export it first")
        if runs := [source for source in sources if source.is_dir()]:
            raise InputError(f"an ensemble is made of .onnx files, but {runs[0]} is a run folder; export it first")
    elif sources[0].suffix == ".onnx" and form is not Form.INT8:
        raise InputError(
            f"{sources[0]} is exported already: --form int8 writes it in 8 bits, several .onnx files make an "
            "ensemble, and everything else starts from a run folder or a saved pair"
        )
    elif sources[0].suffix == ".json" and form is Form.PAIR:
        raise InputError(f"{sources[0]} is such a pair already; --form onnx or int8 makes a model of it")


def _write_onnx(
    sources: list[Path], output: Path, faces: "FaceSet | None", form: Form, checkpoint: str, name: str | None
) -> Path:
    from mien.lab.ensemble import combine
    from mien.lab.export import export as write
    from mien.lab.quantize import quantize

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which we do not use
    if faces is not None and len(sources) > 1:
        return combine(sources, output, faces, name=name or "ensemble")
    (source,) = sources
    if faces is None or form is Form.ONNX:
        return write(source, output, faces=faces, checkpoint=checkpoint, name=name)
    if source.suffix == ".onnx":
        return quantize(source, output, faces, name=name)
    with TemporaryDirectory() as folder:
        plain = write(source, Path(folder) / "plain.onnx", checkpoint=checkpoint, name=name)
        return quantize(plain, output, faces, name=name)
