"""The description says what happens: its own examples, and the errors that an input of the wrong form gets."""

import pytest
from pydantic import BaseModel, ValidationError
from serving import two_faces

from mien.reading.recognizer import load_model
from mien.reading.tables import Photo, to_object
from mien.web import schemas


@pytest.mark.parametrize(
    "model",
    [schemas.ImagesIn, schemas.PhotoOut, schemas.PhotosOut, schemas.CropOut, schemas.CropsOut, schemas.ErrorOut],
)
def test_examples_fit(model: type[BaseModel]) -> None:
    (example,) = model.model_config["json_schema_extra"]["examples"]
    model.model_validate(example)


def test_a_reading_has_the_fields_that_are_described() -> None:
    photo = to_object(Photo("x", 900, 460, "mien-small", load_model().read(two_faces())))
    described = schemas.PhotoOut.model_validate(photo).model_dump()
    assert described == photo


@pytest.mark.parametrize(
    "fields", [{}, {"image": "aa", "images": ["aa"]}, {"image": "aa", "views": "mirror"}, {"images": []}]
)
def test_one_image_or_several_and_nothing_else(fields: dict) -> None:
    with pytest.raises(ValidationError):
        schemas.ImagesIn.model_validate(fields)
