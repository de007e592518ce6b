"""The embedding store: what goes in comes out, and only to whom it belongs."""

from __future__ import annotations

import builtins
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tdtrack.data import load_dataset
from tdtrack.data.dataset import AnnotatedImage, DetectionDataset
from tdtrack.data.store import EmbeddingStore
from tdtrack.data.store_writer import StoreWriter
from tdtrack.errors import MissingExtraError, OutputError, StoreError

DIM = 8
N = 23


def dataset(boxes: int = N, shift: float = 0.0) -> DetectionDataset:
    ids = np.arange(boxes, dtype=np.int64)[::-1] * 10 + 5  # not ascending: lookup must not rely on order
    xyxy = np.tile(np.array([1, 2, 30, 40], np.float32) + np.float32(shift), (boxes, 1))
    zeros = np.zeros(boxes, np.int64)
    image = AnnotatedImage(1, Path("a.jpg"), 100, 80, ids, xyxy, zeros, np.zeros(boxes, np.bool_))
    return DetectionDataset("tiny", ("person",), (image,), "CC0", "made up")


def embeddings(boxes: int = N) -> np.ndarray:
    values = np.random.default_rng(3).normal(size=(boxes, DIM)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def settings(data: DetectionDataset, **changes: Any) -> dict[str, Any]:
    return {
        "dim": DIM,
        "num_boxes": data.num_boxes,
        "teacher_name": "osnet",
        "teacher_fingerprint": "feed",
        "data_fingerprint": data.fingerprint(),
        "licence": data.licence,
        "provenance": {"source": data.source},
        "rows_per_part": 5,
        **changes,
    }


def fill(writer: StoreWriter, data: DetectionDataset, parts: list[int] | None = None) -> None:
    for index in range(writer.num_parts) if parts is None else parts:
        rows = writer.part_rows(index)
        writer.write_part(index, data.annotation_id[rows.start : rows.stop], embeddings()[rows.start : rows.stop])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    data = dataset()
    writer = StoreWriter(tmp_path / "store.parquet", **settings(data))
    fill(writer, data)
    return writer.finish()


def test_what_goes_in_comes_out(path: Path) -> None:
    store = EmbeddingStore.open(path)
    data = dataset()
    assert (len(store), store.dim, store.teacher_name, store.teacher_fingerprint) == (N, DIM, "osnet", "feed")
    assert (store.data_fingerprint, store.licence, store.provenance) == (data.fingerprint(), "CC0", {"source": "made up"})
    found = store.lookup(data.annotation_id)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, embeddings().astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(store.lookup(data.annotation_id[[4, 0, 4]]), found[[4, 0, 4]])
    assert store.lookup(np.zeros(0, np.int64)).shape == (0, DIM)
    store.check(data, "feed")
    assert [entry.name for entry in path.parent.iterdir()] == ["store.parquet"]


def test_other_readers_find_two_plain_columns(path: Path) -> None:
    schema = pyarrow.parquet.read_schema(path)
    assert schema.field("annotation_id").type == pyarrow.int64()
    assert schema.field("embedding").type == pyarrow.list_(pyarrow.float16(), DIM)


@pytest.mark.parametrize("killed_after", [0, 1, 3, 5])
def test_an_interrupted_run_ends_in_the_same_bytes(path: Path, tmp_path: Path, killed_after: int) -> None:
    data = dataset()
    out = tmp_path / "again.parquet"
    fill(StoreWriter(out, **settings(data)), data, list(range(killed_after)))
    assert not out.exists()
    (tmp_path / "again.parquet.parts" / ".part-000004.parquet.0badcafe.tmp").write_bytes(b"half a part")
    resumed = StoreWriter(out, **settings(data))
    assert resumed.done_parts() == set(range(killed_after))
    fill(resumed, data, sorted(set(range(resumed.num_parts)) - resumed.done_parts())[::-1])  # in any order
    resumed.finish()
    assert out.read_bytes() == path.read_bytes()
    assert not (tmp_path / "again.parquet.parts").exists()


def test_a_run_killed_while_joining_can_finish(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset()
    out = tmp_path / "again.parquet"
    writer = StoreWriter(out, **settings(data))
    fill(writer, data)
    with monkeypatch.context() as patch:
        patch.setattr("tdtrack.files.os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.finish()
    assert not out.exists()
    StoreWriter(out, **settings(data)).finish()
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_fingerprint": "beef"}, "teacher_fingerprint feed instead of beef"),
        ({"data_fingerprint": "other"}, "data_fingerprint .* instead of other"),
        ({"rows_per_part": 4}, "rows_per_part 5 instead of 4"),
    ],
)
def test_parts_of_another_run_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = dataset()
    fill(StoreWriter(tmp_path / "s.parquet", **settings(data)), data, [0])
    with pytest.raises(
        StoreError, match=rf"s\.parquet\.parts: parts of an interrupted run with .*{message}.*delete the folder .*--out"
    ):
        StoreWriter(tmp_path / "s.parquet", **settings(data, **changes))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    data = dataset()
    writer = StoreWriter(tmp_path / "s.parquet", **settings(data))
    fill(writer, data, [0, 2, 3, 4])
    with pytest.raises(StoreError, match="1 of 5 parts are missing, first part 1"):
        writer.finish()


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    data = dataset()
    writer = StoreWriter(tmp_path / "s.parquet", **settings(data))
    fill(writer, data)
    (tmp_path / "s.parquet.parts" / "part-000002.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"part-000002\.parquet: not a Parquet file, or cut short"):
        writer.finish()
    assert not (tmp_path / "s.parquet").exists()


def test_rows_that_do_not_belong_to_the_part_are_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s.parquet", **settings(dataset()))
    ids = dataset().annotation_id
    with pytest.raises(StoreError, match="part 0 got 4 rows, expected 5"):
        writer.write_part(0, ids[:4], embeddings()[:4])
    with pytest.raises(StoreError, match=r"shape \(5, 7\), expected \(5, 8\)"):
        writer.write_part(0, ids[:5], embeddings()[:5, :7])
    with pytest.raises(StoreError, match="part 5 got 0 rows"):
        writer.write_part(5, ids[:0], embeddings()[:0])
    broken = embeddings()[:5]
    broken[3, 2] = np.nan
    with pytest.raises(StoreError, match=f"osnet gave a number that is not finite for the box of annotation {ids[3]}"):
        writer.write_part(0, ids[:5], broken)


def test_a_data_set_without_boxes_makes_an_empty_store(tmp_path: Path) -> None:
    data = dataset(0)
    path = StoreWriter(tmp_path / "s.parquet", **settings(data)).finish()
    store = EmbeddingStore.open(path)
    store.check(data, "feed")
    assert len(store) == 0
    with pytest.raises(StoreError, match="no embedding for annotation 5"):
        store.lookup(np.array([5]))


def test_a_store_of_another_teacher_is_refused(path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"store\.parquet: embeddings of another teacher: osnet \(feed\), not beef; annotate again"
    ):
        EmbeddingStore.open(path).check(dataset(), "beef")


def test_a_store_that_lacks_boxes_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match="no embedding for 2 of 25 boxes of tiny, first for annotation 245"):
        EmbeddingStore.open(path).check(dataset(25))


def test_a_store_of_boxes_that_have_changed_is_refused(path: Path) -> None:
    with pytest.raises(StoreError, match=r"made from other data: fingerprint .* boxes, classes or images have changed"):
        EmbeddingStore.open(path).check(dataset(shift=1.0))


def test_a_store_of_other_real_data_is_refused(shared_data: Path, tmp_path: Path) -> None:
    data = load_dataset(shared_data / "penn-fudan-test" / "annotations.json")
    writer = StoreWriter(tmp_path / "s.parquet", **settings(data, rows_per_part=100))
    writer.write_part(0, data.annotation_id, np.eye(DIM, dtype=np.float32)[np.zeros(data.num_boxes, np.int64)])
    store = EmbeddingStore.open(writer.finish())
    store.check(data)
    for other in ("penn-fudan-train", "coco-person-val"):
        with pytest.raises(StoreError, match=other):
            store.check(load_dataset(shared_data / other / "annotations.json"))


def test_an_unknown_annotation_is_named(path: Path) -> None:
    with pytest.raises(StoreError, match="no embedding for annotation 6"):
        EmbeddingStore.open(path).lookup(np.array([5, 6, 7]))


def test_what_is_no_store_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    with pytest.raises(StoreError, match=r"other\.parquet: there is no such embedding store"):
        EmbeddingStore.open(other)
    other.write_text("annotation_id,embedding")
    with pytest.raises(StoreError, match="not a Parquet file"):
        EmbeddingStore.open(other)
    other.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match="not a Parquet file, or cut short"):
        EmbeddingStore.open(other)
    pyarrow.parquet.write_table(pyarrow.table({"annotation_id": [1]}), other)
    with pytest.raises(StoreError, match="a Parquet file, but not an embedding store"):
        EmbeddingStore.open(other)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b'{"format_version": 99}', "format version 99, but this tdtrack reads 1"),
        (b"{", "is damaged"),
        (b'{"format_version": 1}', "is damaged"),
    ],
)
def test_another_format_version_is_refused(tmp_path: Path, metadata: bytes, message: str) -> None:
    table = pyarrow.table({"annotation_id": [1]}).replace_schema_metadata({b"tdtrack.embedding_store": metadata})
    pyarrow.parquet.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(StoreError, match=message):
        EmbeddingStore.open(tmp_path / "s.parquet")


def test_damaged_pages_are_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="annotate again"):
        EmbeddingStore.open(path).lookup(dataset().annotation_id)


def test_a_store_travels_to_another_process_as_its_path(path: Path) -> None:
    store = EmbeddingStore.open(path)
    store.lookup(dataset().annotation_id)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert len(pickle.loads(sent)) == N


def test_no_permission_to_write_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        StoreWriter(tmp_path / "file" / "s.parquet", **settings(dataset()))


def test_without_pyarrow_the_extra_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for use in (lambda: EmbeddingStore.open(path), lambda: StoreWriter(tmp_path / "s", **settings(dataset()))):
        with pytest.raises(MissingExtraError, match=r"the embedding store needs pyarrow.*tdtrack\[train\]"):
            use()


def test_looking_up_in_order_holds_a_few_parts_and_not_the_store(tmp_path: Path) -> None:
    dim, rows_per_part, count = 256, 512, 40
    rng = np.random.default_rng(0)
    data = dataset(rows_per_part * count)
    writer = StoreWriter(tmp_path / "s.parquet", **settings(data, dim=dim, rows_per_part=rows_per_part))
    whole = rng.normal(size=(data.num_boxes, dim)).astype(np.float16)
    for part in range(writer.num_parts):
        rows = writer.part_rows(part)
        chosen = slice(rows.start, rows.stop)
        writer.write_part(part, data.annotation_id[chosen], whole[chosen].astype(np.float32))
    store = EmbeddingStore.open(writer.finish())
    tracemalloc.start()
    for start in range(0, data.num_boxes, 700):
        chosen = slice(start, start + 700)
        np.testing.assert_array_equal(store.lookup(data.annotation_id[chosen]), whole[chosen])
    held = pyarrow.total_allocated_bytes()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak + held < whole.nbytes / 2
    anywhere = rng.permutation(data.num_boxes)[:50]
    np.testing.assert_array_equal(store.lookup(data.annotation_id[anywhere]), whole[anywhere])
