import os

import pytest

from mien.errors import InputError
from mien.reading.runtime import MAX_THREADS, cores, session_options


def test_threads_are_as_many_as_asked_for_or_a_core_each() -> None:
    assert session_options(3).intra_op_num_threads == 3
    assert session_options(0).intra_op_num_threads == min(8, cores())
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("threads", [-1, MAX_THREADS + 1])
def test_other_numbers_are_refused(threads: int) -> None:
    with pytest.raises(InputError, match=f"threads should be from 0 .* to {MAX_THREADS}, but is {threads}"):
        session_options(threads)
