#!/usr/bin/env python3
"""Give every file of the corpus to every entry point that takes its kind, and see that each ends as it should.

    python benchmarks/fuzz/drive.py                 # all kinds; exit status 1 where something is wrong
    python benchmarks/fuzz/drive.py --kind onnx --kind images

A file gives a result or a MienError. Findings are: any other exception, a result for what must be refused, a crash,
more than --seconds of processor time or --hang of waiting, a process that grows by more than --megabytes, code run, or
a file of the corpus or outside the working folder changed. Each kind is read in a child process; one that dies is
started anew behind the file that killed it.
"""

import argparse
import ctypes
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import corpus
import entries

from mien.errors import MienError

HERE = Path(__file__).parent
SHOWN = 40  # findings
CEILING = 3  # times --megabytes of address space beyond what the child begins with: a brake, not the measure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=entries.ENTRIES, help="only these kinds")
    parser.add_argument("--seconds", type=float, default=5.0, help="processor time that one file may take")
    parser.add_argument("--hang", type=float, default=60.0, help="seconds after which a child counts as hanging")
    parser.add_argument("--megabytes", type=int, default=1000, help="memory that one file may take")
    parser.add_argument("--corpus", type=Path, help="a corpus that was made before")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "FROM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options, Path(options.child[0]), int(options.child[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        options.corpus = (options.corpus or work / "corpus").absolute()
        canary = corpus.canary(options.corpus) if options.corpus.exists() else corpus.make(options.corpus)
        before = state(options.corpus)
        results = [result for kind in options.kind or entries.ENTRIES for result in watch(kind, work, options)]
        if canary.exists():
            results.append({"kind": "all", "file": "?", "problem": "code of the corpus was run"})
        if changed := before ^ state(options.corpus):
            results.append({"kind": "all", "file": str(sorted(changed)[:3]), "problem": "the corpus was changed"})
        if outside := sorted(set(os.listdir(work)) - {"corpus", "home"} - set(entries.ENTRIES)):
            results.append({"kind": "all", "file": str(outside), "problem": "written outside of the working folder"})
    return tell(results, options)


def state(folder: Path) -> set[tuple[str, int, int]]:
    """Names, sizes and times of the files below a folder."""
    paths = [Path(place, name) for place, folders, names in os.walk(folder) for name in folders + names]
    return {(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


def watch(kind: str, work: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the children of a kind tell, with a word for those that died or hung."""
    files = sorted((options.corpus / kind).iterdir())
    begin = 0
    while begin < len(files):
        command = [sys.executable, str(HERE / "drive.py"), "--kind", kind, "--megabytes", str(options.megabytes)]
        command += ["--corpus", str(options.corpus), "--child", str(work), str(begin)]
        home = {"HOME": str(work / "home"), "TMPDIR": str(work / kind), "MIEN_CACHE": str(work / kind / "cache")}
        (work / kind).mkdir(exist_ok=True)
        errors = work / kind / "stderr.txt"
        with (
            open(errors, "ab") as stderr,
            subprocess.Popen(command, env=os.environ | home, stdout=subprocess.PIPE, stderr=stderr) as process,
        ):
            assert process.stdout is not None
            last = None
            hung = False
            for last in lines(process, options.hang):
                if "problem" not in last and last["seconds"] > options.seconds:
                    last["problem"] = f"took {last['seconds']:.1f} s"
                if "problem" not in last and last["megabytes"] > options.megabytes:
                    last["problem"] = f"needed {last['megabytes']:,} MB"
                if last.get("entry"):
                    yield last
            hung = process.poll() is None
            process.kill()
        if last is not None and last.get("end"):
            return
        if last is None:
            raise SystemExit(f"the child for {kind} does not start:\n{errors.read_text()[-2000:]}")
        stopped = last["next"]
        why = f"nothing for {options.hang:g} s" if hung else f"died, status {process.returncode}"
        yield {
            "kind": kind,
            "file": files[stopped].name,
            "entry": last["trying"],
            "problem": why,
            "seconds": 0,
            "megabytes": 0,
        }
        begin = stopped + 1


def lines(process: subprocess.Popen[bytes], hang: float) -> Iterator[dict[str, Any]]:
    """The lines of a child, until it ends or falls silent."""
    assert process.stdout is not None
    while select.select([process.stdout], [], [], hang)[0]:
        line = process.stdout.readline()
        if not line:
            process.wait()
            return
        yield json.loads(line)


def child(options: argparse.Namespace, work: Path, begin: int) -> None:
    """Read the files of a kind, a line of JSON before and after each."""
    (kind,) = options.kind
    files = sorted((options.corpus / kind).iterdir())
    entries.place(work / kind)
    say = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no line of ours
    ways = entries.ENTRIES[kind]()
    ways_warm(ways, files)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    ceiling = now + CEILING * options.megabytes * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    for number, path in enumerate(files[begin:], begin):
        for entry, function in ways.items():
            say.write(json.dumps({"next": number, "trying": entry, "seconds": 0, "megabytes": 0}) + "\n")
            say.write(
                json.dumps({"kind": kind, "next": number, "trying": entry, **attempt(path, entry, function)}) + "\n"
            )
    say.write(json.dumps({"end": True, "seconds": 0, "megabytes": 0}) + "\n")


def ways_warm(ways: dict[str, entries.Entry], files: list[Path]) -> None:
    """Import what the entries import when they are first used, so that no file is charged for it."""
    for path in files:
        if path.stem.startswith("sound"):
            for function in ways.values():
                with suppress(MienError):
                    function(path)
            return


def attempt(path: Path, entry: str, function: entries.Entry) -> dict[str, Any]:
    """What becomes of a file, and what it took."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier files have left is not this one's
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    before = memory("VmRSS")
    start, wall = time.process_time(), time.monotonic()
    found: dict[str, Any] = {"file": path.name, "entry": entry}
    try:
        function(path)
        found["result"] = "read"
        if path.name.startswith("refused-"):
            found["problem"] = "should have been refused, and was read"
    except MienError as error:
        found |= {"result": type(error).__name__, "reason": str(error)[:300]}
    except BaseException as error:  # noqa: BLE001 - what is looked for is all that is no MienError
        found |= {"result": "raised", "problem": f"{type(error).__name__}: {error}"[:300]}
    return found | {
        "seconds": round(time.process_time() - start, 3),
        "wall": round(time.monotonic() - wall, 3),
        "megabytes": round((memory("VmHWM") - before) / 1e6),
    }


def memory(kind: str) -> int:
    """Bytes of this process in memory: VmRSS now, VmHWM at most since it was asked to forget."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(kind)))


def tell(results: list[dict[str, Any]], options: argparse.Namespace) -> int:
    """Print a line a kind and one a finding; the exit status."""
    problems = [result for result in results if "problem" in result]
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(f"{'kind':14} {'files':>6} {'attempts':>9} {'read':>6} {'refused':>8} {'slowest s':>10} {'largest MB':>11}")
    for kind in dict.fromkeys(result["kind"] for result in results):
        rows = [result for result in results if result["kind"] == kind and "entry" in result]
        if not rows:
            continue
        ends = Counter("read" if row.get("result") == "read" else "refused" for row in rows)
        slowest, largest = (max(rows, key=lambda row: row[key]) for key in ("seconds", "megabytes"))
        print(
            f"{kind:14} {len({row['file'] for row in rows}):6,} {len(rows):9,} {ends['read']:6,} {ends['refused']:8,} "
            f"{slowest['seconds']:10.2f} {largest['megabytes']:11,}  {slowest['file']}, {largest['file']}"
        )
    files = {(result["kind"], result["file"]) for result in results}
    print(f"{len(files):,} files, {len(results):,} attempts, {len(problems)} findings")
    for problem in problems[:SHOWN]:
        print(f"FINDING {problem['kind']}/{problem['file']} [{problem.get('entry', '')}]: {problem['problem']}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
