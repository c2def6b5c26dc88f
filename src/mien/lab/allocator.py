"""How the C library gives memory back while a network trains on a CPU."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt (malloc.h), and the values that they have where nobody set them.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_TRIM_DEFAULT, _MMAP_DEFAULT = 128 * 1024, 65536


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within it, memory that is freed stays with the process, to be used again; afterwards it is given back.

    glibc returns every large array to the system as it is freed, and the system must clear each page of the next one
    again. A training step frees and takes gigabytes in arrays of one size: a third of its time went there. Where the
    C library is another, nothing changes.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "malloc_trim"):
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        library.mallopt(_MMAP_MAX, _MMAP_DEFAULT)
        library.malloc_trim(0)
