"""What goes in and comes out, for the description at /openapi.json. Answers are made by `reading.tables`."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

_FACE: dict[str, Any] = {
    "box": [184.5, 62.7, 84.0, 111.9],
    "score": 0.9121,
    "expression": "happy",
    "confidence": 0.9551,
    "uncertain": False,
    "probabilities": {
        "angry": 0.0056, "disgust": 0.0004, "fear": 0.0062, "happy": 0.9551, "sad": 0.0122, "surprise": 0.005,
        "neutral": 0.0154,
    },
    "flags": [],
}  # fmt: skip
_PHOTO: dict[str, Any] = {"source": "party.jpg", "width": 512, "height": 512, "model": "mien-small", "faces": [_FACE]}
_CROP: dict[str, Any] = {"source": "face.png", **{k: v for k, v in _FACE.items() if k not in {"box", "score"}}}
_GREY_SQUARE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAAAAACMmsGiAAAAEElEQVR42mOs"
    "Z2BgYGJAIQAJ0QCHYXeGCQAAAABJRU5ErkJggg=="
)
_ERROR: dict[str, Any] = {
    "code": "damaged_image",
    "message": "the data is a damaged image, get it again: image file is truncated",
    "hint": "open the image in a viewer and save it again",
}

Probability = Annotated[float, Field(ge=0, le=1)]


class ImagesIn(BaseModel):
    """Images as base64 text; `data:` URLs are taken too."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"image": _GREY_SQUARE}]})

    image: str | None = Field(None, description="One image: the answer is one object.")
    # One error is told; without `fail_fast` each element that is no text would make one, for minutes.
    images: list[str] | None = Field(None, description="Several: the answer is a list.", min_length=1, fail_fast=True)
    source: str = Field("image", description="A name, which comes back with the answer.", max_length=1000)

    @model_validator(mode="after")
    def _one_of_them(self) -> "ImagesIn":
        if (self.image is None) == (self.images is None):
            raise ValueError("give either image or images")
        return self


class Probabilities(BaseModel):
    """Calibrated; they sum to 1, rounding apart."""

    angry: Probability
    disgust: Probability
    fear: Probability
    happy: Probability
    sad: Probability
    surprise: Probability
    neutral: Probability


class Answer(BaseModel):
    """What one face expresses."""

    expression: str = Field(description="The most probable of the seven.")
    confidence: Probability
    uncertain: bool = Field(description="The confidence is below the threshold, a higher one for flagged faces.")
    probabilities: Probabilities
    flags: list[str] = Field(description="What speaks against it: small, blurred, dark, bright, rotated, cut.")


class FaceOut(Answer):
    """One face of a photo."""

    box: list[float] = Field(description="x, y, width, height in pixels of the upright image.")
    score: Probability = Field(description="How sure the detector is that this is a face.")


class PhotoOut(BaseModel):
    """One photo; `faces` is empty where there is none, and has the largest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PHOTO]})

    source: str
    width: int
    height: int
    model: str
    faces: list[FaceOut]


class ErrorBody(BaseModel):
    """What is wrong."""

    code: str = Field(description="A word for programs.")
    message: str = Field(description="What was expected and what came.")
    hint: str = Field(description="What to do.")


class ErrorOut(BaseModel):
    """Every answer that is no success."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": _ERROR}]})

    error: ErrorBody


class Failed(ErrorOut):
    """One image of several that could not be read; the others are."""

    source: str


class PhotosOut(BaseModel):
    """Several photos, in the order they came in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"photos": [_PHOTO]}]})

    photos: list[PhotoOut | Failed]


class CropOut(Answer):
    """One cropped face."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CROP]})

    source: str


class CropsOut(BaseModel):
    """Cropped faces, in the order they came in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "mien-small", "faces": [_CROP]}]})

    model: str
    faces: list[CropOut | Failed]


class ModelOut(BaseModel):
    """A model's card."""

    name: str
    labels: list[str]
    views: str = Field(description="single, mirror or ten: views of each face over which answers are averaged.")
    threshold: Probability = Field(description="Confidence below which an answer is uncertain; flags raise it.")
    temperatures: list[float] = Field(description="What each expression's logit is divided by.")
    biases: list[float] = Field(description="What is added to it then.")
    licence: str = Field(description="Terms of the weights.")
    scores: dict[str, Any] = Field(description="Measured scores by split and view, with the confusion matrix.")


class LimitsOut(BaseModel):
    """What one request may ask for."""

    body: int = Field(description="Bytes of a body, and of a frame of a stream.")
    pixels: int = Field(description="Width times height of an image; of WebP at most 44, of JPEG 2000 31 million.")
    images: int = Field(description="Images in one request.")
    seconds: float = Field(description="From a request's head to its answer.")


class ModelsOut(BaseModel):
    """What is served, and within which limits."""

    models: list[ModelOut]
    limits: LimitsOut


class HealthOut(BaseModel):
    """The server answers, and its model is loaded."""

    status: str
    version: str
