"""Many clients at once: answers never mix, and nobody is admitted beyond the limit."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import COLLINS, Running, Stuck, encoded, no_face, serving, two_faces, variations

from mien.errors import InputError
from mien.expressions import Expression
from mien.reading.faces import CenterFace
from mien.reading.images import open_image
from mien.reading.recognizer import load_model
from mien.reading.tables import Photo, to_object
from mien.web.limits import Limits, Refusal
from mien.web.metrics import Metrics
from mien.web.service import Service


def test_500_images_from_50_clients_each_get_their_own_answer() -> None:
    images = variations(500)
    recognizer = load_model()
    recognizer.detector = CenterFace(side=128)  # as large as they are: one look each
    alone = []
    for number, content in enumerate(images):
        image = open_image(content)
        photo = Photo(str(number), image.shape[1], image.shape[0], recognizer.name, recognizer.read_image(image))
        alone.append(to_object(photo))
    assert len({str(photo["faces"]) for photo in alone}) > 450  # or a mix-up would not show
    assert sum(len(photo["faces"]) for photo in alone) > 450
    with serving(recognizer) as server:

        def client(first: int) -> list[dict]:
            with httpx.Client(base_url=server.http.base_url, timeout=60) as http:
                answers = [
                    http.post("/v1/read", params={"source": n}, content=images[n]) for n in range(first, 500, 50)
                ]
            return [answer.json() for answer in answers]

        with ThreadPoolExecutor(50) as clients:
            together = [photo for photos in clients.map(client, range(50)) for photo in photos]
        largest = batches(server)
    for photo in together:
        expected = alone[int(photo["source"])]
        assert photo["width"] == expected["width"]
        assert [face["box"] for face in photo["faces"]] == [face["box"] for face in expected["faces"]]
        for face, other in zip(photo["faces"], expected["faces"], strict=True):
            assert face["probabilities"] == pytest.approx(other["probabilities"], abs=2e-4)
    assert largest > 1, "nothing was ever gathered"


def batches(server: Running) -> float:
    """Mean faces a run of the network."""
    lines = dict(line.rsplit(" ", 1) for line in server.http.get("/metrics").text.splitlines() if line[0] != "#")
    return float(lines["mien_batch_faces_sum"]) / float(lines["mien_batch_faces_count"])


@pytest.mark.parametrize(("large", "expected"), [(1_000, 1), (1_000_000, 2)])
def test_large_images_are_decoded_one_at_a_time(large: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most, together = set(), 0, Event()

    def slow(content: bytes, **options: int) -> np.ndarray:
        nonlocal most
        at_work.add(content)
        most = max(most, len(at_work))
        if most > 1:
            together.set()
        together.wait(0.1 if expected == 1 else 60)
        at_work.remove(content)
        return open_image(content, **options)

    monkeypatch.setattr("mien.web.service.open_image", slow)
    monkeypatch.setattr("mien.web.service.LARGE", large)
    service = Service(load_model(), Limits(), Metrics())

    async def read_all() -> None:
        await asyncio.gather(*(service.read(content, "") for content in variations(4)))

    asyncio.run(read_all())
    service.close()
    assert most == 1 if expected == 1 else most >= expected


def test_large_images_do_not_hold_up_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = encoded(Image.new("L", (900, 900)), "PNG"), no_face()
    done = Event()

    def slow(content: bytes, **options: int) -> np.ndarray:
        assert content != large or done.wait(60), "the small one never came"
        return open_image(content, **options)

    monkeypatch.setattr("mien.web.service.open_image", slow)
    monkeypatch.setattr("mien.web.service.LARGE", 800_000)
    service = Service(load_model(), Limits(), Metrics())

    async def read_all() -> None:
        waiting = [asyncio.create_task(service.read(large, "")) for _ in range(20)]
        await asyncio.sleep(0)
        await service.read(small, "")
        done.set()
        await asyncio.gather(*waiting)

    asyncio.run(read_all())
    service.close()


def test_faces_come_largest_first_as_in_process() -> None:
    content = two_faces()
    recognizer = load_model()
    expected = recognizer.read(content)
    assert len(expected) == 2

    async def ask() -> Photo:
        service = Service(recognizer, Limits(), Metrics())
        try:
            return await service.read(content, "two.jpg")
        finally:
            service.close()

    photo = asyncio.run(ask())
    assert [reading.face for reading in photo.readings] == [reading.face for reading in expected]
    for reading, other in zip(photo.readings, expected, strict=True):
        assert reading.expression == other.expression
        assert reading.confidence == pytest.approx(other.confidence, abs=1e-4)


def test_too_many_waiting_are_told_to_come_back() -> None:
    recognizer, detector = load_model(), Stuck()
    recognizer.detector = detector
    with serving(recognizer, Limits(waiting=1)) as server, ThreadPoolExecutor(1) as other:
        first = other.submit(server.read, COLLINS)
        assert detector.busy.wait(60)
        second = server.read(COLLINS)
        assert (second.status_code, second.json()["error"]["code"]) == (503, "busy")
        assert second.headers["retry-after"] == "1"
        assert server.http.get("/healthz").status_code == 200
        detector.go.set()
        assert first.result().status_code == 200
        assert server.read(COLLINS).status_code == 200


def test_what_takes_too_long_is_given_up() -> None:
    recognizer, detector = load_model(), Stuck()
    recognizer.detector = detector
    with serving(recognizer, Limits(seconds=0.2)) as server:
        answer = server.read(COLLINS)
        detector.go.set()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "too_slow")


def test_networks_of_eight_labels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = load_model()
    monkeypatch.setattr(recognizer, "labels", tuple(Expression))
    with pytest.raises(InputError, match="serving takes networks of the seven"):
        Service(recognizer, Limits(), Metrics())


def test_streams_have_places_too() -> None:
    service = Service(load_model(), Limits(streams=1), Metrics())
    with service.streaming(), pytest.raises(Refusal, match="1 streams are open"), service.streaming():
        pass
    with service.streaming():
        pass
    service.close()
