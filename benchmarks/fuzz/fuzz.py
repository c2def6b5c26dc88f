#!/usr/bin/env python3
"""Run every harness for its share of the time, and write down what came of it.

    python benchmarks/fuzz/fuzz.py --minutes 30 --out fuzz-out

Seeds are the small files of the corpus. An input that raises anything but a MienError, takes over 5 s of processor time
or needs over 1,000 MB ends a harness, is kept in OUT as a finding, and the harness goes on for the rest of its time.
Each process lasts twenty seconds; the next one begins with the inputs that were kept.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SEEDS = {
    "images": ("images",),
    "tables": ("faces", "votes", "predictions"),
    "arrays": ("arrays",),
    "models": ("onnx",),
    "recipes": ("recipes",),
    "bodies": ("bodies",),
}
LONGEST = 65_536  # bytes of a seed
PART = 20  # seconds of one process, which grows: atheris keeps the result of every comparison with an array
KINDS = {"faces": b"\0", "votes": b"\x60", "predictions": b"\xf0"}  # what the harness for tables takes first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="for the harnesses together")
    parser.add_argument("--out", type=Path, required=True, help="a folder for inputs, findings and fuzz.json")
    parser.add_argument("--only", nargs="+", choices=SEEDS, default=list(SEEDS), help="these harnesses alone")
    options = parser.parse_args()
    made = options.out / "corpus"
    if not made.exists():
        # In a process of its own: on Linux a program inherits the peak memory of the one that starts it, which the
        # harnesses would be charged for.
        subprocess.run([sys.executable, str(HERE / "corpus.py"), str(made)], check=True)
    rows = []
    for name in options.only:
        rows.append(run(name, made, options.out, options.minutes * 60 / len(options.only)))
        (options.out / "fuzz.json").write_text(json.dumps(rows, indent=1))
        print(rows[-1], flush=True)
    return any(row["findings"] for row in rows)


def run(name: str, made: Path, out: Path, seconds: float) -> dict[str, Any]:
    """One harness until its time is over: executions, findings, largest size and slowest input."""
    seeds, grown, found = out / f"{name}-seeds", out / f"{name}-inputs", out / f"{name}-findings"
    for folder in (seeds, grown, found):
        folder.mkdir(exist_ok=True)
    for kind in SEEDS[name]:
        for path in (made / kind).iterdir():
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= LONGEST:
                (seeds / f"{kind}-{path.name}").write_bytes(KINDS.get(kind, b"") + path.read_bytes())
    row: dict[str, Any] = {
        "harness": name,
        "seconds": 0,
        "executions": 0,
        "findings": 0,
        "megabytes": 0,
        "slowest": 0,
    }
    begin = time.monotonic()
    while (left := seconds - (time.monotonic() - begin)) > 1:
        command = [
            sys.executable,
            str(HERE / "harness.py"),
            name,
            str(grown),
            str(seeds),
            f"-max_total_time={min(int(left), PART)}",
        ]
        command += [
            "-timeout=120",
            "-rss_limit_mb=1000",
            f"-max_len={LONGEST}",
            "-print_final_stats=1",
            f"-seed={2013 + row['seconds']}",  # another one for each part
            "-use_value_profile=1",
        ]
        log = subprocess.run([*command, f"-artifact_prefix={found}/"], capture_output=True, check=False).stderr.decode(
            errors="replace"
        )
        (out / f"{name}.log").write_text(log)
        stats = {key: int(value) for key, value in re.findall(r"stat::(\w+):\s+(\d+)", log)}
        row["executions"] += stats.get("number_of_executed_units", 0)
        row["megabytes"] = max(row["megabytes"], stats.get("peak_rss_mb", 0))
        row["slowest"] = max(row["slowest"], stats.get("slowest_unit_time_sec", 0))
        row["findings"] = len(list(found.iterdir()))
        row["seconds"] = round(time.monotonic() - begin)
        if row["findings"] >= 20 or not stats:
            break
    for folder in Path("/dev/shm").glob("mien-fuzz-*"):
        if not os.path.exists(f"/proc/{folder.name.rpartition('-')[2]}"):
            shutil.rmtree(folder)
    return row


if __name__ == "__main__":
    sys.exit(main())
