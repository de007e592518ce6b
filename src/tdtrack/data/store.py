"""The embedding store: one teacher embedding per annotated box, in one Parquet file."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tdtrack.data.dataset import DetectionDataset
from tdtrack.errors import MissingExtraError, StoreError
from tdtrack.files import is_bomb, reason_of
from tdtrack.types import FloatArray, IntArray

__all__ = [
    "FORMAT_VERSION",
    "MAX_DIM",
    "METADATA_KEY",
    "EmbeddingStore",
    "StoreMetadata",
    "arrow_module",
    "parquet_module",
    "reading",
]

FORMAT_VERSION = 1
METADATA_KEY = b"tdtrack.embedding_store"
MAX_DIM = 65_536
"""Numbers of an embedding, at most."""

_PARTS_KEPT = 4  # in memory; who reads in the order of the data set needs one or two at a time


@dataclass(frozen=True, slots=True)
class StoreMetadata:
    """What a store says about itself.

    Attributes:
        dim: D_t, numbers in one embedding.
        teacher_name: of the network that made them.
        teacher_fingerprint: of the network with its weights and preprocessing.
        data_fingerprint: ``DetectionDataset.fingerprint`` of the boxes.
        licence: of the data.
        provenance: where data and teacher come from; values that JSON can hold, and nothing that changes from run to run.
        format_version: of the file's layout.
    """

    dim: int
    teacher_name: str
    teacher_fingerprint: str
    data_fingerprint: str
    licence: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return one line that is the same for the same content."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


class EmbeddingStore:
    """An open store. Annotation ids are kept in memory; embeddings are read part by part as they are looked up.

    In the order of the data set every part is read once; in random order a part may be read for every box.
    """

    def __init__(self, path: Path, metadata: StoreMetadata, footer: Any) -> None:
        self.path = path
        self.metadata = metadata
        self._footer = footer
        self._parts: OrderedDict[int, NDArray[np.float16]] = OrderedDict()
        self._index: tuple[IntArray, IntArray] | None = None

    @classmethod
    def open(cls, path: Path | str) -> EmbeddingStore:
        """Open a store that ``tdtrack annotate`` wrote.

        Args:
            path: the Parquet file.

        Raises:
            StoreError: the file is missing, damaged, no embedding store, or of a newer format.
            MissingExtraError: pyarrow is not installed.
        """
        path = Path(path)
        with reading(path), parquet_module().ParquetFile(path) as file:
            found = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
            footer = file.metadata
            columns = {field.name: field.type for field in file.schema_arrow}
        if found is None:
            raise StoreError(f"{path}: a Parquet file, but not an embedding store; make one with tdtrack annotate")
        try:
            content = json.loads(found)
            version = content.get("format_version")
            if version == FORMAT_VERSION:
                metadata = StoreMetadata(**content)
                _check_layout(path, metadata, columns, int(footer.num_rows))
                return cls(path, metadata, footer)
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: what the store says about itself is damaged: {error}; annotate again") from error
        raise StoreError(
            f"{path}: format version {version}, but this tdtrack reads {FORMAT_VERSION}; annotate again with this one"
        )

    @property
    def dim(self) -> int:
        """D_t, numbers in one embedding."""
        return self.metadata.dim

    @property
    def teacher_name(self) -> str:
        """Name of the network that made the embeddings."""
        return self.metadata.teacher_name

    @property
    def teacher_fingerprint(self) -> str:
        """Fingerprint of the network that made the embeddings."""
        return self.metadata.teacher_fingerprint

    @property
    def data_fingerprint(self) -> str:
        """Fingerprint of the data set the embeddings belong to."""
        return self.metadata.data_fingerprint

    @property
    def licence(self) -> str:
        """Licence of the data."""
        return self.metadata.licence

    @property
    def provenance(self) -> dict[str, Any]:
        """Where data and teacher come from."""
        return dict(self.metadata.provenance)

    def __len__(self) -> int:
        """Return the number of embeddings."""
        return int(self._footer.num_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as a path, not as gigabytes."""
        return type(self).open, (self.path,)

    def lookup(self, annotation_id: IntArray) -> FloatArray:
        """Return the embeddings of boxes.

        Args:
            annotation_id: ``(G,)``, in any order, repeats allowed.

        Returns:
            ``(G, D_t)`` float32, of unit length to float16 precision.

        Raises:
            StoreError: the store has no embedding for one of them, or the file is damaged.
        """
        row = self._rows(np.asarray(annotation_id, np.int64))
        if (row < 0).any():
            missing = int(np.asarray(annotation_id)[row < 0][0])
            raise StoreError(
                f"{self.path}: no embedding for annotation {missing}; the store belongs to other data, annotate again"
            )
        ends = np.cumsum([self._footer.row_group(part).num_rows for part in range(self._footer.num_row_groups)])
        of_part = np.searchsorted(ends, row, side="right")
        embeddings = np.empty((len(row), self.dim), np.float32)
        for part in np.unique(of_part).tolist():
            chosen = of_part == part
            content = self._part(part)
            embeddings[chosen] = content[row[chosen] - ends[part] + len(content)]
        return embeddings

    def check(self, dataset: DetectionDataset, teacher_fingerprint: str | None = None) -> None:
        """Refuse to go with a data set or teacher that the store was not made from.

        Args:
            dataset: the boxes that will be looked up.
            teacher_fingerprint: of the teacher whose embeddings are expected; ``None`` takes any.

        Raises:
            StoreError: boxes have no embedding, the boxes have changed, or another teacher made the embeddings; says which.
        """
        if teacher_fingerprint is not None and teacher_fingerprint != self.teacher_fingerprint:
            raise StoreError(
                f"{self.path}: embeddings of another teacher: {self.teacher_name} ({self.teacher_fingerprint[:12]}), "
                f"not {teacher_fingerprint[:12]}; annotate again with the teacher you want"
            )
        fingerprint = dataset.fingerprint()
        wanted = dataset.annotation_id
        missing = wanted[self._rows(wanted) < 0]
        if len(missing):
            raise StoreError(
                f"{self.path}: no embedding for {len(missing)} of {len(wanted)} boxes of {dataset.name}, first for annotation "
                f"{missing[0]}; the store belongs to other data, annotate {dataset.name} again"
            )
        if fingerprint != self.data_fingerprint:
            raise StoreError(
                f"{self.path}: made from other data: fingerprint {self.data_fingerprint[:12]}, but {dataset.name} has "
                f"{fingerprint[:12]}: boxes, classes or images have changed since; annotate {dataset.name} again"
            )

    def _rows(self, wanted: IntArray) -> IntArray:
        """Return the row of each wanted id in the file, -1 where it is not there."""
        ids, row = self._read_index()
        if not len(ids):
            return np.full(len(wanted), -1, np.int64)
        place = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
        return np.where(ids[place] == wanted, row[place], -1)

    def _read_index(self) -> tuple[IntArray, IntArray]:
        """Return ascending annotation ids and their rows in the file."""
        if self._index is None:
            with reading(self.path), parquet_module().ParquetFile(self.path, page_checksum_verification=True) as file:
                ids = np.asarray(file.read(columns=["annotation_id"])["annotation_id"].to_numpy(), np.int64)
            row = np.argsort(ids, kind="stable")
            ids = ids[row]
            twice = np.flatnonzero(ids[1:] == ids[:-1])
            if len(twice):
                raise StoreError(
                    f"{self.path}: annotation {ids[twice[0]]} has two embeddings; the store is damaged, annotate again"
                )
            self._index = ids, row
        return self._index

    def _part(self, part: int) -> NDArray[np.float16]:
        """Return the embeddings of a row group, ``(n, D_t)``, from the file or from those read last."""
        if part not in self._parts:
            parquet = parquet_module()
            with (
                reading(self.path),
                parquet.ParquetFile(self.path, metadata=self._footer, page_checksum_verification=True) as file,
            ):
                column = file.read_row_group(part, columns=["embedding"])["embedding"].combine_chunks()
            self._parts[part] = np.asarray(column.flatten(), np.float16).reshape(-1, self.dim)
            if len(self._parts) > _PARTS_KEPT:
                self._parts.popitem(last=False)
        self._parts.move_to_end(part)
        return self._parts[part]


def _check_layout(path: Path, metadata: StoreMetadata, columns: Mapping[str, Any], length: int) -> None:
    """Refuse a store whose columns are not what it says, or which unpacks to more than its bytes can mean.

    Raises:
        TypeError: the metadata hold something of another type.
        StoreError: the columns are others, or there are too many rows.
    """
    texts = (metadata.teacher_name, metadata.teacher_fingerprint, metadata.data_fingerprint, metadata.licence)
    if type(metadata.dim) is not int or not 1 <= metadata.dim <= MAX_DIM:
        raise TypeError(f"dim is {metadata.dim!r:.40}, not a whole number in 1..{MAX_DIM}")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name or fingerprint is no text")
    if not isinstance(metadata.provenance, Mapping):
        raise TypeError("provenance is no object")
    arrow = arrow_module()
    wanted = {"annotation_id": arrow.int64(), "embedding": arrow.list_(arrow.float16(), metadata.dim)}
    if columns != wanted:
        found = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        raise StoreError(f"{path}: columns are {found:.200}, not the embeddings of dim {metadata.dim}; annotate again")
    size = path.stat().st_size
    if is_bomb(length * (8 + 2 * metadata.dim), size):
        raise StoreError(f"{path}: claims {length} embeddings of {metadata.dim} numbers in {size} bytes; annotate again")


def arrow_module() -> Any:
    """Import pyarrow; raises ``MissingExtraError`` where it is not installed."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("pyarrow", "train", "the embedding store") from error
    return pyarrow


def parquet_module() -> Any:
    """Import pyarrow's Parquet; see ``arrow_module``."""
    arrow_module()
    import pyarrow.parquet

    return pyarrow.parquet


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises on a bad file into a ``StoreError`` with the file's name."""
    arrow = arrow_module()
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{path}: there is no such embedding store; make it with tdtrack annotate") from error
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: not a Parquet file, or cut short: {_first_line(str(error))}; annotate again") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot read the embedding store: {_first_line(reason_of(error))}; annotate again") from error


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip(".")
