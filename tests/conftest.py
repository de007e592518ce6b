"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Networks as small as the tests' lose time to threads, more so with test processes side by side; set before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real reference data; a test that needs it skips where it is absent.

    ``TDTRACK_TEST_DATA`` names it; otherwise ``../shared/data`` beside the repository is tried.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TDTRACK_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}; set TDTRACK_TEST_DATA to run this test")
    return folder
