"""What the server refuses, and how it says so: every error is {"error": {"code", "message", "hint"}}."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from mien.errors import Damaged, MienError, NotAnImage, TooManyPixels

HEAD = 32_768
"""Bytes of a request's head at most."""

TOGETHER = 4
"""The images of a request may have so many times the pixels of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one request, and all of them together, may ask for.

    Attributes:
        body: Bytes of a request's body, and of a frame of a stream.
        pixels: Width times height of an image; those of one request may have four times as many together.
        images: Images in one request.
        waiting: Requests that are worked on or wait; beyond, new ones are refused.
        streams: Open streams.
        seconds: From a request's head to its answer; also for the head itself.
    """

    body: int = 20_000_000
    pixels: int = 50_000_000
    images: int = 64
    waiting: int = 128
    streams: int = 8
    seconds: float = 30.0


class Refusal(MienError):
    """A request that gets an error for an answer.

    Args:
        status: HTTP status.
        code: A word for programs.
        message: What was expected and what came.
        hint: What to do.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, hint: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = dict(headers or {})

    def to_object(self) -> dict[str, dict[str, str]]:
        """The answer's body."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


def too_large(limit: int) -> Refusal:
    """For a body of more than `limit` bytes."""
    return Refusal(
        413,
        "body_too_large",
        f"a request may have {limit:,} bytes, and this one has more",
        "send a smaller or more compressed image, fewer images at once, or start the server with a larger --max-body",
    )


def of_image(error: MienError) -> Refusal:
    """The refusal for an image that could not be read."""
    if isinstance(error, NotAnImage):
        return Refusal(415, "not_an_image", str(error), "send JPEG, PNG, WebP or another of these formats")
    if isinstance(error, TooManyPixels):
        hint = "scale the image down; a plain JPEG or PNG may be larger if the server has a larger --max-pixels"
        return Refusal(422, "too_many_pixels", str(error), hint)
    if isinstance(error, Damaged):
        return Refusal(422, "damaged_image", str(error), "open the image in a viewer and save it again")
    return Refusal(422, "unreadable_image", str(error), "convert the image to JPEG or PNG")


class Allowance:
    """What is left of the pixels that the images of one request may have together.

    A kilobyte can unpack to fifty million pixels, and a request may hold dozens of them.
    """

    def __init__(self, limits: Limits) -> None:
        self.each, self.together = limits.pixels, TOGETHER * limits.pixels
        self._left = self.together
        self._lock = Lock()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[int]:
        """Take the pixels of an image, before it is decoded; they are given back if it cannot be.

        Yields:
            How many it may have.

        Raises:
            Refusal: It has more.
        """
        with self._lock:
            most = max(1, min(self.each, self._left))
            held = min(pixels, most)
            self._left -= held
        try:
            yield most
        except MienError as error:
            with self._lock:
                self._left += held
            if isinstance(error, TooManyPixels):
                raise self._refusal(error, most) from error
            raise

    def _refusal(self, error: TooManyPixels, most: int) -> Refusal:
        if most == self.each:
            return of_image(error)
        message = f"the images of a request may have {self.together:,} pixels together, and these have more"
        hint = "send them in several requests, scale them down, or start the server with a larger --max-pixels"
        return Refusal(422, "too_many_pixels", message, hint)
