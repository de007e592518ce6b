"""Reading data sets: boxes a second and memory, layout by layout.

    python benchmarks/import_speed.py --out runs/import-speed

Writes each layout with 5,000 images of 20 boxes (and with a quarter of it, to tell what an image costs), then reads it in a
process of its own. Images are as small as can be: only their headers are read, whatever their size.
The seconds of the clock depend on what else the machine does, those of the processor hardly.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import record

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from layouts import LAYOUTS, Box

IMAGES, BOXES = 5000, 20


def write(name: str, folder: Path, images: int) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    people = [
        [Box(index * 3 + image % 5, index + image % 7, 10 + index, 20 + index) for index in range(BOXES)]
        for image in range(images)
    ]
    return LAYOUTS[name].write(folder, people, 1)


def peak_kilobytes() -> int:
    """Most memory this process has held, by Linux's own account (getrusage would count the parent's)."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])


def read(path: Path) -> dict[str, Any]:
    """What the child process does: read once, and say what it took."""
    from tdtrack.data import load_dataset

    before = peak_kilobytes()
    started, worked = time.perf_counter(), time.process_time()
    dataset = load_dataset(path)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    megabytes = (peak_kilobytes() - before) / 1024
    return {
        "boxes": dataset.num_boxes,
        "images": len(dataset),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "megabytes": megabytes,
    }


def measure(name: str, folder: Path, images: int) -> dict[str, Any]:
    path = write(name, folder, images)
    done = subprocess.run([sys.executable, __file__, "--read", str(path)], capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/import-speed"))
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read)))
        return
    rows = {}
    for name in LAYOUTS:
        few, many = (measure(name, arguments.out / name, images) for images in (IMAGES // 4, IMAGES))
        rows[name] = {
            "boxes": many["boxes"],
            "seconds": many["seconds"],
            "cpu_seconds": many["cpu_seconds"],
            "boxes_per_cpu_second": many["boxes"] / many["cpu_seconds"],
            "peak_megabytes": many["megabytes"],
            "kilobytes_per_image": 1024 * (many["megabytes"] - few["megabytes"]) / (many["images"] - few["images"]),
        }
        print(f"{name:15} " + "  ".join(f"{key} {value:.4g}" for key, value in rows[name].items()), flush=True)
    print(record.save("import_speed", "python benchmarks/import_speed.py --out runs/import-speed", rows))


if __name__ == "__main__":
    main()
