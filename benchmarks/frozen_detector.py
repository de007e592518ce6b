"""A detector that stays as it is, taught embeddings: who is whom, how well it tracks, and what it costs.

    python benchmarks/frozen_detector.py teach --data-root DATA --out runs/frozen     # the table, by retrieval and by tracking
    python benchmarks/frozen_detector.py choices --data-root DATA --out runs/frozen   # box or cell, which maps
    python benchmarks/frozen_detector.py curve --data-root DATA --out runs/frozen     # mAP against the number of boxes
    python benchmarks/frozen_detector.py speed --data-root DATA --out runs/frozen     # what the head costs

DATA holds ``penn-fudan-*``, ``coco-person-*``, ``mot17-mini``, ``videos``, ``detectors`` and ``teachers`` to learn from, and
the sequence ``mot15-half/ADL-Rundle-6`` to measure on (``--sequence`` names another), no frame of which is learned from.
Embeddings are compared on ground-truth boxes between frames at least a second apart; tracking uses the detector's own boxes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import record
import timing

from tdtrack.association import Tracker
from tdtrack.boxes import clip_to_image
from tdtrack.config import AssociationConfig, DetectConfig, HeadConfig
from tdtrack.data import load_dataset
from tdtrack.data.images import crop_boxes, fit_image, load_image
from tdtrack.data.store import EmbeddingStore
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.frozen.cache import FeatureCache, MapReader
from tdtrack.frozen.description import describe_detector
from tdtrack.frozen.graph import DetectorGraph, read_graph
from tdtrack.frozen.head import AppearanceHead
from tdtrack.frozen.learn import evaluate_head, learn_head, retrieval
from tdtrack.frozen.merge import merge
from tdtrack.frozen.pooling import Reading, choose_readings
from tdtrack.output.mot import MotWriter
from tdtrack.runtime.engine import Engine, load_engine
from tdtrack.runtime.sources import open_source
from tdtrack.runtime.two_stage import TwoStageEngine
from tdtrack.teach import DetectorRequest, TeachData, teach_detector
from tdtrack.teacher import Teacher, load_teacher
from tdtrack.types import Detections, FloatArray

LABELLED = (
    *("penn-fudan-train/annotations.json", "penn-fudan-test/annotations.json"),
    *("coco-person-train/annotations.json", "coco-person-val/annotations.json", "mot17-mini"),
)
SEQUENCE = "mot15-half/ADL-Rundle-6"
APART = 30  # frames: a second
SPEED_PEOPLE = (0, 20, 100)
NECK_STRIDES = (8, 16, 32)


@dataclass
class Bench:
    """What all parts share."""

    data: Path
    out: Path
    sequence: Path
    every: int

    def __post_init__(self) -> None:
        self.detector = read_graph(self.data / "detectors" / "yolox_nano_416x416.onnx")
        self.description = describe_detector(self.detector)
        self.teacher: Teacher = load_teacher("osnet_x0_25", self.data / "teachers" / "osnet_x0_25_msmt17.pth", "cpu")
        self.aspect = 0.4

    @property
    def model(self) -> Path:
        return self.out / "model.onnx"

    def teach(self, name: str = "model", pseudo: tuple[str, ...] = ()) -> tuple[Any, float]:
        """Teach as ``tdtrack teach`` does; returns the result and seconds."""
        request = DetectorRequest(
            detector=self.detector.label, out=str(self.out / f"{name}.onnx"), licence="Apache-2.0", pseudo_boxes=pseudo
        )
        started = time.perf_counter()
        data = [TeachData(str(self.data / name)) for name in LABELLED]
        return teach_detector(data, request, self.teacher, HeadConfig(), DetectConfig()), time.perf_counter() - started

    def learned(self, config: HeadConfig, name: str = "model", boxes: int | None = None) -> tuple[AppearanceHead, Any, Any]:
        """Learn a head on what ``teach`` left, at first or again; returns it, how it reads, and its report."""
        work = self.out / f"{name}-work"
        sets = [
            load_dataset(work / "data" / f"{part}.json", _root(work / "data" / f"{part}.json")) for part in ("train", "val")
        ]
        readings = choose_readings(self.detector, config.features, self.aspect, config.place)
        label = "-".join([config.place, *(str(item.stride) for item in readings), *(() if boxes is None else (str(boxes),))])
        folder = self.out / "heads" / f"{name}-{label}"
        caches = []
        for part, dataset in zip(("train", "val"), sets):
            where = work / f"features-{part}" if config == HeadConfig() else folder / f"features-{part}"
            caches.append(
                FeatureCache.make(
                    where, dataset, self.detector, self.description, readings, views=config.views, seed=config.seed
                )
            )
        stores = [EmbeddingStore.open(work / "data" / f"{part}.parquet") for part in ("train", "val")]
        rows = [store.lookup(item.annotation_id).astype(np.float32) for store, item in zip(stores, sets)]
        learned_from = caches[0] if boxes is None else _Subset(caches[0], boxes)
        head = learn_head(learned_from, rows[0], readings, config, folder)  # type: ignore[arg-type]
        return head, readings, evaluate_head(head, caches[1], rows[1])


class _Subset:
    """A cache of some of the boxes."""

    def __init__(self, cache: FeatureCache, boxes: int) -> None:
        chosen = np.random.default_rng(0).permutation(np.unique(cache.box))[:boxes]
        rows = np.flatnonzero(np.isin(cache.box, chosen))
        self.reads = [np.asarray(read[rows]) for read in cache.reads]
        self.box, self.view = cache.box[rows], cache.view[rows]

    def __len__(self) -> int:
        return len(self.box)


def _root(annotations: Path) -> str:
    """Find the folder that a data set's file names are relative to."""
    name = json.loads(annotations.read_text())["images"][0]["file_name"]
    data = arguments.data_root.resolve()
    return str(next(folder for folder in (data, *data.parents) if (folder / name).is_file()))


@dataclass
class Truth:
    """Ground-truth boxes of some frames of a sequence."""

    frame: np.ndarray
    identity: np.ndarray
    pictures: list[tuple[np.ndarray, FloatArray]]

    @classmethod
    def read(cls, sequence: Path, every: int) -> Truth:
        rows = np.loadtxt(sequence / "gt" / "gt.txt", delimiter=",", ndmin=2)
        rows = rows[rows[:, 6] > 0]
        files = sorted((sequence / "img1").glob("*.jpg"))
        frames, identities, pictures = [], [], []
        for file in files[::every]:
            mine = rows[rows[:, 0] == int(file.stem)]
            pixels = load_image(file)
            xyxy = mine[:, 2:6].astype(np.float32)
            xyxy[:, 2:] += xyxy[:, :2]
            xyxy = clip_to_image(xyxy, pixels.shape[1], pixels.shape[0])
            frames.append(mine[:, 0])
            identities.append(mine[:, 1])
            pictures.append((pixels, xyxy))
        return cls(np.concatenate(frames), np.concatenate(identities), pictures)

    def search(self, embed: Callable[[np.ndarray, FloatArray], FloatArray]) -> dict[str, float]:
        """Embed all boxes and look each up among those of frames at least a second away."""
        embedded = np.concatenate([embed(*picture) for picture in self.pictures])
        rank1, precision = [], []
        for row in range(len(embedded)):
            away = np.abs(self.frame - self.frame[row]) >= APART
            query = np.zeros(len(embedded), bool)
            query[row] = True
            if (self.identity[away] == self.identity[row]).any():
                one, mean = retrieval(embedded, self.identity, query, away)
                rank1.append(one)
                precision.append(mean)
        return {"rank1": float(np.mean(rank1)), "mAP": float(np.mean(precision)), "queries": len(rank1)}


def reader(bench: Bench, readings: tuple[Reading, ...]) -> Callable[[np.ndarray, FloatArray], list[FloatArray]]:
    """Return what reads maps at boxes of a picture."""
    maps = MapReader(bench.detector, bench.description, readings)

    def read(pixels: np.ndarray, xyxy: FloatArray) -> list[FloatArray]:
        fitted, scale = fit_image(pixels, maps.height, maps.width)
        return maps.read(fitted, xyxy * np.float32(scale))

    return read


def raw_embedder(bench: Bench, readings: tuple[Reading, ...]) -> Callable[[np.ndarray, FloatArray], FloatArray]:
    """Embed by the mean of untaught features over the box, each map's of unit length."""
    read = reader(bench, readings)

    def embed(pixels: np.ndarray, xyxy: FloatArray) -> FloatArray:
        means = [values.mean(axis=1) for values in read(pixels, xyxy)]
        return np.concatenate([mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12) for mean in means], axis=1)

    return embed


def head_embedder(
    bench: Bench, readings: tuple[Reading, ...], head: AppearanceHead
) -> Callable[[np.ndarray, FloatArray], FloatArray]:
    import torch

    read = reader(bench, readings)

    def embed(pixels: np.ndarray, xyxy: FloatArray) -> FloatArray:
        with torch.inference_mode():
            out = torch.nn.functional.normalize(head([torch.from_numpy(values) for values in read(pixels, xyxy)]), dim=1)
        return out.numpy()

    return embed


def neck_readings(detector: DetectorGraph) -> tuple[Reading, ...]:
    """Return the last map of each stride before the detector's own heads: what "auto" of Ultralytics' trackers pools."""
    last = {item.stride: item.name for item in detector.maps if item.share < 0.83 and item.stride in NECK_STRIDES}
    return choose_readings(detector, [last[stride] for stride in NECK_STRIDES if stride in last], 0.4)


def track(bench: Bench, name: str, engine: Engine | Callable[[np.ndarray], Detections], statistics: Any) -> dict[str, float]:
    """Track the sequence and compare with its ground truth."""
    source = open_source(bench.sequence)
    tracker = Tracker(AssociationConfig(cosine_statistics=statistics), frame_rate=source.frame_rate)
    result = bench.out / "tracks" / name / f"{bench.sequence.name}.txt"
    with MotWriter(result) as writer:
        for frame in source:
            writer.write(tracker.update(engine(frame.image)))
    scores = evaluate_tracking(bench.sequence, result.parent).overall
    return {key: scores[key] for key in ("MOTA", "IDF1", "HOTA", "IDSW")}


def table(bench: Bench) -> dict[str, Any]:
    """(a) motion only, (b) untaught features, (c) our head, (d) the teacher on crops."""
    taught, seconds = bench.teach()
    head, readings, _ = bench.learned(HeadConfig())
    truth = Truth.read(bench.sequence, bench.every)
    backbone, neck = raw_embedder(bench, readings), raw_embedder(bench, neck_readings(bench.detector))
    ours = head_embedder(bench, readings, head)

    def crops(pixels: np.ndarray, xyxy: FloatArray) -> FloatArray:
        return bench.teacher.embed(crop_boxes(pixels, xyxy))

    rows: dict[str, dict[str, Any]] = {
        "untaught neck": truth.search(neck),
        "untaught backbone": truth.search(backbone),
        "head": truth.search(ours),
        "teacher on crops": truth.search(crops),
    }
    plain = load_engine(_detector_alone(bench), engine="onnxruntime", device="cpu")
    both = load_engine(bench.model, engine="onnxruntime", device="cpu")

    def with_embedding(embed: Callable[[np.ndarray, FloatArray], FloatArray]) -> Callable[[np.ndarray], Detections]:
        def detect(pixels: np.ndarray) -> Detections:
            found = plain(pixels)
            return replace(found, embedding=embed(pixels, found.xyxy)) if len(found) else found

        return detect

    statistics = both.metadata["appearance"].get("cosine_statistics")
    runs: dict[str, tuple[Any, Any]] = {
        "motion only": (plain, None),
        "untaught neck": (with_embedding(neck), None),
        "untaught backbone": (with_embedding(backbone), None),
        "head": (both, None if statistics is None else tuple(statistics)),
        "teacher on crops": (TwoStageEngine(plain, bench.teacher), None),
    }
    for name, (engine, known) in runs.items():
        rows[name] = {**rows.get(name, {}), **track(bench, name.replace(" ", "-"), engine, known)}
        print(f"{name:<20} {json.dumps(rows[name])}", flush=True)
    closed = {
        floor: {
            key: (rows["head"][key] - rows[floor][key]) / (rows["teacher on crops"][key] - rows[floor][key])
            for key in ("rank1", "mAP")
        }
        for floor in ("untaught neck", "untaught backbone")
    }
    return {
        "seconds_to_teach": seconds,
        "boxes": taught.boxes,
        "own_outputs": {"images": taught.compared, "numbers_that_differ": taught.changed},
        "held_out": taught.report.__dict__,
        "rows": rows,
        "gap_closed_from": closed,
    }


def _detector_alone(bench: Bench, **detect: Any) -> Path:
    built, _ = merge(bench.detector, bench.description, classes=("person",), detect=DetectConfig(**detect))
    path = bench.out / f"detector-{'-'.join(map(str, detect.values())) or 'alone'}.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def choices(bench: Bench) -> dict[str, Any]:
    """Compare where and what to read."""
    bench.teach()
    truth = Truth.read(bench.sequence, bench.every)
    maps = {item.stride: item.name for item in bench.detector.backbone_maps((2, 4, 8, 16))}
    variants = {
        "box, strides 4 8": HeadConfig(),
        "cell, strides 4 8": HeadConfig(place="cell"),
        "box, stride 4": HeadConfig(features=(maps[4],)),
        "box, strides 4 8 16": HeadConfig(features=(maps[4], maps[8], maps[16])),
        "box, strides 2 4": HeadConfig(features=(maps[2], maps[4])),
        "box, strides 8 16": HeadConfig(features=(maps[8], maps[16])),
    }
    rows = {}
    for name, config in variants.items():
        head, readings, report = bench.learned(config)
        rows[name] = {**truth.search(head_embedder(bench, readings, head)), "agreement": report.agreement}
        print(f"{name:<24} {json.dumps(rows[name])}", flush=True)
    return rows


def curve(bench: Bench) -> dict[str, Any]:
    """MAP against the number of boxes learned from; the last point adds the detector's own boxes in unlabelled videos."""
    bench.teach()
    truth = Truth.read(bench.sequence, bench.every)
    rows = []
    for boxes in (100, 200, 400, 800, None):
        head, readings, _ = bench.learned(HeadConfig(), boxes=boxes)
        rows.append({"boxes": boxes, **truth.search(head_embedder(bench, readings, head))})
        print(json.dumps(rows[-1]), flush=True)
    taught, seconds = bench.teach("pseudo", tuple(map(str, sorted((bench.data / "videos").glob("*.mp4")))))
    head, readings, _ = bench.learned(HeadConfig(), "pseudo")
    last = {"boxes": taught.boxes, "with_pseudo_boxes_of": "videos/*", "seconds": seconds}
    rows.append({**last, **truth.search(head_embedder(bench, readings, head))})
    print(json.dumps(rows[-1]), flush=True)
    return {"points": rows}


def several(run: Callable[[], Any], times: int = 10) -> Callable[[], None]:
    """Run so often in one turn that the last engine's threads, which wait busily for a while, weigh little."""

    def runs() -> None:
        for _ in range(times):
            run()

    return runs


def speed(bench: Bench, rounds: int) -> dict[str, Any]:
    """What the head costs, with a fixed number of people; in ONNX Runtime and OpenVINO. The teacher's crops beside it."""
    bench.teach()
    head, readings, _ = bench.learned(HeadConfig())
    picture = load_image(sorted((bench.sequence / "img1").glob("*.jpg"))[0])
    results: dict[str, Any] = {}
    for engine in ("onnxruntime", "openvino"):
        variants: dict[str, Callable[[], Any]] = {}
        for people in SPEED_PEOPLE:
            detect = {"min_score": 0.0 if people else 1.0, "nms_iou": 1.0, "max_detections": max(people, 1)}
            alone = load_engine(_detector_alone(bench, **detect), engine=engine, device="cpu", min_score=0.0)
            built, _ = merge(
                bench.detector,
                bench.description,
                classes=("person",),
                readings=readings,
                head=head.arrays(),
                detect=DetectConfig(**detect),
            )
            path = bench.out / f"head-{people}.onnx"
            path.write_bytes(built.SerializeToString())
            both = load_engine(path, engine=engine, device="cpu", min_score=0.0)
            crops = TwoStageEngine(alone, load_teacher(bench.data / "teachers" / "osnet_x0_25_msmt17.onnx", device="cpu"))
            fitted = [both.fit(picture)]
            variants[f"detector {people}"] = several(lambda alone=alone, fitted=fitted: alone.detect_fitted(fitted))
            variants[f"head {people}"] = several(lambda both=both, fitted=fitted: both.detect_fitted(fitted))
            if people and engine == "onnxruntime":
                variants[f"crops {people}"] = several(lambda crops=crops: crops(picture))
        times = timing.alternate(variants, rounds, warm_up=3)
        ratios: dict[str, float] = {}
        for people in SPEED_PEOPLE:
            ratios |= times.ratios(f"head_over_detector_{people}", f"head {people}", f"detector {people}")
            if f"crops {people}" in variants:
                ratios |= times.ratios(f"crops_over_head_{people}", f"crops {people}", f"head {people}")
        results[engine] = {"ratios": ratios, "seconds": times.summary()}
        print(json.dumps({engine: ratios}), flush=True)
    return {**results, "load": timing.load()}


def main() -> None:
    bench = Bench(arguments.data_root, arguments.out, arguments.sequence or arguments.data_root / SEQUENCE, arguments.every)
    bench.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "teach": lambda: table(bench),
        "choices": lambda: choices(bench),
        "curve": lambda: curve(bench),
        "speed": lambda: speed(bench, arguments.rounds),
    }
    started = time.perf_counter()
    results = parts[arguments.part]()
    command = shlex.join(
        ["python", "benchmarks/frozen_detector.py", arguments.part, "--data-root", "DATA", "--out", "runs/frozen"]
    )
    results["seconds"] = time.perf_counter() - started
    print(record.save(f"frozen_detector-{arguments.part}", command, results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("teach", "choices", "curve", "speed"))
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sequence", type=Path, default=None, help="a MOTChallenge sequence with ground truth")
    parser.add_argument("--every", type=int, default=5, help="ground-truth boxes of each that many-th frame are searched")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    main()
