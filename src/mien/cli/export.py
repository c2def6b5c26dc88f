"""`mien export`."""

import logging
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.text import Text

from mien.cli.console import Checkpoint, FerPlus, fail, load_faces, need_lab, out
from mien.errors import InputError


class Form(StrEnum):
    """What `export` writes."""

    ONNX = "onnx"
    INT8 = "int8"
    PAIR = "json+weights"


def export(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="A run folder; several for the mean of their weights. For int8 also an exported .onnx file; several "
            "of these for an ensemble."
        ),
    ],
    output: Annotated[Path, typer.Option("--out", help="The .onnx file, or .json for json+weights.")],
    data: Annotated[Path | None, typer.Option("--data", help="Calibrate on its PublicTest rows.")] = None,
    ferplus: FerPlus = None,
    checkpoint: Checkpoint = "best",
    name: Annotated[str | None, typer.Option("--name", help="The model's name, instead of the recipe's.")] = None,
    form: Annotated[Form, typer.Option("--form", help="What to write.")] = Form.ONNX,
) -> None:
    """Write a run as one ONNX file, checked against torch, with calibration and scores inside.

    --form int8 writes it in 8 bits: a quarter of the size, faster, scored again; it needs --data. --form
    json+weights writes the architecture as JSON and the weights beside it, for the laboratory alone. Several runs that
    were started from the same weights become one network with the mean of theirs; several exported .onnx files become
    one file whose answer is the mean of theirs. Both need --data.
    """
    from mien.storage import check_suffix

    check_suffix(output, ".json" if form is Form.PAIR else ".onnx")  # another file could not be read
    need_lab("exporting")
    files = [source.suffix == ".onnx" for source in sources]
    if len(sources) > 1 and any(files):
        if not all(files):
            raise InputError(
                "several sources should be run folders (the mean of their weights) or .onnx files (an ensemble), but "
                "these are of both kinds"
            )
        _combine(sources, output, data, ferplus, name, form)
        return
    source, *more = sources
    if form is Form.PAIR:
        from mien.lab.saved import save

        if more or data is not None or name is not None:
            raise InputError("--data, --name and several runs are for ONNX files; json+weights keeps one run as it is")
        for path in save(source, output, checkpoint=checkpoint):
            out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
        return
    if data is None and (more or form is Form.INT8):
        raise InputError("int8 and the mean of several runs look at Training faces; name the data set: --data FILE")
    from mien.lab.export import export as write
    from mien.lab.quantize import quantize
    from mien.lab.soup import Soup

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which we do not use

    faces = load_faces(data, ferplus, False) if data is not None else None
    trained = Soup(sources, faces.split("Training").images, checkpoint) if more and faces is not None else source
    if form is Form.INT8 and faces is not None:
        with TemporaryDirectory() as folder:
            plain = source if source.suffix == ".onnx" else Path(folder) / "plain.onnx"
            if plain is not source:
                write(trained, plain, checkpoint=checkpoint, name=name)
            path = quantize(plain, output, faces)
    else:
        path = write(trained, output, faces=faces, checkpoint=checkpoint, name=name)
    out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
    if faces is None:
        fail("not calibrated: no --data was given, so confidences are as trained and no answer is called uncertain")


def _combine(
    models: list[Path], output: Path, data: Path | None, ferplus: Path | None, name: str | None, form: Form
) -> None:
    from mien.lab.ensemble import combine

    if data is None or form is not Form.ONNX:
        raise InputError("an ensemble is made of exported .onnx files, as --form onnx, and needs --data FILE")
    path = combine(models, output, load_faces(data, ferplus, False), **({"name": name} if name else {}))
    out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
