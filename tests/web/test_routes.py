"""What the API answers."""

import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import COLLINS, Running, encoded, no_face, serving, two_faces

from mien.expressions import EXPRESSIONS
from mien.reading.recognizer import load_model
from mien.web import schemas
from mien.web.limits import Limits


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(limits=Limits(pixels=1_000_000)) as running:
        yield running


def test_a_photo_is_answered_as_the_command_line_answers(server: Running) -> None:
    photo = server.read(COLLINS).json()
    assert list(photo) == ["source", "width", "height", "model", "faces"]
    (face,) = photo["faces"]
    assert list(face) == ["box", "score", "expression", "confidence", "uncertain", "probabilities", "flags"]
    assert face["expression"] == "happy"
    assert list(face["probabilities"]) == list(EXPRESSIONS)
    schemas.PhotoOut.model_validate(photo)


def test_several_faces_and_none(server: Running) -> None:
    assert len(server.read(two_faces()).json()["faces"]) == 2
    nobody = server.read(no_face())
    assert (nobody.status_code, nobody.json()["faces"]) == (200, [])


def test_too_many_pixels_are_refused_before_they_are_decoded(server: Running) -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 1_000_000
    for content in (bomb, encoded(Image.new("L", (1001, 1000)))):
        answer = server.read(content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "too_many_pixels")


def test_many_images_share_the_pixels_of_a_request(server: Running) -> None:
    large = encoded(Image.new("L", (1000, 1000)), "PNG")
    files = [("image", (f"{n}.png", large)) for n in range(12)]
    photos = server.http.post("/v1/read", files=files).json()["photos"]
    refused = [photo["error"] for photo in photos if "error" in photo]
    assert 4 <= len(photos) - len(refused) <= 4 + 8  # threads that look at what is left at the same time
    assert {error["code"] for error in refused} == {"too_many_pixels"}
    assert all("4,000,000 pixels together" in error["message"] for error in refused)
    assert "several requests" in refused[0]["hint"]


def test_cropped_faces_have_the_offline_answer(server: Running) -> None:
    """The one rule of preprocessing: a face of a data set, sent as a file, is read as an evaluation reads it."""
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48)).astype(np.uint8)
    files = [("image", (f"{n}.png", encoded(face, "PNG"))) for n, face in enumerate(faces)]
    came = server.http.post("/v1/faces", files=[*files, ("image", ("bad.png", b"no"))]).json()
    schemas.CropsOut.model_validate(came)
    *answers, bad = came["faces"]
    rows = [list(answer["probabilities"].values()) for answer in answers]
    assert np.array(rows) == pytest.approx(load_model().probabilities(faces), abs=1e-4)
    assert [answer["source"] for answer in answers] == [f"{n}.png" for n in range(5)]
    assert bad == {"source": "bad.png", "error": bad["error"]}
    alone = server.http.post("/v1/faces", content=b"no")
    assert (alone.status_code, alone.json()) == (415, {"error": bad["error"]})


def test_a_large_crop_is_made_small(server: Running) -> None:
    crop = Image.open(BytesIO(COLLINS)).crop((165, 60, 285, 180)).convert("L")
    (face,) = server.http.post("/v1/faces", content=encoded(crop)).json()["faces"]
    assert (face["expression"], face["flags"]) == ("happy", [])


def test_the_card_is_told_with_the_limits(server: Running) -> None:
    came = server.http.get("/v1/models").json()
    (model,) = came["models"]
    card = load_model().card
    assert (model["name"], model["threshold"], model["views"]) == (card.name, card.threshold, "single")
    assert model["scores"] == card.scores
    assert model["labels"] == list(EXPRESSIONS)
    assert came["limits"] == {"body": 20_000_000, "pixels": 1_000_000, "images": 64, "seconds": 30.0}


def test_monitors_may_ask_for_heads_alone(server: Running) -> None:
    for path in ("/healthz", "/metrics", "/v1/models", "/", "/openapi.json"):
        answer = server.http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert all("head" not in way for way in server.http.get("/openapi.json").json()["paths"].values())


def test_health_and_metrics(server: Running) -> None:
    assert server.http.get("/healthz").json()["status"] == "ok"
    server.read(COLLINS)
    answer = server.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'mien_requests_total{route="/v1/read",status="200"}' in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/v1/read", 405), ("POST", "/healthz", 405),
                                   ("POST", "/v1/read/", 404), ("GET", "/static/../app.py", 404),
                                   ("GET", "/static/%2e%2e/app.py", 404)]
)
def test_wrong_paths_and_methods(server: Running, method: str, path: str, status: int) -> None:
    answer = server.http.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "hint"}


def test_sources_have_a_limit(server: Running) -> None:
    answer = server.read(COLLINS, params={"source": "x" * 1001})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_schemathesis_finds_no_fault(server: Running, tmp_path: Path) -> None:
    """Requests made up from the description, valid and not: every answer is one that the description names."""
    command = [Path(sys.executable).parent / "schemathesis", "run", f"http://127.0.0.1:{server.port}/openapi.json",
               "--max-examples", "20", "--generation-deterministic", "--no-color",
               "--phases", "examples,coverage,fuzzing",
               "--exclude-checks", "positive_data_acceptance"]  # not every string of bytes is an image
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)  # it leaves notes there
    assert done.returncode == 0, done.stdout[-6000:]
