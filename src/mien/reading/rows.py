"""Rows of a video, written as they come: whatever stops a run, its rows can be read, and it can go on.

CSV and JSON Lines grow in place. A Parquet file has its index at the end, so its rows grow as JSON Lines beside it,
under its name with `.jsonl` behind, and become Parquet when the video has ended.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator
from io import FileIO, StringIO
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from mien.errors import Damaged, FileError, InputError
from mien.reading.tables import COLUMNS, RAW, SHIFT, Row, as_text, check_form, write_table
from mien.storage import need_file, need_writable, parse_json, suffix_of, write_whole

FORMS = (".csv", ".jsonl", ".parquet")
"""Suffixes of the tables of a video."""


def check_rows(path: str | PathLike[str]) -> None:
    """Refuse a table's file name before long work rather than after it.

    Raises:
        InputError: Its suffix is none of `FORMS`, or it is a pipe or device.
        MissingExtra: Parquet without pyarrow.
        FileError: It cannot be written.
    """
    check_form(path, *FORMS)
    need_writable(path)
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f"rows are read once more to be summed up, and {path} is a pipe or device; name a file")


class RowLog:
    """A table that grows frame by frame.

    Args:
        path: A .csv, .jsonl or .parquet file. One of a finished run is replaced, but not before the first row comes.
        settings: What the rows depend on, as plain values for JSON, their `video` among it; an interrupted run goes
            on under the same only. None: this run cannot be resumed, and no notes are made.
        resume: Go on with an interrupted run. Where there is none, begin. Rows that end where their video broke off are
            not gone on with, and not taken for complete.
        shift: With the columns of a baseline.

    Attributes:
        state: Where to go on; None at the beginning.
        finished: There is nothing to resume: the file is complete.

    Raises:
        InputError: The run was interrupted under other settings; or it was interrupted, and `resume` is not set or
            this run cannot be resumed; or rows wait that nothing can go on with; or there is a complete table to be
            resumed, but not of this video and these columns; or one of a video that broke off.
        FileError, MissingExtra: As `check_rows`, or the file cannot be written.
    """

    def __init__(
        self, path: str | PathLike[str], settings: dict[str, Any] | None, *, resume: bool = False, shift: bool = False
    ) -> None:
        check_rows(path)
        self.path = Path(path)
        self.growing = self.path.with_name(self.path.name + ".jsonl") if suffix_of(path) == ".parquet" else self.path
        self.columns = (*COLUMNS, *RAW, *(SHIFT if shift else ()))
        self._notes = self.path.with_name(self.path.name + ".resume")
        self._settings = json.loads(json.dumps(settings))
        notes = self._read_notes(resume)
        self.state: dict[str, Any] | None = notes["state"] if notes else None
        self._file: FileIO | None = None
        self._length = 0
        self.finished = resume and settings is not None and notes is None and self._is_complete(settings["video"])
        if notes:
            self._open("r+b", notes["bytes"])  # what came after the last note comes again
        elif settings is None and self.growing != self.path and os.path.lexists(self.growing):
            raise InputError(
                f"{self.growing} holds rows of a run that did not come to its end, and would be written over; read "
                "them, or move or delete that file, and begin anew"
            )
        elif not self.finished:
            self._try_place()

    def add(self, rows: Iterable[Row]) -> None:
        """Append the rows of a frame.

        Raises:
            FileError: The disk is full, say. The rows of earlier frames can be read, and no half a row follows them.
        """
        if self._file is None:
            self._open("wb", 0)
            self._notes.unlink(missing_ok=True)
            self._append(",".join(self.columns) + "\n" if suffix_of(self.path) == ".csv" else "")
            self.note(None)
        text = StringIO()
        if suffix_of(self.growing) == ".csv":
            csv.DictWriter(text, self.columns, lineterminator="\n").writerows(rows)
        else:
            text.writelines(json.dumps(row) + "\n" for row in rows)
        self._append(text.getvalue())

    def note(self, state: dict[str, Any] | None) -> None:
        """Note down that a later run may go on here.

        Args:
            state: What it will need.

        Raises:
            FileError: The note cannot be written.
        """
        if self._settings is None:
            return
        if self._file is not None:  # or a power cut could take rows that the note counts
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._failed(error) from error
        content = {"settings": self._settings, "bytes": self._length, "state": state}
        write_whole(self._notes, lambda file: json.dump(content, file))

    def rows(self) -> Iterator[Row]:
        """All rows so far, of earlier runs too; numbers of a CSV file come as text."""
        if self.finished:
            yield from _read(self.path)
        elif self._file is not None:
            yield from _read(self.growing)

    def finish(self, problem: str = "") -> None:
        """The video has ended: make the table final. Without a row nothing is written, and an older file stays.

        Args:
            problem: Why there are no more rows, where that is not the end of the video. A note of it stays beside the
                table, so that nobody takes this for all there is.

        Raises:
            FileError: It cannot be written; the rows can still be read where they grew.
        """
        if self._file is None:
            return
        self.close()
        if self.growing != self.path:
            write_table(self.path, self.rows(), self.columns)
        if problem and self._settings is not None:
            write_whole(self._notes, lambda file: json.dump({"problem": problem}, file))
        else:
            self._notes.unlink(missing_ok=True)
        if self.growing != self.path:  # last: before the notes tell the end, they can be gone on with
            self.growing.unlink()
        self.finished = True

    def close(self) -> None:
        """Stop here; a later run may go on."""
        if self._file is not None:
            self._file.close()

    def _open(self, mode: Literal["r+b", "wb"], length: int) -> None:
        try:
            self.growing.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.growing, mode, buffering=0)  # noqa: SIM115
            self._file.truncate(length)
            self._file.seek(length)
        except OSError as error:
            raise self._failed(error) from error
        self._length = length

    def _try_place(self) -> None:
        """Open a file that is there as it is, so that what cannot be written is told before long work."""
        if os.path.lexists(self.growing):
            try:
                open(self.growing, "ab").close()
            except OSError as error:
                raise self._failed(error) from error

    def _is_complete(self, video: str) -> bool:
        """Whether there is a table with rows; they must be of this video and have these columns."""
        if not self.path.exists():
            return False
        try:
            first = next(_read(self.path), None)
        except (OSError, ValueError, csv.Error) as error:
            raise Damaged(f"{self.path} is no table that can be read: {error}; delete it to begin anew") from error
        advice = "name another file, or leave out --resume to replace it"
        if first is not None and (not isinstance(first, dict) or tuple(first) != self.columns):
            raise InputError(f"{self.path} has other columns than this run would give it; {advice}")
        if first is not None and first["source"] != as_text(video):
            raise InputError(f"{self.path} holds the rows of {first['source']!r}, and not of {video!r}; {advice}")
        return first is not None

    def _read_notes(self, resume: bool) -> dict[str, Any] | None:
        if not self._notes.exists():
            return None
        notes = self._parse_notes()
        if problem := notes.get("problem"):
            if resume and self.path.exists():
                raise InputError(
                    f"{self.path} ends where its video did: {problem}; where that file is whole now, or these rows are "
                    "not wanted, leave out --resume to begin anew"
                )
            return None
        if not resume or self._settings is None:
            keep = "name another file for a camera's rows" if self._settings is None else "continue it with --resume"
            advice = f"{keep}, or begin anew by deleting {self._notes}"
            raise InputError(f"{self.growing} is of an interrupted run: {advice}")
        if changed := [k for k, value in self._settings.items() if notes["settings"].get(k) != value]:
            was = ", ".join(f"{name} was {notes['settings'].get(name)!r}" for name in changed)
            raise InputError(f"{self.growing} was begun with other settings ({was}); use the same to continue it")
        return notes

    def _parse_notes(self) -> dict[str, Any]:
        try:
            need_file(self._notes)
            notes: dict[str, Any] = parse_json(self._notes.read_text(encoding="utf-8"))
            if isinstance(notes, dict) and isinstance(notes.get("problem"), str):
                return notes
            length, settings, state = notes["bytes"], notes["settings"], notes["state"]
            if type(length) is not int or not isinstance(settings, dict) or not isinstance(state, dict | None):
                raise ValueError("it holds other things than it should")
            if not 0 <= length <= self.growing.stat().st_size:
                raise ValueError("the rows are shorter than they were")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{self._notes} is damaged: {error}; delete it to begin anew") from error
        return notes

    def _append(self, text: str) -> None:
        assert self._file is not None
        left = memoryview(text.encode("utf-8"))
        length = self._length + len(left)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(self._length)
            raise self._failed(error) from error
        self._length = length

    def _failed(self, error: OSError) -> FileError:
        return FileError(f"cannot write {self.growing}: {error.strerror or error}")


def _read(path: Path) -> Iterator[Row]:
    """The rows of a table, one after the other."""
    if suffix_of(path) == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as table:
            for group in table.iter_batches():
                yield from group.to_pylist()
        return
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file) if suffix_of(path) == ".csv" else map(parse_json, file)
