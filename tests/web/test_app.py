import re

from serving import COLLINS, serving

from mien.reading.recognizer import load_model
from mien.web.app import STATIC, create_app


def test_pages_load_nothing_from_elsewhere() -> None:
    """What a browser does load is watched in test_page."""
    for file in STATIC.iterdir():
        elsewhere = re.findall(r"//[\w-]+\.\w[^\s\"']*", file.read_text(encoding="utf-8"))
        assert [url for url in elsewhere if not url.startswith(("//www.w3.org/", "//127.0.0.1"))] == [], file.name


def test_a_fault_of_ours_is_a_500_without_details() -> None:
    class Broken:
        def find(self, image: object) -> list:
            raise ZeroDivisionError("s3cr3t")

    recognizer = load_model()
    recognizer.detector = Broken()
    friend = {"Origin": "https://friend.example"}
    with serving(recognizer, origins=[friend["Origin"]]) as server:
        answer = server.read(COLLINS, headers=friend)
        assert 'route="/v1/read",status="500"} 1.0' in server.http.get("/metrics").text
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "s3cr3t" not in answer.text
    assert answer.headers["access-control-allow-origin"] == friend["Origin"]  # so that its page can read the error
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["connection"] == "close"


def test_a_browser_asks_whether_scripts_are_new() -> None:
    with serving() as server:
        for path in ("/", "/docs", "/static/app.js"):
            assert server.http.get(path).headers["cache-control"] == "no-cache", path


def test_a_token_is_part_of_the_description() -> None:
    recognizer = load_model()
    plain, locked = create_app(recognizer).openapi(), create_app(recognizer, token="x").openapi()
    assert "securitySchemes" not in plain["components"]
    assert locked["paths"]["/v1/read"]["post"]["security"] == [{"HTTPBearer": []}]


def test_the_description_has_an_example_for_every_answer() -> None:
    description = create_app(load_model()).openapi()
    for name in ("PhotoOut", "PhotosOut", "CropsOut", "ErrorOut"):
        assert description["components"]["schemas"][name]["examples"]
