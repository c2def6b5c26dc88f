"""The forms a body may have, through a server that runs."""

import base64
import json
import tempfile
from collections.abc import Iterator

import pytest
from serving import COLLINS, HOPPER, Running, no_face, serving

from mien.web.bodies import _fields
from mien.web.limits import Limits, Refusal


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(limits=Limits(body=400_000, images=3)) as running:
        yield running


def error(response: object) -> tuple[int, str]:
    body = response.json()["error"]
    assert set(body) == {"code", "message", "hint"}
    assert all(body.values())
    return response.status_code, body["code"]


def expressions(photo: dict) -> list[str]:
    return [face["expression"] for face in photo["faces"]]


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "application/octet-stream",
                                  "application/x-www-form-urlencoded", "Image/JPEG; name=x"])
def test_raw(server: Running, kind: str) -> None:
    photo = server.read(COLLINS, kind, params={"source": "a ü.jpg"}).json()
    assert (photo["source"], photo["width"], photo["height"]) == ("a ü.jpg", 512, 512)
    assert expressions(photo) == ["happy"]


def test_raw_without_a_type(server: Running) -> None:
    assert expressions(server.http.post("/v1/read", content=COLLINS).json()) == ["happy"]


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
def test_base64(server: Running, prefix: str) -> None:
    image = prefix + base64.b64encode(COLLINS).decode()
    photo = server.http.post("/v1/read", json={"image": image, "source": "x"}).json()
    assert (photo["source"], expressions(photo)) == ("x", ["happy"])
    several = server.http.post("/v1/read", json={"images": [image]}).json()
    assert expressions(several["photos"][0]) == ["happy"]


def test_several_in_a_form_where_one_is_bad(server: Running) -> None:
    files = [("image", ("c.jpg", COLLINS)), ("image", ("b.txt", b"hello")), ("other", ("n.jpg", no_face()))]
    photos = server.http.post("/v1/read", files=files).json()["photos"]
    assert [photo["source"] for photo in photos] == ["c.jpg", "b.txt", "n.jpg"]
    assert expressions(photos[0]) == ["happy"]
    assert photos[1]["error"]["code"] == "not_an_image"
    assert photos[2]["faces"] == []


def test_nothing_is_written_to_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with serving() as server:
        files = [("image", ("large.jpg", COLLINS + bytes(3_000_000)))]
        assert "faces" in server.http.post("/v1/read", files=files).json()["photos"][0]


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("text/plain", b"hello", (415, "wrong_type")),
        ("video/mp4", b"hello", (415, "wrong_type")),
        ("image/jpeg", b"hello", (415, "not_an_image")),
        ("image/jpeg", COLLINS[:9_000], (422, "damaged_image")),
        ("image/jpeg", b"", (400, "empty_body")),
        ("image/jpeg", bytes(400_001), (413, "body_too_large")),
        ("application/json", b"", (422, "bad_json")),
        ("application/json", b"[" * 100_000, (422, "bad_json")),
        ("application/json", b'"\\ud800"', (422, "bad_json")),
        ("application/json", b"{}", (422, "bad_json")),
        ("application/json", b'{"image": "aa", "images": ["aa"]}', (422, "bad_json")),
        ("application/json", b'{"images": []}', (422, "bad_json")),
        ("application/json", b'{"image": "a"}', (422, "bad_base64")),
        ("application/json", '{"image": "ü"}'.encode(), (422, "bad_base64")),
        ("application/json", b'{"image": ""}', (400, "empty_body")),
        ("application/json", b'{"image": "aGVsbG8="}', (415, "not_an_image")),
        ("application/json", b'{"images": ["aa==", "aa==", "aa==", "aa=="]}', (413, "too_many_images")),
        ("multipart/form-data", b"hello", (400, "bad_multipart")),
        ("multipart/form-data; boundary=x", b"hello", (400, "bad_multipart")),
        ("multipart/form-data; boundary=x", b"--x--\r\n", (400, "no_image")),
    ],
)
def test_what_is_refused(server: Running, kind: str, body: bytes, expected: tuple[int, str]) -> None:
    assert error(server.read(body, kind)) == expected


@pytest.mark.parametrize("body", [{"images": [1] * 1_000}, dict.fromkeys(map(str, range(1_000)), "")])
def test_one_mistake_of_a_body_is_looked_for(body: dict) -> None:
    """A list of every one would hold up all others for minutes, and take gigabytes."""
    with pytest.raises(Refusal, match="the JSON is not as expected, at") as refused:
        _fields(json.dumps(body).encode())
    assert refused.value.__cause__.error_count() <= 4


def test_too_many_files(server: Running) -> None:
    files = [("image", (f"{n}.jpg", HOPPER[:1000])) for n in range(4)]
    assert error(server.http.post("/v1/read", files=files)) == (413, "too_many_images")


def test_too_many_images_are_refused_before_they_are_decoded(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("mien.web.bodies._decode")
    answer = server.http.post("/v1/read", json={"images": [""] * 1_000})
    assert error(answer) == (413, "too_many_images")


def test_a_body_without_a_length_is_measured_while_it_comes(server: Running) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(50):
            yield bytes(100_000)

    assert error(server.read(endless())) == (413, "body_too_large")


def test_the_connection_goes_on_after_a_refusal(server: Running) -> None:
    for _ in range(3):
        assert error(server.read(bytes(400_001))) == (413, "body_too_large")
        assert expressions(server.read(COLLINS).json()) == ["happy"]


def test_json_errors_do_not_repeat_what_was_sent(server: Running) -> None:
    answer = server.read(json.dumps({"image": 5, "secret": "s3cr3t"}).encode(), "application/json")
    assert "s3cr3t" not in answer.text


PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "utf-7", "hex", "nothing"])
def test_the_codec_that_a_form_names_is_not_used(server: Running, charset: str) -> None:
    body = PART.replace(b"a.jpg", b"a-\xc3\xbc+2AA-.jpg") + COLLINS + b"\r\n--x--\r\n"
    (photo,) = server.read(body, f"{FORM}; charset={charset}").json()["photos"]
    assert (photo["source"], expressions(photo)) == ("a-ü+2AA-.jpg", ["happy"])
    smuggled = f'multipart/form-data; boundary="x\\"; charset=\\"{charset}"'
    assert error(server.read(body, smuggled)) == (400, "bad_multipart")


@pytest.mark.parametrize("end", [b"", b"\r\n--x", b"\r\n--x-"])
def test_a_form_that_is_cut_off_is_not_taken_for_a_shorter_one(server: Running, end: bytes) -> None:
    assert error(server.read(PART + HOPPER + b"\r\n" + PART + COLLINS + end, FORM)) == (400, "bad_multipart")


@pytest.mark.parametrize("path", ["/v1/read", "/v1/faces"])
def test_one_bad_image_does_not_stop_the_others(server: Running, path: str) -> None:
    good = base64.b64encode(COLLINS).decode()
    answer = server.http.post(path, json={"images": [good, "@@", ""]}).json()
    first, *bad = answer["photos" if path == "/v1/read" else "faces"]
    assert "error" not in first
    assert [one["error"]["code"] for one in bad] == ["bad_base64", "empty_body"]
    files = [("image", ("c.jpg", COLLINS)), ("image", ("none.jpg", b""))]
    answer = server.http.post(path, files=files).json()
    first, bad = answer["photos" if path == "/v1/read" else "faces"]
    assert "error" not in first
    assert (bad["source"], bad["error"]["code"]) == ("none.jpg", "empty_body")
