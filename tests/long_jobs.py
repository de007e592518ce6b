"""The jobs that are killed and robbed of their disks (``killing.py``), small enough to meet many moments, and their results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage


def prepare(folder: Path) -> None:
    """Make what the jobs work on."""
    from media_files import moving_squares, write_video
    from random_models import save_random_model
    from training_world import write_images, write_store

    write_images(folder / "data", 40)
    write_store(folder / "data")
    write_video(folder / "data" / "walk.mp4", moving_squares(40))
    (folder / "data" / "many").mkdir()
    for video in range(2):
        write_video(folder / "data" / "many" / f"{video}.mp4", moving_squares(12 + video))
    write_frames(folder / "data" / "many" / "sequence", moving_squares(30))
    save_random_model(folder / "model", embedding_dim=8)
    from tdtrack.runtime.export import export_model

    export_model(folder / "model", folder / "model.onnx")


def write_frames(folder: Path, frames: Sequence[np.ndarray]) -> None:
    """Write a MOTChallenge sequence without boxes."""
    (folder / "img1").mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        PillowImage.fromarray(frame).save(folder / "img1" / f"{number:06d}.png")
    size = f"imWidth={frames[0].shape[1]}\nimHeight={frames[0].shape[0]}"
    text = f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=25\nseqLength={len(frames)}\n{size}\nimExt=.png\n"
    (folder / "seqinfo.ini").write_text(text)


def run_annotate(folder: Path, out: Path) -> None:
    """Embed about 80 boxes in parts of 8."""
    from tdtrack.data import load_dataset
    from tdtrack.teacher import annotate as module
    from tdtrack.teacher import load_teacher
    from training_world import COLOUR_TEACHERS

    module._ROWS_PER_PART = 8
    dataset = load_dataset(folder / "data" / "annotations.json", folder / "data" / "images")
    module.annotate(dataset, load_teacher(COLOUR_TEACHERS["colour"]), out / "store.parquet", batch_size=4, progress=False)


def run_train(folder: Path, out: Path) -> None:
    """Train six iterations with a checkpoint every second one."""
    from tdtrack.config import DataSource
    from tdtrack.training import train
    from training_world import tiny_config

    data = folder / "data"
    source = DataSource(str(data / "annotations.json"), str(data / "images"), str(data / "colour.parquet"))
    train(tiny_config(out, source, steps=6, checkpoint_every=2), progress=False)


def run_track(folder: Path, out: Path) -> None:
    """Track 40 frames into text, lines and video."""
    from tdtrack.track import TrackRequest, run_track

    source, model = str(folder / "data" / "walk.mp4"), str(folder / "model.onnx")
    run_track(TrackRequest(str(out), source=source, model=model, engine="onnxruntime", device="cpu"), {"min_score": 0.3})


def run_track_many(folder: Path, out: Path) -> None:
    """Track two videos and a sequence, with a manifest."""
    from tdtrack.batch import find_videos, track_many
    from tdtrack.errors import MediaError
    from tdtrack.track import TrackRequest

    request = TrackRequest(str(out), model=str(folder / "model.onnx"), engine="onnxruntime", device="cpu", video=False)
    videos = find_videos([str(folder / "data" / "many")], str(out))
    if len(videos) != 3:
        raise MediaError(f"{len(videos)} videos are there")  # as the command says of a folder that has gone
    failed = [entry["error"] for entry in track_many(request, videos, {"min_score": 0.3}) if entry["status"] == "failed"]
    if failed:
        raise MediaError(failed[0])  # as the command ends with status 1


def run_demo(folder: Path, out: Path) -> None:
    """Run the demo on a world of a few frames."""
    from rich.console import Console

    from tdtrack import demo
    from tdtrack.data.walkers import WalkersConfig
    from tdtrack.demo import run as stages

    world: dict[str, Any] = {"reid_identities": 16, "reid_test_identities": 6, "crops_per_identity": 6}
    world |= {"detection_videos": 2, "detection_frames": 4, "validation_videos": 1, "validation_frames": 3}
    world |= {"sequences": 1, "sequence_frames": 12}
    teacher_settings, model_settings = stages.teacher_settings, stages.model_settings

    def few_steps(*arguments: Any) -> Any:
        config = model_settings(*arguments)
        return replace(config, precision="32-true", optimizer=replace(config.optimizer, steps=4, warmup_steps=1))

    stages.WalkersConfig = lambda seed: WalkersConfig(seed=seed, **world)  # type: ignore[assignment, misc]
    stages.teacher_settings = lambda *arguments: replace(teacher_settings(*arguments), steps=3)  # type: ignore[assignment]
    stages.model_settings = few_steps
    demo.run_demo(out, seed=3, console=Console(quiet=True))


def run_reproduce(folder: Path, out: Path) -> None:
    """Run Fig. 5 on a world of a few frames: three models of one teacher, each tracked and measured."""
    from rich.console import Console

    from tdtrack.reproduce.run import Request, reproduce
    from tdtrack.reproduce.scale import Scale, apply_settings, walkers_scale

    usual = walkers_scale()
    world = {"width": 192, "height": 128, "min_people": 5, "max_people": 7, "reid_identities": 12, "reid_test_identities": 6}
    world |= {"crops_per_identity": 4, "reid_cameras": 3, "cameras_per_identity": 2}
    world |= {"detection_videos": 3, "detection_frames": 3, "validation_videos": 1, "validation_frames": 2}
    small = {f"model.{name}_width": 16 for name in ("fpn", "subnet", "embedding")} | {"model.subnet_depth": 1}
    small |= {"input_height": 128, "input_width": 192, "precision": "32-true", "checkpoint_every": 1}
    small |= {"optimizer.steps": 3, "optimizer.warmup_steps": 1, "optimizer.batch_size": 2}
    scale = Scale(
        apply_settings(usual.walkers, {**world, "sequences": 2, "sequence_frames": 4}),
        {"crop_height": 32, "crop_width": 16, "steps": 2, "identities_per_batch": 4},
        {**usual.train, **small},
        {**usual.tracker, "min_score": 0.0},
    )
    reproduce(Request("fig5", str(out)), scale, Console(quiet=True))


WHOLE_PATH = ("**/*.safetensors", "**/*.parquet", "**/*.txt", "**/*.jpg", "**/*.png", "**/*.json")
JOBS: dict[str, tuple[Callable[[Path, Path], None], tuple[str, ...]]] = {
    "annotate": (run_annotate, ("*.parquet",)),
    "train": (run_train, ("model.safetensors", "metrics.csv")),
    "track": (run_track, ("*.txt", "*.jsonl", "*.mp4")),
    "track-many": (run_track_many, ("*.txt", "*.jsonl")),
    "demo": (run_demo, (*WHOLE_PATH, "**/*.jsonl", "**/*.mp4")),
    "reproduce": (run_reproduce, (*WHOLE_PATH, "*.md")),
}
"""What runs, and the files that are its result."""

GROWING = {"metrics.csv", "seconds.json", "manifest.jsonl"}
"""There before the end."""
CALIBRATED = {("demo", "model.safetensors"), ("reproduce", "model.safetensors")}
"""Written by training, and once more by calibration."""
CLOCKS = {"fps", "seconds", "motion-only", "two-stage", "one-stage"}
"""Names under which JSON files hold times, the last three as numbers; no two runs take the same."""


def results(name: str, out: Path) -> dict[str, bytes]:
    """Return the content of the result files, of JSON files without times."""
    found = sorted({path for pattern in JOBS[name][1] for path in out.glob(pattern) if path.is_file()})
    visible = {path.relative_to(out).as_posix(): path for path in found if not path.name.startswith(".")}
    return {name: without_times(path) if path.suffix == ".json" else path.read_bytes() for name, path in visible.items()}


def without_times(path: Path) -> bytes:
    """Return a JSON file with every time in it set to 0."""
    if path.name == "seconds.json":
        return b""

    def strip(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return 0 if name == "seconds" else {key: strip(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [strip(inner) for inner in value]
        return 0 if name in CLOCKS else value

    return json.dumps(strip(json.loads(path.read_bytes()))).encode()
