import os
from typing import Any

import pytest

from mien.errors import InputError
from mien.reading.faces import CenterFace
from mien.reading.recognizer import load_model
from mien.reading.runtime import MAX_THREADS, cores, session_options


def test_threads_are_as_many_as_asked_for_or_a_core_each() -> None:
    assert session_options(3).intra_op_num_threads == 3
    assert session_options(0).intra_op_num_threads == min(8, cores())
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("threads", [-1, MAX_THREADS + 1, 1.5, "2"])
@pytest.mark.usefixtures("unchecked")
def test_other_numbers_are_refused(threads: Any) -> None:
    with pytest.raises(InputError, match=f"a whole number from 0 .* to {MAX_THREADS}, but is {threads!r}"):
        session_options(threads)


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        (None, "providers should be"),
        ((), "providers should be"),
        ("NoneProvider", "has no NoneProvider here; it has .*CPU"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_providers_that_are_not_there_are_refused(providers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(providers=providers)
    with pytest.raises(InputError, match=message):
        CenterFace(providers=providers)
