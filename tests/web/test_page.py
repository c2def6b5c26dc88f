"""The page in a real browser: Debian's chromium, with a camera that shows a portrait."""

import base64
import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from PIL import ExifTags, Image
from serving import COLLINS, HOPPER, Running, encoded, no_face, serving, two_faces

from mien.expressions import EXPRESSIONS
from mien.reading.draw import COLOURS
from mien.reading.recognizer import load_model
from mien.reading.tables import COLUMNS, Photo, to_rows
from mien.web.limits import Limits

sync_api = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Page, expect

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here (apt-get install chromium)")

# As root, without a network, and without a graphics card; else chromium's own errands pile up.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Browser]]:
    with sync_api.sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Browser], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose camera shows a portrait that comes and goes sideways."""
    portrait = Image.open(BytesIO(COLLINS)).convert("RGB").crop((80, 0, 400, 300)).resize((512, 480))
    clip = tmp_path_factory.mktemp("camera") / "portrait.mjpeg"
    with open(clip, "wb") as file:
        for number in range(20):
            frame = Image.new("RGB", (640, 480), (70, 84, 96))
            frame.paste(portrait, (40 + 4 * abs(10 - number), 0))
            file.write(encoded(frame, quality=85))
    with launch(*CAMERA, f"--use-file-for-fake-video-capture={clip}") as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(limits=Limits(body=2_000_000)) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    """The page, which loads nothing from elsewhere and breaks none of its own rules."""
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        page = context.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda line: "Content Security" in line.text and troubles.append(line.text))
        page.on("request", lambda request: server.http.base_url.host in request.url
                or request.url.startswith(("blob:", "data:")) or troubles.append(request.url))
        page.goto(f"http://127.0.0.1:{server.port}/")
        yield page
        assert troubles == []


def give(page: Page, *files: tuple[str, bytes]) -> None:
    page.set_input_files("#files", [{"name": name, "mimeType": "image/jpeg", "buffer": content}
                                    for name, content in files])  # fmt: skip


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes()


def colours(page: Page, canvas: str) -> int:
    """How many different colours a canvas shows."""
    return page.eval_on_selector(canvas, """canvas => new Set(new Uint32Array(
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size""")


def test_the_page_works_where_the_browser_keeps_nothing(page: Page) -> None:
    """Where site data are blocked, even to ask for a store throws."""
    page.add_init_script("""for (const name of ["sessionStorage", "localStorage"])
        Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });""")
    page.reload()
    page.click("#theme")
    give(page, ("a.jpg", COLLINS))
    expect(page.locator(".card .face-answer")).to_have_text("happy")


def test_what_cannot_be_read_is_not_blamed_on_the_server(page: Page) -> None:
    """A folder that is dropped comes as a file without content that can be read."""
    page.evaluate("""() => {
        const folder = new File(["x".repeat(4096)], "holiday");
        folder.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException("gone", "NotReadableError")) });
        const event = new Event("drop");
        event.dataTransfer = { files: [folder] };
        dispatchEvent(event);
    }""")
    expect(page.locator(".card.is-bad .summary")).to_have_text("This file cannot be read.")
    expect(page.locator(".card.is-bad .body")).to_contain_text("If it is a folder, open it")


def test_a_photo_is_read_and_can_be_saved(page: Page, server: Running) -> None:
    give(page, ("Eileen, 1995.jpg", COLLINS))
    card = page.locator(".card")
    expect(card.locator("h2")).to_have_text("Eileen, 1995.jpg")
    expect(card.locator(".summary")).to_have_text("1 face · 512 × 512")
    expect(card.locator(".face-answer")).to_have_text("happy")
    expect(card.locator(".bar-name")).to_have_text(list(EXPRESSIONS))
    assert sum(int(text.split()[0]) for text in card.locator(".bar-value").all_inner_texts()) in range(97, 104)
    expect(page.locator("#announcer")).to_have_text("1 photo read, 1 face found.")
    expect(card.locator("canvas")).to_have_attribute("aria-label", re.compile(r"Eileen.* face 1: happy, 9\d %"))

    told = server.read(COLLINS, params={"source": "Eileen, 1995.jpg"}).json()
    assert json.loads(saved(page, "JSON of Eileen, 1995.jpg")) == told
    header, row = csv.reader(StringIO(saved(page, "CSV of Eileen, 1995.jpg").decode()))
    assert header == list(COLUMNS)
    (expected,) = to_rows(Photo("Eileen, 1995.jpg", 512, 512, "mien-small", load_model().read(COLLINS)))
    for name, text in zip(header, row, strict=True):
        value = expected[name]
        if isinstance(value, float):
            assert float(text) == pytest.approx(value, abs=1e-3)
        else:
            assert text == ("" if value is None else str(value))
    picture = Image.open(BytesIO(saved(page, "Picture of Eileen, 1995.jpg")))
    assert picture.size == (512, 512)
    box = told["faces"][0]["box"]
    red, green, blue = picture.convert("RGB").getpixel((round(box[0]), round(box[1] + box[3] / 2)))  # on its left line
    assert red > blue + 60
    assert green > blue + 40


def test_several_faces_and_photos(page: Page) -> None:
    give(page, ("two.jpg", two_faces()), ("one.jpg", HOPPER))
    expect(page.locator("#photo-count")).to_have_text("2 photos, 3 faces")
    expect(page.locator(".card").first.locator(".face-number")).to_have_text(["Face 1", "Face 2"])
    rows = list(csv.DictReader(StringIO(saved(page, "All as CSV").decode())))
    assert [row["source"] for row in rows] == ["two.jpg", "two.jpg", "one.jpg"]
    assert len(saved(page, "All as JSON").splitlines()) == 2
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".card")).to_have_count(0)


@pytest.mark.parametrize("photo", ["one", "two"])
def test_a_large_photo_is_shown_smaller_and_saved_whole(page: Page, photo: str) -> None:
    """A hundred of them in full size would take more memory than a browser has."""
    source = Image.open(BytesIO(COLLINS if photo == "one" else two_faces()))
    large = source.resize((2400, 2400 * source.height // source.width))
    give(page, ("large.jpg", encoded(large)))
    expect(page.locator(".face-answer")).to_have_count(1 if photo == "one" else 2)
    assert page.eval_on_selector(".card canvas", "canvas => Math.max(canvas.width, canvas.height)") == 1600
    assert colours(page, ".card canvas") > 1000
    if photo == "two":
        page.locator(".face-answer").nth(1).hover()  # it is drawn again
        assert colours(page, ".card canvas") > 1000
    picture = Image.open(BytesIO(saved(page, "Picture of large.jpg"))).convert("RGB")
    assert picture.size == large.size
    assert len(set(picture.resize((80, 80)).convert("L").tobytes())) > 100


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_photo_that_lies_on_its_side_is_shown_as_it_was_read_or_not_at_all(page: Page, form: str) -> None:
    """Chromium turns JPEGs upright and leaves WebPs as they lie; the server turns both."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    lying = Image.open(BytesIO(two_faces())).convert("RGB").rotate(90, expand=True)
    give(page, ("photo", encoded(lying, form, exif=tags)))
    expect(page.locator(".face-answer")).to_have_count(2)
    if form == "JPEG":
        wide = page.eval_on_selector(".card canvas", "canvas => canvas.width > canvas.height")
        assert wide
        assert colours(page, ".card canvas") > 1000
    else:
        expect(page.locator(".card")).to_contain_text("This browser cannot show this kind of picture")
        expect(page.get_by_role("button", name="Picture of")).to_be_hidden()


def test_what_is_transparent_is_saved_white_as_it_was_read(page: Page) -> None:
    cut = Image.open(BytesIO(COLLINS)).convert("RGBA")
    cut.paste((0, 0, 0, 0), (0, 0, 60, 60))
    give(page, ("cut.png", encoded(cut, "PNG")), ("line.png", encoded(Image.new("L", (1, 5000)), "PNG")))
    picture = Image.open(BytesIO(saved(page, "Picture of cut.png"))).convert("L")
    assert picture.getpixel((20, 20)) > 250
    expect(page.locator(".card").nth(1)).to_contain_text("1 × 5000")
    assert page.eval_on_selector(".card:nth-child(2) canvas", "canvas => canvas.width * canvas.height > 0")


def test_photos_that_wait_when_all_is_cleared_are_not_read(page: Page, server: Running) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    give(page, *((f"{number}.jpg", two_faces()) for number in range(30)))
    page.get_by_role("button", name="Clear").click()
    before = len(sent)
    page.wait_for_timeout(2000)
    assert len(sent) <= before + 4  # those that were on their way
    expect(page.locator(".card")).to_have_count(0)
    expect(page.locator("#announcer")).to_have_text("")
    give(page, ("one.jpg", COLLINS))
    expect(page.locator("#photo-count")).to_have_text("1 photo, 1 face")


def test_no_face_and_a_broken_file(page: Page) -> None:
    give(page, ("nobody.jpg", no_face()), ("broken.jpg", COLLINS[:9000]), ("huge.jpg", bytes(2_000_001)),
         ("empty.jpg", b""))  # fmt: skip
    nobody, broken, huge, empty = (page.locator(".card").nth(n) for n in range(4))
    expect(nobody).to_contain_text("No face was found")
    expect(broken).to_contain_text("damaged image")
    expect(broken).to_contain_text("save it again")
    expect(huge).to_contain_text("2.0 MB")
    expect(empty).to_contain_text("This file is empty.")
    expect(page.locator("#announcer")).to_have_text("1 photo read, 0 faces found, 3 could not be read.")


def test_an_uncertain_reading_is_shown_as_such(browser: Browser) -> None:
    recognizer = load_model()
    recognizer.card = replace(recognizer.card, threshold=0.999)
    with serving(recognizer) as server, browser.new_page() as page:
        page.goto(f"http://127.0.0.1:{server.port}/")
        give(page, ("a.jpg", COLLINS))
        expect(page.get_by_text("uncertain", exact=True)).to_be_visible()
        expect(page.locator(".face")).to_have_attribute("aria-label", re.compile("uncertain, perhaps happy"))
    with serving() as server, browser.new_page() as page:
        page.goto(f"http://127.0.0.1:{server.port}/")
        give(page, ("a.jpg", COLLINS))
        expect(page.locator(".face-answer")).to_have_text("happy")
        expect(page.get_by_text("uncertain", exact=True)).to_be_hidden()


@pytest.mark.parametrize(("event", "field"), [("paste", "clipboardData"), ("drop", "dataTransfer")])
def test_paste_and_drop(page: Page, event: str, field: str) -> None:
    page.evaluate(
        """([event, field, text]) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
            const kind = { paste: ClipboardEvent, drop: DragEvent }[event];
            document.body.dispatchEvent(new kind(event, { [field]: data, bubbles: true, cancelable: true }));
        }""",
        [event, field, base64.b64encode(COLLINS).decode()],
    )
    expect(page.locator(".card h2")).to_have_text("given.jpg")
    expect(page.locator(".face-answer")).to_have_text("happy")


def test_the_camera_from_start_to_timeline(page: Page) -> None:
    page.get_by_role("link", name="Camera").click()
    expect(page.get_by_role("button", name="Snapshot")).to_be_disabled()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#live-faces .face-answer").first).to_have_text("happy", timeout=30_000)
    expect(page.locator("#fps")).to_have_text(re.compile(r"\d+\.\d"), timeout=30_000)
    expect(page.locator("#latency")).to_have_text(re.compile(r"\d+ ms"))
    expect(page.locator("#overlay")).to_have_attribute("aria-label", re.compile(r"Face \d+: happy"))
    expect(page.locator(".strip").first).to_contain_text("Face")
    assert colours(page, "#overlay") > 10
    assert colours(page, ".strip canvas") > 2
    before = page.locator(".strip canvas").first.evaluate("canvas => canvas.toDataURL()")
    page.wait_for_function("old => document.querySelector('.strip canvas').toDataURL() !== old", arg=before)

    page.get_by_role("button", name="Snapshot").click()
    expect(page.locator("#snapshots .face-answer")).to_have_text("happy")
    expect(page.locator("#snapshots .summary")).to_have_text("1 face · 640 × 480")

    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#stage-text")).to_have_text("The camera is off.")
    assert page.evaluate("document.getElementById('video').srcObject") is None
    expect(page.locator("#live-faces .face")).to_have_count(0)


def test_leaving_the_view_switches_the_camera_off(page: Page) -> None:
    page.goto(page.url + "#camera")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#live-faces .face").first).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="Photos").click()
    page.get_by_role("link", name="Camera").click()
    expect(page.locator("#stage-text")).to_have_text("The camera is off.")


@pytest.mark.parametrize(
    ("flags", "words"), [(CAMERA[:1], "may not use the camera"), ((), "There is no camera")], ids=["refused", "none"]
)
def test_what_to_do_without_a_camera(
    launch: Callable[..., Browser], server: Running, flags: tuple[str, ...], words: str
) -> None:
    with launch(*flags) as browser, browser.new_context(permissions=[] if flags else ["camera"]) as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/#camera")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(page.get_by_role("button", name="Start")).to_be_enabled()


def test_dark_as_the_system_is_and_as_chosen(page: Page) -> None:
    def paper() -> int:
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))

    page.emulate_media(color_scheme="light")
    assert paper() > 600
    page.emulate_media(color_scheme="dark")
    assert paper() < 150
    button = page.get_by_role("button", name="Dark theme")
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    assert paper() > 600
    page.reload()
    assert paper() > 600
    expect(button).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("view", ["photos", "camera", "scores"])
def test_it_fits_a_phone(page: Page, view: str) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(page.url + f"#{view}")
    give(page, ("two.jpg", two_faces())) if view == "photos" else None
    expect(page.locator({"photos": ".face", "camera": "#start", "scores": "table"}[view]).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_keyboard_reaches_everything(page: Page) -> None:
    give(page, ("a.jpg", COLLINS))
    expect(page.locator(".face")).to_be_visible()
    seen = []
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("""() => {
            const e = document.activeElement;
            return [e.id || e.dataset.get || e.hash || e.className || e.tagName, getComputedStyle(e).outlineStyle];
        }"""))
    names = [name for name, _ in seen]
    for wanted in ("#photos", "#camera", "#scores", "theme", "files", "all-csv", "picture", "json", "csv", "face"):
        assert wanted in names, f"{wanted} is not reached: {names}"
    outlined = {"#camera", "theme", "all-csv", "picture", "face"}
    assert all(outline != "none" for name, outline in seen if name in outlined)


def test_the_skip_link_leaves_the_view_as_it_is(page: Page) -> None:
    page.get_by_role("link", name="Scores").click()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.wait_for_timeout(100)  # a change of the hash would be told by now
    expect(page.locator("#view-scores")).to_be_visible()


def test_every_control_has_a_name(page: Page) -> None:
    give(page, ("a.jpg", COLLINS))
    expect(page.locator(".face")).to_be_visible()
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, a, canvas, [role]")]
        .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.textContent.trim()
                       || e.labels?.length || e.getAttribute("role") === "status"))
        .map((e) => e.outerHTML)""")
    assert nameless == []


def test_colours_are_those_of_annotated_pictures(page: Page) -> None:
    shown = page.evaluate("import('/static/faces.js').then((module) => module.COLOURS)")
    assert shown == {str(e): "#{:02x}{:02x}{:02x}".format(*COLOURS[e]) for e in EXPRESSIONS}


ROWS = ("all", "without twins", "without near twins")


def test_the_scores_are_the_cards_own(page: Page) -> None:
    page.get_by_role("link", name="Scores").click()
    card = load_model().card
    score, clean, new = (card.scores["PublicTest"][f"single view, {rows}"] for rows in ROWS)
    expect(page.locator(".figure")).to_have_text(f"{100 * score['accuracy']:.1f} % right")
    expect(page.locator("#scores")).to_contain_text(f"{score['n']:,} faces of FER2013's PublicTest")
    expect(page.locator("#scores")).to_contain_text("expect somewhat less")
    more = f"{clean['n'] - new['n']} more stand there in another version"
    expect(page.locator("#scores")).to_contain_text(more)
    expect(page.locator("#scores")).to_contain_text(f"that do not it is right in {100 * new['accuracy']:.1f} %")
    cells = page.locator("tbody tr").nth(3).locator("td").all_inner_texts()
    row = score["confusion"][3]
    assert [cell.split()[0] for cell in cells] == [*(f"{100 * n / sum(row):.0f}" for n in row), str(sum(row))]


def test_a_model_without_scores_says_so(browser: Browser) -> None:
    recognizer = load_model()
    recognizer.card = replace(recognizer.card, scores={})
    with serving(recognizer) as server, browser.new_page() as page:
        page.goto(f"http://127.0.0.1:{server.port}/#scores")
        expect(page.locator("#scores")).to_contain_text("no measured scores")


def test_a_token_is_asked_for_once(browser: Browser) -> None:
    with serving(token="open sesame") as server, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/#camera")
        page.get_by_label("Token", exact=True).fill("open sesame")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("#model")).to_have_text("Model mien-small")
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#live-faces .face").first).to_be_visible(timeout=30_000)


def test_a_wrong_token_is_named_and_can_be_mended(browser: Browser) -> None:
    with serving(token="open sesame") as server, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        dialog, field = page.locator("#ask-token"), page.get_by_label("Token", exact=True)
        proceed = page.get_by_role("button", name="Continue")
        expect(dialog.get_by_role("alert")).to_be_hidden()
        field.fill("öffne dich €")  # no header can carry it
        proceed.click()
        expect(dialog).to_be_visible()
        assert not page.evaluate("sessionStorage.getItem('mien-token')")
        field.fill("open barley")
        proceed.click()
        expect(dialog.get_by_role("alert")).to_contain_text("refused this token")
        expect(field).to_have_value("")
        field.fill("open sesame")
        proceed.click()
        expect(page.locator("#model")).to_have_text("Model mien-small")
        expect(dialog).to_be_hidden()
        page.reload()
        expect(page.locator("#model")).to_have_text("Model mien-small")


def test_the_question_for_a_token_can_be_left(browser: Browser) -> None:
    with serving(token="open sesame") as server, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        dialog = page.locator("#ask-token")
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(page.locator("#scores")).to_contain_text("none was given")
        give(page, *((f"{n}.jpg", COLLINS) for n in range(6)))
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".card.is-bad")).to_have_count(6)  # asked once for all of them
        expect(page.locator(".card").first).to_contain_text("none was given")
        expect(dialog).to_be_hidden()
        give(page, ("again.jpg", COLLINS))  # the failure is not kept
        page.get_by_label("Token", exact=True).fill("open sesame")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator(".card").first.locator(".face-answer")).to_have_text("happy")
        page.get_by_role("link", name="Scores").click()
        expect(page.locator("#scores")).to_contain_text("An expression is not an emotion.")
        expect(page.locator("#model")).to_have_text("Model mien-small")


def test_who_comes_for_the_scores_is_asked_for_a_token_once(browser: Browser) -> None:
    with serving(token="open sesame") as server, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/#scores")
        expect(page.locator("#ask-token")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#scores")).to_contain_text("none was given")
        page.wait_for_timeout(500)
        expect(page.locator("#ask-token")).to_be_hidden()


def test_a_busy_moment_at_the_start_is_got_over(page: Page) -> None:
    page.route("**/v1/models", lambda route: route.fulfill(status=502, content_type="text/html", body="<h1>Bad</h1>"))
    page.reload()
    expect(page.locator("#scores")).to_contain_text("Something other than mien serve answered, with status 502")
    page.unroute("**/v1/models")
    give(page, ("a.jpg", COLLINS))
    expect(page.locator(".face-answer")).to_have_text("happy")


def test_a_stream_that_paused_goes_on(browser: Browser) -> None:
    """As in a hidden tab: no frames, until the server lets the stream go."""
    with serving(limits=Limits(seconds=2)) as server, browser.new_page() as page:
        page.goto(f"http://127.0.0.1:{server.port}/#camera")
        page.get_by_role("button", name="Start").click()
        face = page.locator("#live-faces .face-answer").first
        expect(face).to_have_text("happy", timeout=30_000)
        page.evaluate("document.getElementById('video').pause()")
        expect(page.locator("#stage-text")).to_contain_text("Paused", timeout=30_000)
        expect(page.get_by_role("alert")).to_be_hidden()
        page.evaluate("document.getElementById('video').play()")
        expect(page.locator("#stage-text")).to_be_hidden(timeout=30_000)
        expect(face).to_have_text("happy", timeout=30_000)


def test_start_and_stop_in_haste(page: Page) -> None:
    page.goto(page.url + "#camera")
    for _ in range(3):
        page.evaluate("""async () => {
            const button = document.getElementById("start");
            const playing = HTMLMediaElement.prototype.play;
            const begun = new Promise((resolve) => {
                HTMLMediaElement.prototype.play = function () { const p = playing.call(this); resolve(); return p; };
            });
            button.click();
            await begun;
            HTMLMediaElement.prototype.play = playing;
            button.click();
        }""")
        expect(page.locator("#stage-text")).to_have_text("The camera is off.")


def test_a_server_that_is_gone(browser: Browser) -> None:
    with browser.new_page() as page:
        with serving() as server:
            page.goto(f"http://127.0.0.1:{server.port}/")
            expect(page.locator("#model")).to_have_text("Model mien-small")
        give(page, ("a.jpg", COLLINS))
        expect(page.locator(".card")).to_contain_text("Is mien serve still running?")


def test_the_description_is_shown_to_people(page: Page, server: Running) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/docs")
    paths = server.http.get("/openapi.json").json()["paths"]
    expect(page.locator(".operation h3 code")).to_have_text(list(paths))
    expect(page.locator("pre").first).to_contain_text("curl --data-binary @photo.jpg http://127.0.0.1")
    page.get_by_text("Answer: One photo").first.click()
    expect(page.locator("details[open] pre")).to_contain_text('"expression": "happy"')
    assert "`" not in page.locator("#operations").inner_text()
