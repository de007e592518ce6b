"""Small videos for tests."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np

from tdtrack.types import Image


def moving_squares(count: int, height: int = 96, width: int = 160) -> list[Image]:
    """Return smooth frames, each unlike the others: a colour ramp and a square that walks."""
    rows = np.linspace(40, 200, height)[:, None]
    columns = np.linspace(30, 220, width)[None, :]
    base = np.stack(np.broadcast_arrays(rows, columns, 255 - columns), axis=-1).astype(np.uint8)
    frames = []
    for index in range(count):
        frame = base.copy()
        left = (4 * index) % (width - 24)
        frame[24:72, left : left + 24] = (220, 60, 40)
        frames.append(frame)
    return frames


def write_video(path: Path, frames: list[Image], *, rate: int = 25, group: int = 12, noise: int = 0) -> Path:
    """Write H.264 in the container that the suffix names; an mp4 has its index at the front.

    ``noise`` swells the file, so that a cut through its bytes falls somewhere into the frames.
    """
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "ultrafast", "g": str(group)})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            if noise:
                frame = np.clip(frame + rng.integers(-noise, noise, frame.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, fraction: float) -> Path:
    """Copy the first part of a file's bytes."""
    short = path.with_name(f"cut-{path.name}")
    content = path.read_bytes()
    short.write_bytes(content[: int(len(content) * fraction)])
    return short


def turn(path: Path, degrees_counter_clockwise: int) -> Path:
    """Copy an mp4 with another display matrix, as a phone writes it: 16.16 fixed point in the track header."""
    cosine = {0: 1, 90: 0, 180: -1, 270: 0}[degrees_counter_clockwise]
    sine = {0: 0, 90: 1, 180: 0, 270: -1}[degrees_counter_clockwise]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of flags, times, ids and layer come first
    matrix = (cosine, -sine, 0, sine, cosine, 0, 0, 0, 1)
    values = [value << (30 if place % 3 == 2 else 16) for place, value in enumerate(matrix)]
    content[start : start + 36] = struct.pack(">9i", *values)
    turned = path.with_name(f"turned-{degrees_counter_clockwise}.mp4")
    turned.write_bytes(content)
    return turned
