"""What a thousand hours of 1080p video cost to track, and ten million boxes to annotate: from recorded single-machine rates.

python benchmarks/capacity.py      # reads results/, writes results/capacity--*.json, prints docs/scale.md's tables

Rates come from the result files that other benchmarks left on this machine; bytes are measured here, by writing.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import record

from tdtrack.data.store_writer import StoreWriter
from tdtrack.output.jsonl import JsonLinesWriter
from tdtrack.output.mot import MotWriter
from tdtrack.types import Tracks

HOURS, FRAME_RATE, PEOPLE = 1000, 30, 10
BOXES, DIM = 10_000_000, 512
NIGHT_HOURS = 12
"""How long a job may take that is started in the evening."""


def read(suite: str) -> dict[str, Any] | None:
    path = record.RESULTS / f"{suite}--{record.machine()}.json"
    return json.loads(path.read_text())["results"] if path.is_file() else None


def bytes_per_person_and_frame(folder: Path) -> dict[str, float]:
    """Write tracks as ``tdtrack track`` does."""
    rng = np.random.default_rng(0)
    frames = 200
    with MotWriter(folder / "tracks.txt") as mot, JsonLinesWriter(folder / "tracks.jsonl", ("person",)) as lines:
        for frame in range(frames):
            corner = rng.uniform(0, 900, (PEOPLE, 2))
            xyxy = np.concatenate([corner, corner + 100], axis=1).astype(np.float32)
            ids = np.arange(1000, 1000 + PEOPLE)
            score = rng.uniform(0.4, 1, PEOPLE).astype(np.float32)
            tracks = Tracks(frame, ids, xyxy, score, np.zeros(PEOPLE, np.int64), np.zeros(PEOPLE, bool))
            mot.write(tracks)
            lines.write(tracks, frame / FRAME_RATE)
    return {path.suffix: path.stat().st_size / frames / PEOPLE for path in folder.glob("tracks.*")}


def bytes_per_box(folder: Path, boxes: int = 20_000) -> float:
    """Write embeddings as ``tdtrack annotate`` does."""
    rng = np.random.default_rng(0)
    writer = StoreWriter(
        folder / "store.parquet",
        dim=DIM,
        num_boxes=boxes,
        teacher_name="osnet",
        teacher_fingerprint="0" * 64,
        data_fingerprint="0" * 64,
    )
    for part in range(writer.num_parts):
        rows = writer.part_rows(part)
        embeddings = rng.normal(size=(len(rows), DIM)).astype(np.float32)
        writer.write_part(
            part, np.arange(rows.start, rows.stop), embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        )
    writer.finish()
    return (folder / "store.parquet").stat().st_size / boxes


def main() -> None:
    frames = HOURS * 3600 * FRAME_RATE
    tracking = {}
    for suite in sorted(
        path.name.partition("--")[0] for path in record.RESULTS.glob(f"speed_pipeline*--{record.machine()}.json")
    ):
        found = read(suite)
        assert found is not None
        hours = frames / found["fps"]["whole"] / 3600
        tracking[suite.removeprefix("speed_pipeline").lstrip("-") or "resnet34"] = {
            "engine": found["engine"],
            "frames_per_second": found["fps"]["whole"],
            "machine_hours": hours,
            "machines_for_one_night": hours / NIGHT_HOURS,
        }
    annotation = {}
    for name, rates in (read("speed_training") or {"crops_per_second": {}})["crops_per_second"].items():
        hours = BOXES / rates["annotate"] / 3600
        annotation[name] = {
            "crops_per_second": rates["annotate"],
            "machine_hours": hours,
            "machines_for_one_night": hours / NIGHT_HOURS,
        }
    with tempfile.TemporaryDirectory() as name:
        row_bytes, box_bytes = bytes_per_person_and_frame(Path(name)), bytes_per_box(Path(name))
    storage = {
        "store_gigabytes": BOXES * box_bytes / 1e9,
        "bytes_per_box": box_bytes,
        **{f"tracks{suffix}_gigabytes": frames * PEOPLE * size / 1e9 for suffix, size in row_bytes.items()},
        "bytes_per_person_and_frame": row_bytes,
    }
    results = {
        "asked": {"hours": HOURS, "frame_rate": FRAME_RATE, "people_per_frame": PEOPLE, "boxes": BOXES, "embedding_dim": DIM},
        "tracking": tracking,
        "annotation": annotation,
        "storage": storage,
    }
    for kind, rows in (("track", tracking), ("annotate", annotation)):
        for label, row in rows.items():
            print(
                f"| {kind} | {label} | {row.get('frames_per_second', row.get('crops_per_second')):,.1f} | "
                f"{row['machine_hours']:,.0f} | {row['machines_for_one_night']:,.0f} |"
            )
    print(json.dumps(storage, indent=2))
    print(record.save("capacity", "python benchmarks/capacity.py", results))


if __name__ == "__main__":
    main()
