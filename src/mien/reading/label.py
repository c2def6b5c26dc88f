"""Millions of images to a folder of rows: planned, spread over processes or machines, resumed, summed up."""

import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

from mien.errors import InputError
from mien.reading.bulk import Failure
from mien.reading.engines import Done, check_local, check_ray, run_local, run_ray
from mien.reading.plan import LabelOptions, Plan, open_plan
from mien.reading.runtime import cores
from mien.reading.shards import read_counts
from mien.reading.tables import Row, write_table
from mien.storage import write_whole

ENGINES = ("local", "ray")
FAILURES = ("source", "reason")
"""The columns of failures.parquet."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has found; summary.json with the manifest's values behind.

    Attributes:
        images: Images that were read, of all starts.
        faces: Faces in them.
        expressions: Faces by expression.
        uncertain_share: Faces called uncertain, of all faces.
        no_face_share: Images without a face, of all that were read.
        failures: Images that could not be read.
        unfinished: Shards that were given up; another start tries them again.
        labelled_now: Images of the shards that this start labelled.
        seconds: Wall time of this start, with the listing of the source.
    """

    images: int
    faces: int
    expressions: dict[str, int]
    uncertain_share: float
    no_face_share: float
    failures: int
    unfinished: list[int]
    labelled_now: int
    seconds: float


def label(
    source: str | PathLike[str],
    out: str | PathLike[str],
    options: LabelOptions | None = None,
    *,
    engine: str = "local",
    workers: int = 0,
    address: str | None = None,
    gpus: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Summary:
    """Read the faces of all images of a source into a folder of Parquet files.

    Whatever stops it, a later call with the same arguments goes on, and each image is labelled exactly once; its rows
    do not depend on the engine, the workers or the stops. Where this is called from a script, have it under
    `if __name__ == "__main__":`, as the processes of the local engine import the script.

    Args:
        source: A folder, a pattern, a list of names (.txt), a .tar archive, a .parquet table, or one image; a path, or
            a URL that fsspec opens. See `mien.reading.sources.list_source`.
        out: The folder: rows/part-*.parquet, failures.parquet, summary.json; new, or of an earlier call.
        options: What the rows depend on.
        engine: "local", processes of this machine; or "ray".
        workers: How many; 0: one a core (Ray: one a GPU, or one a CPU of the cluster).
        address: Of a Ray cluster; None: one on this machine, for this call.
        gpus: CUDA devices that Ray's workers share.
        report: Called with the images that are done, those of earlier calls among them, and the number of all.
        warn: Called with what went wrong and is mended or left for a later call: a killed process, storage
            that fails, memory that is short.

    Returns:
        The counts, which are in summary.json too.

    Raises:
        InputError: An argument is out of its range, or the folder was begun with other ones; or a script calls this
            when it is imported.
        FileError: The source cannot be read, or the folder not written; Ray's address does not answer.
        NotFound, Damaged, MissingExtra: As `mien.reading.plan.open_plan`.
    """
    if engine not in ENGINES:
        raise InputError(f"engine should be one of {', '.join(ENGINES)}, but is {engine!r}")
    if workers < 0 or gpus < 0:
        raise InputError(f"workers and gpus should be 0 or more, but are {workers} and {gpus}")
    if engine == "local" and (address is not None or gpus):
        raise InputError("address and gpus are for the ray engine; the local one uses this machine's cores")
    if engine == "ray":
        check_ray(address)  # before the source is listed, which may take long
    else:
        check_local()
    begin = time.monotonic()
    with open_plan(source, out, options or LabelOptions()) as plan:
        todo = plan.missing()
        before = plan.manifest.images - sum(map(plan.size, todo))
        done = before
        report(done, plan.manifest.images)
        with closing(_run(plan, todo, engine, workers, address, gpus)) as shards:
            for ended in shards:
                if ended.problem is None:
                    done += plan.size(ended.shard)
                    report(done, plan.manifest.images)
                else:
                    then = "it is left for another start" if ended.final else "it is begun again"
                    warn(f"shard {ended.shard} was not labelled: {ended.problem}; {then}")
        return _finish(plan, done - before, time.monotonic() - begin)


def _run(
    plan: Plan, todo: list[int], engine: str, workers: int, address: str | None, gpus: int
) -> Generator[Done, None, None]:
    if todo and engine == "ray":
        yield from run_ray(plan, todo, workers, address=address, gpus=gpus)
    elif todo:
        yield from run_local(plan, todo, workers or cores())


def _finish(plan: Plan, labelled_now: int, seconds: float) -> Summary:
    """Gather what the shards say of themselves: failures.parquet, summary.json."""
    unfinished = plan.missing()
    expressions: Counter[str] = Counter()
    totals: Counter[str] = Counter()

    def failures() -> Iterator[Row]:
        for shard in sorted(set(range(plan.shards)) - set(unfinished)):
            counts = read_counts(plan.part(shard))
            expressions.update(counts.expressions)
            totals.update({name: getattr(counts, name) for name in ("images", "faces", "without_face", "uncertain")})
            totals["failures"] += len(counts.failures)
            yield from map(asdict, counts.failures)

    write_table(plan.folder / "failures.parquet", failures(), FAILURES)
    summary = Summary(
        images=totals["images"],
        faces=totals["faces"],
        expressions=dict(expressions),
        uncertain_share=round(totals["uncertain"] / max(1, totals["faces"]), 6),
        no_face_share=round(totals["without_face"] / max(1, totals["images"]), 6),
        failures=totals["failures"],
        unfinished=unfinished,
        labelled_now=labelled_now,
        seconds=round(seconds, 3),
    )
    text = json.dumps(asdict(summary) | asdict(plan.manifest) | {"images": summary.images}, indent=2) + "\n"
    write_whole(plan.folder / "summary.json", lambda file: file.write(text))
    return summary


def read_failures(out: str | PathLike[str]) -> Iterator[Failure]:
    """The images of a finished run that could not be read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(Path(out) / "failures.parquet") as table:
        for batch in table.iter_batches(1000):
            yield from (Failure(**row) for row in batch.to_pylist())
