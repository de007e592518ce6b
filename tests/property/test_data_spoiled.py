"""Whatever a file of any layout holds, it is read or refused in tdtrack's own words."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layouts import HEIGHT, LAYOUTS, WIDTH, Box
from tdtrack.data import load_dataset
from tdtrack.data.dataset import DetectionDataset
from tdtrack.data.load import inspect_dataset
from tdtrack.data.reading import IMAGE_SUFFIXES, path_inside
from tdtrack.errors import TdtrackError
from tdtrack.types import ANY_CLASS

PEOPLE = [[Box(5, 6, 20, 40), Box(30, 10, 10, 30)], [], [Box(1, 2, 30, 20)]]
NAMES = list(LAYOUTS)
FORMAT = {name: name.removesuffix("-video") for name in NAMES}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Path, list[Path]]]]:
    """The path to load, and the annotation files, of each layout; written once."""
    made: dict[str, tuple[Path, list[Path]]] = {}

    def make(name: str) -> tuple[Path, list[Path]]:
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            path = LAYOUTS[name].write(root / "data", PEOPLE, 1)
            files = sorted(file for file in root.rglob("*") if file.is_file() and file.suffix not in IMAGE_SUFFIXES)
            made[name] = (path, files)
        return made[name]

    yield make


def check(dataset: DetectionDataset) -> None:
    """What is read fits the form: inside the image, known classes, ids of its own."""
    for image in dataset.images:
        assert np.isfinite(image.xyxy).all()
        assert (image.xyxy[:, :2] >= 0).all() and (image.xyxy[:, 2:] <= (image.width, image.height)).all()
        assert (image.xyxy[:, 2:] > image.xyxy[:, :2]).all()
        assert ((image.class_id >= np.where(image.ignore, ANY_CLASS, 0)) & (image.class_id < len(dataset.classes))).all()
    ids = dataset.annotation_id.tolist()
    assert len(ids) == len(set(ids))


def spoil(content: bytes, how: str, where: float, junk: bytes) -> bytes:
    at = int(where * len(content))
    if how == "cut":
        return content[:at]
    if how == "replace":
        return junk
    if how == "insert":
        return content[:at] + junk + content[at:]
    return content[:at] + junk + content[at + len(junk) :]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 20),
    how=st.sampled_from(["cut", "replace", "insert", "overwrite"]),
    where=st.floats(0, 1, exclude_max=True),
    junk=st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"\0", b"\xff", b"9" * 30, b"nan", b"-1", b"1e999", b",", b"\n", b"[[", b"{}", b"null", b"../", b"\r"]
        ),
    ),
)
def test_a_spoiled_file_raises_only_own_errors(
    name: str, which: int, how: str, where: float, junk: bytes, written: Callable[[str], tuple[Path, list[Path]]]
) -> None:
    path, files = written(name)
    file = files[which % len(files)]
    original = file.read_bytes()
    file.write_bytes(spoil(original, how, where, junk))
    try:
        with contextlib.suppress(TdtrackError):
            inspect_dataset(path, format=FORMAT[name])  # type: ignore[arg-type]
        with contextlib.suppress(TdtrackError):
            check(load_dataset(path, skip_bad=True))
    finally:
        file.write_bytes(original)


side = st.integers(1, 30)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(
    people=st.lists(
        st.lists(st.tuples(st.integers(0, WIDTH - 30), st.integers(0, HEIGHT - 30), side, side, st.booleans()), max_size=4),
        min_size=1,
        max_size=3,
    ).filter(lambda images: any(images))
)
def test_every_box_that_is_written_is_read(name: str, people: list[list[tuple[int, int, int, int, bool]]]) -> None:
    boxes = [[Box(*box[:4], ignore=box[4] and LAYOUTS[name].ignores) for box in image] for image in people]
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_dataset(LAYOUTS[name].write(Path(folder) / "data", boxes, 1))
    check(dataset)
    assert len(dataset) == len(boxes)
    for image, wanted in zip(dataset.images, boxes):
        corners = [(box.left, box.top, box.left + box.width, box.top + box.height) for box in wanted]
        np.testing.assert_allclose(image.xyxy, np.array(corners, np.float64).reshape(-1, 4), atol=1e-4)
        assert image.ignore.tolist() == [box.ignore for box in wanted]


parts_of_names = st.sampled_from(["..", ".", "a", "b.jpg", "", "C:", "/", "\0", "\ud800", "é\u202f"])


@given(st.lists(parts_of_names, max_size=5), st.sampled_from(["/", "\\"]))
def test_a_joined_path_stays_inside(parts: list[str], slash: str) -> None:
    found = path_inside(Path("/images"), slash.join(parts))
    if found is not None:
        assert Path("/images") in [found, *found.parents]
        assert ".." not in found.parts
        str(found).encode()
