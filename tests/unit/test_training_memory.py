from __future__ import annotations

import platform
import subprocess
import sys

import pytest

RESIDENT = """
import numpy as np
from tdtrack.training.memory import keep_freed_memory

def left_after_freeing():
    before = resident()
    block = np.ones(8_000_000, np.float64)
    del block
    return resident() - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

usual = left_after_freeing()
assert keep_freed_memory()
print(usual, left_after_freeing())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_freed_memory_stays_with_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert usual < 16_000_000
    assert kept > 48_000_000
