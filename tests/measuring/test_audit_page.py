import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from mien.measuring.audit import audit
from mien.measuring.audit_page import page, write_report
from mien.measuring.faceset import FaceSet


class Links(HTMLParser):
    """Every tag, and every address that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]


def test_the_page_needs_nothing_beside_it(small_faces: FaceSet) -> None:
    text = page(audit(small_faces, quick=True), small_faces)
    links = Links(text)
    assert any(target.startswith("data:image/png;base64,") for target in links.targets)
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in links.targets)
    assert not links.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"url\(|@import|https?:", text)
    for target in (target for target in links.targets if target.startswith("#")):
        assert f'id="{target[1:]}"' in text


def test_names_from_outside_are_escaped(small_faces: FaceSet) -> None:
    name = "<script>alert(1)</script>&'\""
    odd = replace(
        small_faces, source=name, checksum=name, splits=np.where(small_faces.splits == "Training", name, "PublicTest")
    )
    text = page(audit(odd, quick=True), odd)
    assert "script" not in Links(text).tags
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text


def test_files_of_a_report(small_faces: FaceSet, tmp_path: Path) -> None:
    found = audit(small_faces, quick=True)
    written = write_report(found, small_faces, tmp_path / "report")
    names = [path.relative_to(tmp_path / "report").as_posix() for path in written]
    assert names == ["sheets/twin.png", "sheets/vote.png", "audit.json", "index.html"]
    assert json.loads(written[-2].read_text()) == found.to_dict(small_faces)
    assert Image.open(written[0]).size == (16 * 104 + 8, 126)  # seven groups of twins, one picture each, in one row
    assert "<strong>14</strong> exact twins" in written[-1].read_text()


def test_sheets_of_an_earlier_audit_go(small_faces: FaceSet, tmp_path: Path) -> None:
    write_report(audit(small_faces, quick=True), small_faces, tmp_path)
    (tmp_path / "sheets" / "mine.png").touch()
    without = replace(small_faces, votes=None)
    write_report(audit(without, quick=True), without, tmp_path)
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"twin.png", "mine.png"}
