"""An `Audit` as files: one page that needs nothing beside it, a JSON of all numbers, a contact sheet a finding.

Every word that comes from data goes through `html.escape`; faces are inside the page.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from functools import partial
from html import escape
from importlib import resources
from os import PathLike
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.expressions import EXPRESSIONS, FERPLUS
from mien.measuring.audit import Audit
from mien.measuring.faceset import FaceSet
from mien.measuring.findings import REASONS, Finding
from mien.measuring.plots import contact_sheet
from mien.storage import write_whole

_ON_PAGE = 60  # faces of a finding
_ON_SHEET = 320
_OF_GROUP = 8  # faces of one group


def write_report(audit: Audit, faces: FaceSet, folder: str | PathLike[str]) -> list[Path]:
    """Write `index.html`, `audit.json` and `sheets/REASON.png` into a folder, each whole or not at all.

    Args:
        audit: What was found.
        faces: The data set that it was found in.
        folder: Where to; it is made, older files of these names are replaced, and older sheets of what is not found
            now are removed.
    """
    folder = Path(folder)
    written = []
    for finding in audit.findings:
        if finding.groups:
            groups, notes = _shown(finding, _ON_SHEET)
            sheet = contact_sheet([list(faces.images[group]) for group in groups], notes)
            written.append(write_whole(_sheet(folder, finding.reason), partial(sheet.save, format="PNG"), binary=True))
    text = json.dumps(audit.to_dict(faces), indent=1)
    written.append(write_whole(folder / "audit.json", lambda file: file.write(text)))
    html = page(audit, faces)
    written.append(write_whole(folder / "index.html", lambda file: file.write(html)))
    for reason in set(REASONS) - {finding.reason for finding in audit.findings if finding.groups}:
        _sheet(folder, reason).unlink(missing_ok=True)
    return written


def _sheet(folder: Path, reason: str) -> Path:
    return folder / "sheets" / f"{reason}.png"


def page(audit: Audit, faces: FaceSet) -> str:
    """The page as HTML text."""
    name = audit.data["file"]
    template = Template((resources.files("mien.measuring") / "audit.html").read_text(encoding="utf-8"))
    damaged = f", {audit.data['damaged']:,} damaged rows left out" if audit.data["damaged"] else ""
    left_out = "".join(f"<p class='fine'>Not looked for: {escape(what)}.</p>" for what in audit.left_out)
    return template.substitute(
        title=f"Audit of {escape(name)}",
        data=f"{audit.data['rows']:,} rows{damaged}; sha-256 <code>{escape(audit.data['sha256'])}</code>",
        tiles="\n".join(map(_tile, audit.findings)),
        counts=_counts(audit),
        left_out=left_out,
        votes=_votes(audit.votes) if audit.votes else "",
        findings="\n".join(_section(finding, faces) for finding in audit.findings),
        end="Numbers and every row are in audit.json, larger contact sheets in the folder sheets. The images belong to "
        "their owners: keep this page to yourself.",
    )


def _tile(finding: Finding) -> str:
    rows, title = sum(map(len, finding.groups)), finding.title
    return f'<li><a href="#{finding.reason}"><strong>{rows:,}</strong> {escape(title[0].lower() + title[1:])}</a></li>'


def _counts(audit: Audit) -> str:
    head = ["split", *next(iter(audit.counts.values())), "all"]
    rows = [[split, *row.values(), sum(row.values())] for split, row in audit.counts.items()]
    return _table("", head, rows)


def _votes(votes: dict[str, Any]) -> str:
    """FER+ beside the labels: how much its voters agree, and the table of label by most voted."""
    rows, table = votes["rows"], np.array(votes["table"])
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    beside = [
        [str(e), *table[k].tolist(), table[k].sum(), f"{votes['entropy_bits'].get(str(e), 0):.2f}"]
        for k, e in enumerate(EXPRESSIONS)
    ]
    agreement = [
        [f"{most} of 10", count, f"{count / max(rows, 1):.1%}"]
        for most, count in enumerate(votes["agreement"])
        if count
    ]
    return (
        '<section id="votes"><h2>FER2013 against FER+</h2>'
        f"<p>Ten people named what they saw in each of {rows:,} labelled rows. What most of them say is the label in "
        f"<strong>{votes['agree']:,}</strong> of them, {votes['agree'] / max(rows, 1):.1%}. An entropy of 0 bits means "
        "that all ten agree; 1 bit that they are split in half.</p>"
        + _table("Label by row, FER+'s most voted by column", ["", *FERPLUS, "all", "bits"], beside, shares)
        + _table("How many of the ten agree", ["most voted", "rows", "share"], agreement)
        + "</section>"
    )


def _section(finding: Finding, faces: FaceSet) -> str:
    numbers = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{_number(value)}</td></tr>"
        for name, value in finding.numbers.items()
    )
    groups, notes = _shown(finding, _ON_PAGE)
    figures = "\n".join(_figure(faces, group, note) for group, note in zip(groups, notes, strict=True))
    more = len(finding.groups) - len(groups)
    rest = f"<p class='fine'>{more:,} more are in audit.json.</p>" if more else ""
    return (
        f'<section id="{finding.reason}"><h2>{escape(finding.title)}</h2><p>{escape(finding.text)}</p>'
        f'<div class="scroll"><table class="numbers"><tbody>{numbers}</tbody></table></div>'
        f'<div class="faces">{figures}</div>{rest}</section>'
    )


def _figure(faces: FaceSet, group: Sequence[int], note: str) -> str:
    pictures = "".join(f'<img src="{_data_uri(faces.images[k])}" alt="row {faces.rows[k]}">' for k in group)
    return f"<figure><div>{pictures}</div><figcaption>{escape(note)}</figcaption></figure>"


def _shown(finding: Finding, most: int) -> tuple[list[list[int]], list[str]]:
    """The first groups, `most` faces together, each cut to `_OF_GROUP`, or to one of equal ones; and their notes."""
    groups: list[list[int]] = []
    cut = 1 if finding.alike else _OF_GROUP
    for group in finding.groups:
        if sum(map(len, groups)) + min(len(group), cut) > most:
            break
        groups.append(list(group[:cut]))
    return groups, list(finding.notes[: len(groups)])


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]], shares: np.ndarray | None = None) -> str:
    """An HTML table; the first columns after the rows' names are coloured by `shares`."""
    body = []
    for row_number, (name, *cells) in enumerate(rows):
        line = f"<th scope='row'>{escape(str(name))}</th>"
        for column, cell in enumerate(cells):
            coloured = shares is not None and column < shares.shape[1]
            style = f" class='share' style='--share:{shares[row_number, column]:.3f}'" if coloured else ""  # type: ignore[index]
            line += f"<td{style}>{escape(f'{cell:,}' if isinstance(cell, int | np.integer) else str(cell))}</td>"
        body.append(f"<tr>{line}</tr>")
    top = "".join(f"<th scope='col'>{escape(str(each))}</th>" for each in head)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    inside = f"{title}<thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="scroll"><table>{inside}</table></div>'


def _number(value: float) -> str:
    return f"{value:.1%}" if isinstance(value, float) else f"{value:,}"


def _data_uri(image: UInt8[np.ndarray, "H W"]) -> str:
    _, content = cv2.imencode(".png", image)
    return "data:image/png;base64," + base64.b64encode(content.tobytes()).decode()
