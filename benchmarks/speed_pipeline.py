"""From a 1080p H.264 file to tracks on disk against the network alone, and memory over a long video.

python benchmarks/speed_pipeline.py --json [--recipe recipes/light-320.yaml] [--engine auto] [--model FILE]

Without ``--recipe`` and ``--model``: ResNet-34 at 608x1088 with random weights, D = 128.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import networks
import numpy as np
import record
import timing
import torch
import yaml
from PIL import Image

from tdtrack.association import Tracker
from tdtrack.config import AssociationConfig, ModelConfig
from tdtrack.model import JointModel
from tdtrack.runtime.camera_motion import CameraMotion
from tdtrack.runtime.engine import load_engine
from tdtrack.runtime.export import build_model
from tdtrack.runtime.pipeline import track_source
from tdtrack.runtime.sources import open_source
from tdtrack.types import Detections

CLIP_FRAMES = 48
PEOPLE = 30


def write_clip(path: Path, frames: int, height: int = 1080, width: int = 1920) -> Path:
    """Write a video whose picture moves: smooth noise that pans, so that decoding costs what it costs in life."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width + 4 * frames, height), Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "g": "12", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            part = np.ascontiguousarray(picture[:, 4 * index : 4 * index + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def repeat_clip(clip: Path, path: Path, times: int) -> Path:
    """Write a clip several times over without encoding it again."""
    with av.open(str(path), "w") as out:
        target = None
        for number in range(times):
            with av.open(str(clip)) as container:
                stream = container.streams.video[0]
                target = target or out.add_stream_from_template(stream)
                length = int(Fraction(stream.frames, 30) / stream.time_base)
                for packet in container.demux(stream):
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + number * length, packet.dts + number * length
                        packet.stream = target
                        out.mux(packet)
    return path


class NoNetwork:
    """Finds a few boxes at once, so that a long video passes quickly."""

    classes, embedding_dim, metadata = ("person",), None, {}

    def __call__(self, frame: np.ndarray) -> Detections:  # noqa: ARG002
        left = np.arange(10) * 150.0
        return Detections(np.stack([left, left * 0 + 100, left + 60, left * 0 + 260], axis=1), np.full(10, 0.9), np.zeros(10))


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def memory(scratch: Path, clip: Path, frames: int) -> dict[str, float]:
    """Track a long video and note the resident memory on the way."""
    long = repeat_clip(clip, scratch / "long.mp4", -(-frames // CLIP_FRAMES))
    marks: dict[str, float] = {}

    def note(frame, found, tracks) -> None:  # noqa: ARG001
        if frame.index in (500, frames // 2, frames - 1):
            marks[str(frame.index + 1)] = resident_megabytes()

    source = open_source(long)
    tracker = Tracker(AssociationConfig(method="motion"), frame_rate=source.frame_rate)
    out = scratch / "long.txt"
    track_source(source, NoNetwork(), tracker, mot_path=out, max_frames=frames, on_frame=note, progress=False)
    return marks


def build(scratch: Path, recipe: str | None) -> Path:
    """Export the network to be measured, with random weights."""
    settings = yaml.safe_load(Path(recipe).read_text()) if recipe else {}
    height, width = settings.get("input_height", networks.HEIGHT), settings.get("input_width", networks.WIDTH)
    torch.manual_seed(0)
    model = JointModel(ModelConfig(**settings.get("model", {})))
    built, _ = build_model(model, height, width, metadata={}, detect=networks.forced(PEOPLE), batch=1)
    path = scratch / "model.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe")
    parser.add_argument("--model", help="an exported file to measure instead")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=12, help="frames per round")
    parser.add_argument("--memory-frames", type=int, default=5000, help="0 leaves memory out")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args()
    before = timing.load()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        clip = write_clip(scratch / "clip.mp4", CLIP_FRAMES)
        engine = load_engine(arguments.model or build(scratch, arguments.recipe), engine=arguments.engine, min_score=0.0)
        first = next(iter(open_source(clip))).image
        fitted = engine.fit(first)
        count = min(arguments.frames, CLIP_FRAMES)
        tracker = Tracker(AssociationConfig(min_score=0.0), frame_rate=30.0)

        def network() -> None:
            for _ in range(count):
                engine.detect_fitted([fitted])

        def whole(camera: CameraMotion | None = None) -> None:
            outputs = {"mot_path": scratch / "a.txt", "jsonl_path": scratch / "a.jsonl"}
            track_source(open_source(clip), engine, tracker, **outputs, max_frames=count, camera=camera, progress=False)

        variants = {"network": network, "whole": whole, "following a pan": lambda: whole(CameraMotion())}
        seconds = timing.alternate(variants, arguments.rounds)
        marks = memory(scratch, clip, arguments.memory_frames) if arguments.memory_frames else None
    results = {
        "engine": engine.label,
        "input": list(fitted.image.shape[:2]),
        **seconds.ratios("end_to_end_over_network", "network", "whole"),  # of frames per second, so of seconds upside down
        **seconds.ratios("following_over_whole", "following a pan", "whole"),
        "fps": {key: count / statistics.median(runs) for key, runs in seconds.wall.items()},
        "fps_fastest": {key: count / min(runs) for key, runs in seconds.wall.items()},
        "seconds": seconds.summary(),
        "resident_megabytes_after_frames": marks,
        "load_before": before,
        "load_after": timing.load(),
    }
    kind = Path(arguments.model or arguments.recipe or "resnet34").stem
    words = [f"--{key.replace('_', '-')} {value}" for key, value in vars(arguments).items() if value and key != "json"]
    path = record.save(f"speed_pipeline-{kind}", f"python benchmarks/speed_pipeline.py {' '.join(words)}", results)
    print(json.dumps(results) if arguments.json else path)


if __name__ == "__main__":
    main()
