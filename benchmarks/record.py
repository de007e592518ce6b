"""Result files of the benchmarks: what was measured, on what, from which commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "tdtrack",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "trackeval",
    "faster-coco-eval",
    "onnxruntime",
    "openvino",
    "nncf",
    "av",
)


def machine() -> str:
    """Name the machine by what matters for speed: cores and processor family."""
    return f"{os.cpu_count()}-core-{platform.machine()}"


def save(suite: str, command: str, results: dict[str, Any]) -> Path:
    """Write one suite's results beside those of other machines.

    Args:
        suite: name of the benchmark.
        command: what anyone runs to get these numbers.
        results: the numbers, JSON-able.

    Returns:
        The file written.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{suite}--{machine()}.json"
    record = {
        "suite": suite,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "machine": {
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "system": platform.system(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "results": results,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def keep(suite: str, command: str, part: str, result: dict[str, Any]) -> Path:
    """Put the results of one part of a suite beside those of the other parts, with the commit it was measured at.

    Args:
        suite: as for ``save``.
        command: as for ``save``.
        part: its name; what the file has under it is replaced.
        result: of this part.

    Returns:
        The file written.
    """
    file = RESULTS / f"{suite}--{machine()}.json"
    earlier = json.loads(file.read_text())["results"] if file.is_file() else {}
    return save(suite, command, dict(sorted({**earlier, part: {**result, "commit": _commit()}}.items())))


def _commit() -> str:
    here = Path(__file__).resolve().parent.parent
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    changed = subprocess.run(["git", "status", "--porcelain", "src"], cwd=here, capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
