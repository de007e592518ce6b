"""Many videos in one process against Ray with several workers: the same bytes, how much faster.

    python benchmarks/speed_ray.py [--workers 2] [--videos 8] [--frames 250]

Takes ten minutes on two idle cores: 2,000 frames, twice, with a network that finds something everywhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # one thread per process on either side: torch's numbers depend on it

import numpy as np
import record
import timing
import torch

from tdtrack.config import ModelConfig
from tdtrack.model import JointModel, save_model

SIZE = 480, 640


def write_videos(folder: Path, count: int, frames: int) -> None:
    """Write H.264 clips of drifting noise, no two alike."""
    import av

    folder.mkdir()
    for number in range(count):
        rng = np.random.default_rng(number)
        picture = np.kron(rng.integers(0, 255, (SIZE[0] // 16, SIZE[1] // 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        with av.open(str(folder / f"v{number}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * index, axis=1), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def write_model(folder: Path) -> Path:
    """Write a laptop's model with random weights that finds something everywhere."""
    torch.manual_seed(0)
    small = {"fpn_width": 96, "subnet_depth": 2, "subnet_width": 96, "embedding_width": 128}
    model = JointModel(ModelConfig(backbone="mobilenetv4_conv_small", embedding_dim=128, class_prior=0.4, **small))
    metadata = {"input_height": 320, "input_width": 576, "appearance": {}}
    save_model(folder / "model.safetensors", model, metadata)
    return folder


def track(videos: Path, model: Path, out: Path, *more: str) -> float:
    """Run the command in a process of its own; returns seconds, start of the processes included."""
    shutil.rmtree(out, ignore_errors=True)
    words = ["track", videos, "--model", model, "--out", out, "--device", "cpu", "--video", "false", *more]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "tdtrack", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tdtrack track failed with status {done.returncode}:\n{done.stderr}")
    seconds = time.perf_counter() - started
    print(f"{out.name}: {seconds:.1f} s", flush=True)
    return seconds


def same(one: Path, two: Path) -> bool:
    """Tell whether two folders hold the same bytes."""
    return {path.name: path.read_bytes() for path in one.iterdir()} == {path.name: path.read_bytes() for path in two.iterdir()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=250)
    arguments = parser.parse_args()
    before = timing.load()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_videos(folder / "in", arguments.videos, arguments.frames)
        model = write_model(folder / "run")
        alone = track(folder / "in", model, folder / "one")
        on_ray = track(folder / "in", model, folder / "ray", "--engine", "ray", "--ray-workers", str(arguments.workers))
        write_videos(folder / "short", 1, 1)
        start = track(folder / "short", model, folder / "start", "--engine", "ray", "--ray-workers", str(arguments.workers))
        results = {
            "load": {"before": before, "after": timing.load()},
            "videos": arguments.videos,
            "frames": arguments.frames,
            "height": SIZE[0],
            "width": SIZE[1],
            "workers": arguments.workers,
            "one_process_seconds": round(alone, 2),
            "ray_seconds": round(on_ray, 2),
            "ray_seconds_for_one_frame": round(start, 2),
            "speed_up": round(alone / on_ray, 2),
            "same_bytes": same(folder / "one", folder / "ray"),
        }
    command = f"python benchmarks/speed_ray.py --workers {arguments.workers} --videos {arguments.videos}"
    path = record.save("speed_ray", f"{command} --frames {arguments.frames}", results)
    print(results, f"written to {path}", sep="\n")


if __name__ == "__main__":
    main()
