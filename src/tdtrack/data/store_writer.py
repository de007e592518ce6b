"""Writing an embedding store, part by part, so that a killed job loses one part at most."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from tdtrack.data.store import METADATA_KEY, StoreMetadata, arrow_module, parquet_module, reading
from tdtrack.errors import StoreError
from tdtrack.files import atomic_write, require_still_there, sweep
from tdtrack.types import FloatArray, IntArray

__all__ = ["StoreWriter", "discard_parts"]

_PART_NAME = "part-{:06d}.parquet"


class StoreWriter:
    """Writes a store part by part, so that a killed run goes on where it stopped.

    Parts lie in ``<out>.parts`` and appear whole or not at all. ``finish`` joins them; the bytes of the store depend on its
    content alone, not on how often the run was interrupted.
    """

    def __init__(
        self,
        out: Path | str,
        *,
        dim: int,
        num_boxes: int,
        teacher_name: str,
        teacher_fingerprint: str,
        data_fingerprint: str,
        licence: str = "",
        provenance: Mapping[str, Any] | None = None,
        rows_per_part: int = 2048,
    ) -> None:
        """Begin a store, or go on with an interrupted one.

        Args:
            out: the Parquet file to write in the end.
            dim: D_t, numbers in one embedding.
            num_boxes: embeddings the finished store will hold.
            teacher_name: of the network that makes the embeddings.
            teacher_fingerprint: of the network with its weights and preprocessing.
            data_fingerprint: ``DetectionDataset.fingerprint`` of the boxes.
            licence: of the data.
            provenance: where data and teacher come from; values that JSON can hold, and nothing that changes from run to run.
            rows_per_part: embeddings in every part but the last, at least 1.

        Raises:
            StoreError: an interrupted run with other data, another teacher or other parts lies there; says what differs.
            OutputError: the folder of parts cannot be written.
            MissingExtraError: pyarrow is not installed.
        """
        self.out = Path(out)
        self.metadata = StoreMetadata(dim, teacher_name, teacher_fingerprint, data_fingerprint, licence, dict(provenance or {}))
        self.num_boxes = num_boxes
        self.rows_per_part = rows_per_part
        self.num_parts = -(-num_boxes // rows_per_part)
        self._folder = _parts_of(self.out)
        self._plan = self._folder / "plan.json"
        sweep(self.out.parent)
        sweep(self._folder)
        arrow_module()  # before hours of work, not after
        self._agree_with_plan()

    def part_rows(self, index: int) -> range:
        """Return the rows of the whole store that one part holds."""
        return range(index * self.rows_per_part, min((index + 1) * self.rows_per_part, self.num_boxes))

    def done_parts(self) -> set[int]:
        """Return the parts that are complete."""
        names = [re.fullmatch(r"part-([0-9]{6,})\.parquet", path.name) for path in self._folder.iterdir()]
        return {int(name[1]) for name in names if name}

    def write_part(self, index: int, annotation_ids: IntArray, embeddings: FloatArray) -> None:
        """Write one part; it appears whole or not at all.

        Args:
            index: which part, from 0.
            annotation_ids: ``(n,)`` ids of ``part_rows(index)``.
            embeddings: ``(n, D_t)`` of unit length, in the same order; stored as float16.

        Raises:
            StoreError: the rows are not those of this part, or an embedding is not finite.
            OutputError: the part cannot be written, or the folder of parts has gone.
        """
        expected = len(self.part_rows(index))
        if not 0 <= index < self.num_parts or len(annotation_ids) != expected:
            raise StoreError(f"{self.out}: part {index} got {len(annotation_ids)} rows, expected {expected}")
        if embeddings.shape != (expected, self.metadata.dim):
            wanted = (expected, self.metadata.dim)
            raise StoreError(f"{self.out}: part {index} got embeddings of shape {embeddings.shape}, expected {wanted}")
        half = np.ascontiguousarray(embeddings, np.float16)
        finite = np.all(np.isfinite(half), axis=1)
        if not finite.all():
            bad = annotation_ids[int(np.argmin(finite))]
            teacher = self.metadata.teacher_name
            raise StoreError(f"{self.out}: teacher {teacher} gave a number that is not finite for the box of annotation {bad}")
        require_still_there(self._plan)
        arrow = arrow_module()
        columns = [
            arrow.array(np.ascontiguousarray(annotation_ids, np.int64)),
            arrow.FixedSizeListArray.from_arrays(arrow.array(half.reshape(-1)), self.metadata.dim),
        ]
        with atomic_write(self._folder / _PART_NAME.format(index), "wb") as file, self._parquet_writer(file) as writer:
            writer.write_table(arrow.Table.from_arrays(columns, schema=self._schema()))

    def finish(self) -> Path:
        """Join the parts into the store and remove them; one part at a time is in memory.

        Returns:
            The store's path.

        Raises:
            StoreError: a part is missing or damaged.
            OutputError: the store cannot be written.
        """
        require_still_there(self._plan)
        missing = sorted(set(range(self.num_parts)) - self.done_parts())
        if missing:
            raise StoreError(
                f"{self.out}: {len(missing)} of {self.num_parts} parts are missing, first part {missing[0]}; run again"
            )
        parquet = parquet_module()
        with atomic_write(self.out, "wb") as file, self._parquet_writer(file) as writer:
            for index in range(self.num_parts):
                part = self._folder / _PART_NAME.format(index)
                with reading(part), parquet.ParquetFile(part, page_checksum_verification=True) as opened:
                    table = opened.read()
                if table.num_rows != len(self.part_rows(index)):
                    raise StoreError(
                        f"{part}: {table.num_rows} rows, expected {len(self.part_rows(index))}; delete it and run again"
                    )
                writer.write_table(table.replace_schema_metadata(self._schema().metadata))
        discard_parts(self.out)
        return self.out

    def _schema(self) -> Any:
        arrow = arrow_module()
        fields = [
            arrow.field("annotation_id", arrow.int64(), nullable=False),
            arrow.field("embedding", arrow.list_(arrow.float16(), self.metadata.dim), nullable=False),
        ]
        return arrow.schema(fields, metadata={METADATA_KEY: self.metadata.to_json().encode()})

    def _parquet_writer(self, file: IO[bytes]) -> Any:
        # Embeddings hardly repeat: dictionaries and statistics would cost space and help no one.
        return parquet_module().ParquetWriter(
            file, self._schema(), compression="zstd", use_dictionary=False, write_statistics=False, write_page_checksum=True
        )

    def _agree_with_plan(self) -> None:
        """Write down what the parts are parts of, or compare with what an interrupted run wrote down."""
        plan = {**asdict(self.metadata), "num_boxes": self.num_boxes, "rows_per_part": self.rows_per_part}
        text = json.dumps(plan, sort_keys=True, indent=1) + "\n"
        try:
            found = json.loads(self._plan.read_text(encoding="utf-8")) if self._plan.exists() else None
        except (OSError, ValueError):
            found = {}
        if found is None:
            with atomic_write(self._plan, "w") as target:
                target.write(text)
            return
        plan = json.loads(text)
        differing = sorted(key for key in plan.keys() | found.keys() if plan.get(key) != found.get(key))
        if differing:
            was = ", ".join(f"{key} {str(found.get(key))[:40]} instead of {str(plan.get(key))[:40]}" for key in differing)
            raise StoreError(
                f"{self._folder}: parts of an interrupted run with {was}; delete the folder to start over, or use another --out"
            )


def _parts_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def discard_parts(out: Path) -> None:
    """Remove the parts of a finished store, where there are any."""
    shutil.rmtree(_parts_of(out), ignore_errors=True)
