"""Memory that steps free stays in the process while a network trains, and goes back afterwards."""

import resource
import sys

import numpy as np
import pytest

from mien.lab.allocator import kept_memory

LARGE = 64 << 20  # bytes: more than glibc ever keeps by itself


def faults() -> int:
    """Pages that the system mapped while a large array was made and freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(LARGE, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is told")
def test_large_arrays_are_mapped_once_and_given_back() -> None:
    faults()
    before, again = resident(), faults()
    with kept_memory():
        faults()
        kept = faults()
        assert resident() > before + LARGE / 2
    assert kept < again / 10
    assert resident() < before + LARGE / 2
    assert faults() > again / 2
