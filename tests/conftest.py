"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
