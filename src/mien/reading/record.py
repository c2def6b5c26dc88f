"""One run of `mien watch`: a video's frames, and what they leave behind in a table, a clip, a picture and a window."""

import tempfile
from collections.abc import Generator
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mien.errors import BreaksOff, InputError
from mien.reading.clip import ClipWriter, Window, check_clip
from mien.reading.draw import draw
from mien.reading.images import check_format
from mien.reading.rows import RowLog, check_rows
from mien.reading.tables import frame_rows
from mien.reading.timeline import TrackSummary, draw_timeline, summarise
from mien.reading.tracks import TrackOptions
from mien.reading.watch import Frame, Watch
from mien.storage import need_other, need_writable


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a run shall leave behind.

    Attributes:
        rows: A .csv, .jsonl or .parquet file: a row for each face and frame, and one for a frame without a face.
        clip: An annotated H.264 clip with the sound of the video.
        timeline: A picture of the expressions over time.
        summary: Sum up the tracks.
        show: A live window.
        resume: Go on with the rows of an interrupted run.
    """

    rows: Path | None = None
    clip: Path | None = None
    timeline: Path | None = None
    summary: bool = False
    show: bool = False
    resume: bool = False

    def check(self, source: str) -> None:
        """Refuse what cannot be done before long work rather than after it.

        Raises:
            InputError, FileError, MissingExtra: A name or folder will not do, or is that of the source itself.
        """
        if self.rows is not None:
            check_rows(self.rows)
        if self.clip is not None:
            check_clip(self.clip, source)
        if self.timeline is not None:
            check_format(self.timeline.suffix)
            need_writable(self.timeline)
        for path in (self.rows, self.timeline):
            need_other(path, source)
        if self.resume and self.rows is None:
            raise InputError("--resume continues the rows of an interrupted run; name them with --rows FILE")
        if self.resume and self.clip is not None:
            raise InputError("--resume continues rows, but no clip can be continued; leave out --out, or --resume")


class Recording:
    """A video being watched and recorded.

    >>> recording = Recording("party.mp4", Outputs(rows=Path("party.csv")))
    >>> for frame in recording.frames():
    ...     print(frame.time_s)
    >>> summaries = recording.finish()

    Args:
        source: A video file, or the number of a camera.
        outputs: What it shall leave behind.
        options: As those of `watch`.

    Attributes:
        watch: What gives the frames.
        complete: The rows of this video are complete already: nothing is left to resume, and `finish` sums them up.

    Raises:
        InputError, FileError, MissingExtra, Damaged: As `Outputs.check`, `RowLog`, `Watch` and `Window`.
    """

    def __init__(self, source: str | PathLike[str] | int, outputs: Outputs, **options: Any) -> None:
        outputs.check(str(source))
        self.outputs = outputs
        self._window = Window(f"mien: {source}") if outputs.show else None
        self.watch = Watch(source, **options)
        if outputs.resume and self.watch.live:
            raise InputError("--resume continues a file, but a camera's past is gone")
        self._folder = tempfile.TemporaryDirectory(prefix="mien-", ignore_cleanup_errors=True)
        self._rows: RowLog | None = None
        if outputs.rows is not None or outputs.timeline is not None or outputs.summary:
            path = outputs.rows or Path(self._folder.name) / "rows.jsonl"
            tracking = options.get("tracking") or TrackOptions()
            settings = None if self.watch.live else _settings(self.watch, options | {"tracking": asdict(tracking)})
            self._rows = RowLog(path, settings, resume=outputs.resume, shift=tracking.baseline_s > 0)
        self.complete = self._rows is not None and self._rows.finished
        self._left = False  # the window was closed before the end
        self._problem = ""

    def frames(self) -> Generator[Frame, None, None]:
        """The frames, each passed on when it has been recorded.

        Raises:
            FileError: Something cannot be written; what was written before can be read.
            Damaged, InputError: As `Watch.frames`.
        """
        writer: ClipWriter | None = None
        rows, watch, clip = self._rows, self.watch, self.outputs.clip
        try:
            for frame in watch.frames(rows.state if rows else None):
                if clip is not None and writer is None:  # before the first row: it may not be possible
                    sound = None if watch.live else watch.name
                    writer = ClipWriter(clip, (frame.width, frame.height), source=sound)
                if rows is not None:
                    rows.add(frame_rows(watch.name, frame.number, frame.time_s, frame.readings, rows.columns))
                    if state := watch.checkpoint():
                        rows.note(state)
                if writer is not None or self._window is not None:
                    image = draw(frame.image(), frame.readings)
                    if writer is not None:
                        writer.add(image, frame.time_s)
                    if self._window is not None and not self._window.show(image, frame.time_s):
                        self._left = not watch.live
                        return
                yield frame
        except BreaksOff as error:
            self._problem = str(error)
            raise
        finally:
            if writer is not None:
                writer.close()

    def finish(self) -> list[TrackSummary]:
        """The video has ended: make the table final, and then draw the picture. A table of a file whose window was
        closed before its end stays open to be resumed; one that was complete already stays as it is; beside one of a
        video that broke off stays a note of that.

        Returns:
            A summary of each track, where rows were kept.

        Raises:
            FileError: Something cannot be written. A picture that cannot does not cost the table.
        """
        if self._rows is None:
            return []
        summaries = summarise(self._rows.rows(), self.watch.every_s)
        if not self._left:
            self._rows.finish(self._problem)
        if self.outputs.timeline is not None:
            title = Path(self.watch.name).name
            draw_timeline(self.outputs.timeline, self._rows.rows, summaries, title, self.watch.every_s)
        return summaries

    def close(self) -> None:
        """Let go of everything; an unfinished table may be resumed later."""
        self.watch.close()
        if self._rows is not None:
            self._rows.close()
        if self._window is not None:
            self._window.close()
        self._folder.cleanup()


def _settings(watch: Watch, options: dict[str, Any]) -> dict[str, Any]:
    """What the rows depend on: the video, the model, and the options that can be written down."""
    path, card = Path(watch.name), watch.recognizer.card
    plain = {name: each for name, each in options.items() if isinstance(each, int | float | str | dict | None)}
    plain["min_score"] = getattr(options.get("detector"), "min_score", None)
    size = path.stat().st_size if path.is_file() else None
    return {"video": watch.name, "bytes": size, "model": card.name, "probe": card.probe, **plain}
