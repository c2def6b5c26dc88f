"""`mien export`."""

import logging
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.text import Text

from mien.cli.console import Checkpoint, Exclude, FerPlus, SkipBad, fail, load_faces, need_lab, out
from mien.errors import InputError


class Form(StrEnum):
    """What `export` writes."""

    ONNX = "onnx"
    INT8 = "int8"
    PAIR = "json+weights"


def export(
    sources: Annotated[
        list[Path], typer.Argument(help="A run folder; for int8 also an exported .onnx file; several for an ensemble.")
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
    skip_bad: SkipBad = False,
) -> None:
    """Write a run as one ONNX file, checked against torch, with calibration and scores inside.

    --form int8 writes it in 8 bits: a quarter of the size, faster, scored again; it needs --data. --form
    json+weights writes the architecture as JSON and the weights beside it, for the laboratory alone. Several exported
    .onnx files become one whose answer is the mean of theirs; that needs --data too.
    """
    from mien.storage import check_suffix, need_other, need_writable

    need_other(output, *sources, data, ferplus, exclude)
    check_suffix(output, ".json" if form is Form.PAIR else ".onnx")  # another file could not be read
    need_writable(output)
    if data is None and (ferplus or exclude or skip_bad):
        raise InputError("--ferplus, --exclude and --skip-bad are about the data to calibrate on; name it: --data FILE")
    need_lab("exporting")
    if checkpoint != "best" and any(source.suffix == ".onnx" for source in sources):
        raise InputError(f"--checkpoint {checkpoint} is for a run folder; an .onnx file holds one network alone")
    if len(sources) > 1:
        if data is None or form is not Form.ONNX:
            raise InputError("an ensemble is made of exported .onnx files, as --form onnx, and needs --data FILE")
        from mien.lab.ensemble import combine

        path = combine(sources, output, load_faces(data, ferplus, skip_bad, exclude), name=name or "ensemble")
        out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
        return
    (source,) = sources
    if form is Form.PAIR:
        from mien.lab.saved import save

        if data is not None or name is not None:
            raise InputError("--data and --name are for ONNX files; json+weights keeps the network as it was trained")
        for path in save(source, output, checkpoint=checkpoint):
            out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
        return
    if form is Form.INT8 and data is None:
        raise InputError("--form int8 looks at Training and other faces; name the data set: --data FILE")
    from mien.lab.export import export as write
    from mien.lab.quantize import quantize

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which we do not use

    faces = load_faces(data, ferplus, skip_bad, exclude) if data is not None else None
    if form is Form.INT8 and faces is not None:
        with TemporaryDirectory() as folder:
            plain = source if source.suffix == ".onnx" else Path(folder) / "plain.onnx"
            if plain is not source:
                write(source, plain, checkpoint=checkpoint, name=name)
            path = quantize(plain, output, faces, name=name)
    else:
        path = write(source, output, faces=faces, checkpoint=checkpoint, name=name)
    out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
    if faces is None:
        fail("not calibrated: no --data was given, so confidences are as trained and no answer is called uncertain")
