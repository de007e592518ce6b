"""Memory that a step frees is kept for the next step."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_TRIM_FROM, _MMAP_MAX = -1, -4  # their numbers in glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to hand large freed blocks out again instead of returning them to the system.

    Every step on a CPU frees and allocates the same activations, tens of megabytes each; by default each comes as new pages
    that the system must clear first. Results do not change; the process keeps its peak memory until it ends.

    Returns:
        Whether the allocator took the settings; ``False`` where it is not glibc's.

    Source:
        mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_FROM, _NEVER))
