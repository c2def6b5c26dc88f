"""Videos as fer 25.10.3 reads them: frame by frame, frames without a face left out. `mien.watch` does better.

Source of the interface: https://github.com/JustinShenk/fer (MIT).
"""

import csv
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from mien.errors import Damaged, FileError, InputError, MissingExtra


class Video:
    """A video file, by the names and shapes of `fer.Video`. Needs the `video` extra.

    Args:
        video_file: Its path.
        outdir: Folder of what `analyze` writes; made when it is needed.
        first_face_only: Whether `to_pandas` keeps the first face of each frame alone.
        tempfile: Anything; clips are written in place, and can be played while they grow.

    Raises:
        FileError: There is no such file.
    """

    def __init__(
        self,
        video_file: str | PathLike[str],
        outdir: str | PathLike[str] = "output",
        first_face_only: bool = True,
        tempfile: str | None = None,
    ) -> None:
        self.filepath, self.outdir, self.first_face_only = Path(video_file), Path(outdir), first_face_only
        if not self.filepath.is_file():
            raise FileError(f"cannot read {video_file}: there is no such file")

    def analyze(
        self,
        detector: Any,
        display: bool = False,
        output: str = "csv",
        frequency: int | None = None,
        max_results: int | None = None,
        save_fps: int | None = None,
        video_id: str | None = None,
        save_frames: bool = True,
        save_video: bool = True,
        annotate_frames: bool = True,
        zip_images: bool = True,
        detection_box: dict[str, int | None] | None = None,
        lang: str = "en",
        include_audio: bool = False,
        size_multiplier: int = 1,
        batch_size: int = 1,
        use_async_io: bool = True,
    ) -> Any:
        """Read every frame, or some, with a `mien.compat.fer.FER`.

        Args:
            detector: Reads the frames.
            display: Show them in a live window; Q ends it.
            output: "csv": also write the rows to data.csv; "pandas": return a DataFrame.
            frequency: Read one frame in so many; None: all.
            max_results: Stop after so many frames.
            save_fps: Read so many frames a second, instead of `frequency`.
            video_id: Begins the names of saved frames; None: the file's name.
            save_frames: Save frames as JPEG under `outdir`, in images.zip or one by one (`zip_images`).
            save_video: Write a clip to `outdir`/NAME_output.mp4, or with the suffix of the file where that can be.
            annotate_frames: Draw boxes and bars into what is saved and shown.
            zip_images: As in `save_frames`.
            detection_box: Look only there: {"x_min", "x_max", "y_min", "y_max"} in pixels.
            lang, include_audio, size_multiplier: Only "en", False and 1.
            batch_size, use_async_io: Anything; they make fer faster.

        Returns:
            Rows: a frame with faces each, {"box0": [x, y, w, h], "angry0": 0.02, ..., "box1": ...}. Or the DataFrame.

        Raises:
            MissingExtra: PyAV, or for "pandas" pandas, is not installed.
            InputError: An argument cannot be honoured.
            FileError, Damaged: The video cannot be read; where it breaks off, a warning says so.
            OSError: What was asked for cannot be written.
        """
        from mien.compat.sources import keep_default
        from mien.reading.clip import CLIPS, Window
        from mien.reading.draw import draw

        keep_default("Video.analyze", lang=(lang, "en"), include_audio=(include_audio, False))
        keep_default("Video.analyze", size_multiplier=(size_multiplier, 1))
        _check_counts(frequency=frequency, max_results=max_results)
        _check_box(detection_box)
        if save_fps is not None and not (isinstance(save_fps, Real) and save_fps > 0):
            raise InputError(f"save_fps should be a number above 0, or None, but is {save_fps!r}")
        if output not in ("csv", "pandas") or not hasattr(detector, "read_frame"):
            raise InputError(f"expected a mien.compat.fer.FER and 'csv' or 'pandas', but got {detector} and {output!r}")
        if output == "pandas":
            _pandas()  # its absence is told before long work
        name, suffix = self.filepath.stem, self.filepath.suffix
        left, top = ((detection_box or {}).get(edge) or 0 for edge in ("x_min", "y_min"))
        data = []
        with ExitStack() as stack:
            pictures = self._pictures(stack, frequency, save_fps)
            save: list[_Save] = []
            if save_video:
                clip = f"{name}_output{suffix if suffix.lower() in CLIPS else '.mp4'}"
                save.append(_clip(stack, self.outdir / clip))
            if save_frames:
                save.append(_frames(stack, self.outdir, video_id or name, zip_images))
            window = stack.enter_context(closing(Window("Video"))) if display else None
            for picture in islice(pictures, max_results):
                image = _inside(picture.rgb(), detection_box)
                faces, readings = detector.read_frame(image)
                shown = draw(image, readings) if annotate_frames else image
                for each in save:
                    each(shown, picture)
                for face in faces:
                    x, y, *size = face["box"]
                    face["box"] = [x + left, y + top, *size]
                if faces:
                    data.append(faces)
                if window is not None and not window.show(shown, picture.time_s):
                    break
        return self.to_csv(data) if output == "csv" else self.to_pandas(data)

    def to_pandas(self, data: Any) -> Any:
        """What `analyze` returned as a DataFrame; the first face alone where `first_face_only`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        pandas = _pandas()
        table = data if isinstance(data, pandas.DataFrame) else pandas.DataFrame(_rows(data))
        return self.get_first_face(table) if self.first_face_only else table

    @staticmethod
    def get_first_face(df: Any) -> Any:
        """The columns of the first face, without their number."""
        first = {name: name[:-1] for name in df.columns if re.fullmatch(r"\D+0", name)}
        return df[list(first)].rename(columns=first) if first else df

    @staticmethod
    def get_emotions(df: Any) -> Any:
        """The columns that are no boxes."""
        return df[[name for name in df.columns if "box" not in name]]

    def to_csv(self, data: Any, filename: str | PathLike[str] = "data.csv") -> list[dict[str, Any]]:
        """Write what `analyze` read, rows or a DataFrame, to a table, and return its rows."""
        from mien.storage import write_whole

        rows = _rows(data)
        columns = sorted({column for row in rows for column in row}, key=_name_and_number)

        def write(file: Any) -> None:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

        write_whole(filename, write)
        return rows

    def _pictures(self, stack: ExitStack, frequency: int | None, save_fps: int | None) -> Iterator[Any]:
        """The frames that are to be read."""
        from mien.reading.video import VideoFile, sample

        file = stack.enter_context(closing(VideoFile(self.filepath)))
        pictures = _until_damage(file.frames())
        if save_fps is not None:
            return sample(pictures, 1 / save_fps)
        return islice(pictures, None, None, frequency)


def _check_counts(**counts: Any) -> None:
    for name, count in counts.items():
        if count is not None and not (isinstance(count, Integral) and int(count) > 0):
            raise InputError(f"{name} should be a whole number above 0, or None, but is {count!r}")


def _check_box(box: Any) -> None:
    for edge, value in (box or {}).items():
        if value is not None and not (isinstance(value, Integral) and int(value) >= 0):
            raise InputError(f"{edge} of detection_box should be a whole number from 0 on, or None, but is {value!r}")


def _until_damage(pictures: Iterator[Any]) -> Iterator[Any]:
    """The frames up to damage in the file, which is told by a warning, so that what was read is not lost."""
    begun = False
    try:
        for picture in pictures:
            yield picture
            begun = True
    except Damaged as error:
        if not begun:
            raise
        warnings.warn(str(error), stacklevel=3)


_Save = Callable[[Any, Any], None]
"""Takes the pixels of a frame and the `Picture` that they are from."""


def _clip(stack: ExitStack, path: Path) -> _Save:
    """What writes frames to a clip, whose size is that of the first one."""
    from mien.reading.clip import ClipWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writers: list[ClipWriter] = []

    def add(image: Any, picture: Any) -> None:
        if not writers:
            writers.append(stack.enter_context(closing(ClipWriter(path, (image.shape[1], image.shape[0])))))
        writers[0].add(image, picture.time_s)

    return add


def _frames(stack: ExitStack, folder: Path, name: str, zipped: bool) -> _Save:
    """What writes frames as JPEG files, into images.zip or one by one."""
    from mien.reading.images import encode, save_image

    folder.mkdir(parents=True, exist_ok=True)
    archive = stack.enter_context(ZipFile(folder / "images.zip", "w")) if zipped else None

    def add(image: Any, picture: Any) -> None:
        file = f"{name}{picture.number}.jpg"
        if archive is not None:
            archive.writestr(file, encode(image, ".jpg"))
        else:
            save_image(folder / file, image)

    return add


def _inside(image: Any, box: dict[str, int | None] | None) -> Any:
    """The part of a frame in which to look."""
    if box is None:
        return image
    part = image[box.get("y_min") : box.get("y_max"), box.get("x_min") : box.get("x_max")]
    if not part.size:
        raise InputError(f"the detection_box {box} has nothing of the frame of {image.shape[1]} x {image.shape[0]}")
    return part


def _rows(data: Any) -> list[dict[str, Any]]:
    """Frames of faces, or a DataFrame, as rows; rows as they are."""
    if hasattr(data, "iterrows"):
        return [row.dropna().to_dict() for _, row in data.iterrows()]
    if data and isinstance(data[0], dict):
        return list(data)
    rows = []
    for faces in data:
        row: dict[str, Any] = {}
        for number, face in enumerate(faces):
            row |= {f"{name}{number}": value for name, value in {"box": face["box"], **face["emotions"]}.items()}
        rows.append(row)
    return rows


def _name_and_number(column: str) -> tuple[str, int]:
    name = column.rstrip("0123456789")
    return name, int(column[len(name) :] or 0)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("tables of this kind need pandas; install it with: pip install pandas") from error
    return pandas
