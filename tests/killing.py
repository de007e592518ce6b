"""Jobs that are killed at random moments and started again, until they end: the result is that of an undisturbed run.

    python tests/killing.py FOLDER JOB=KILLS... full-JOB=FAULTS...

Everything is imported once; each run is a fork of that process, so a kill costs no imports. Prints what was done as JSON.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # no threads before a fork
sys.path.insert(0, str(Path(__file__).resolve().parent))

PATIENCE = 600.0  # seconds for one run


def prepare(folder: Path) -> None:
    """Make what the jobs work on."""
    from media_files import moving_squares, write_video
    from random_models import save_random_model
    from training_world import write_images, write_store

    write_images(folder / "data", 40)
    write_store(folder / "data")
    write_video(folder / "walk.mp4", moving_squares(40))
    save_random_model(folder / "model", embedding_dim=8)
    from tdtrack.runtime.export import export_model

    export_model(folder / "model", folder / "model.onnx")


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

    request = TrackRequest(str(out), source=str(folder / "walk.mp4"), model=str(folder / "model.onnx"), engine="onnxruntime")
    run_track(replace(request, device="cpu"), {"min_score": 0.3})


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


JOBS: dict[str, tuple[Callable[[Path, Path], None], tuple[str, ...]]] = {
    "annotate": (run_annotate, ("*.parquet",)),
    "train": (run_train, ("model.safetensors", "metrics.csv")),
    "track": (run_track, ("*.txt", "*.jsonl", "*.mp4")),
    "demo": (run_demo, ("**/*.safetensors", "**/*.parquet", "**/*.txt", "**/*.jsonl", "**/*.mp4", "**/*.jpg", "**/*.png")),
}
"""What runs, and the files that are its result."""

GROWING = {"metrics.csv"}
"""There before the end."""
CALIBRATED = "run/model.safetensors"
"""Of the demo: written by training, and once more by calibration."""


def results(name: str, out: Path) -> dict[str, bytes]:
    """Return the content of the result files."""
    found = sorted({path for pattern in JOBS[name][1] for path in out.glob(pattern) if path.is_file()})
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found if not path.name.startswith(".")}


def listing(out: Path) -> list[str]:
    """Return all that lies in a result folder; TensorBoard writes a file a start."""
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if "events.out" not in path.name)


def start(name: str, folder: Path, out: Path, prepared: Callable[[], None] = lambda: None, report: Path | None = None) -> int:
    """Run a job in a fork, which first prepares itself and may write how it ended; returns its process id."""
    pid = os.fork()
    if pid == 0:
        status, words = 1, "done"
        said = report.open("w") if report is not None else None
        try:
            prepared()
            JOBS[name][0](folder, out)
            status = 0
        except BaseException as error:
            words = f"{type(error).__name__}: {error}"
            if said is None:
                traceback.print_exc()
        finally:
            if said is not None:
                os.write(said.fileno(), words[:500].encode())
            sys.stderr.flush()
            os._exit(status)
    return pid


def finish(pid: int, seconds: float) -> int | None:
    """Wait so long; returns the status, or ``None`` where it is still running."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def kill_anywhere(name: str, folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill a job until it was killed so often, each time at a random moment of what is left, and compare what comes out.

    Returns:
        Kills, finished runs, the moments of the kills as shares of an undisturbed run's time, and whether all results were
        those of the undisturbed run.
    """
    rng = random.Random(f"{name}-{seed}")
    straight = folder / f"{name}-straight"
    place = folder / f"{name}-out"  # the same for all, for some results say where they lie
    began = time.monotonic()
    status = finish(start(name, folder, place), PATIENCE)
    whole = time.monotonic() - began
    place.rename(straight)
    assert status == 0, f"the undisturbed {name} ended with {status}"
    wanted, files = results(name, straight), listing(straight)
    assert len(wanted) >= len(JOBS[name][1]) - 1, wanted.keys()
    moments: list[float] = []
    differences: list[str] = []
    rounds = 0
    while len(moments) < kills or rounds == 0:
        out = place
        while True:
            # Mostly early, or a round would end before it was killed often; the last run of all is left alone.
            moment = rng.uniform(0, 1) ** 2 * whole if len(moments) < kills else PATIENCE
            pid = start(name, folder, out)
            status = finish(pid, moment)
            if status is not None:
                assert status == 0, f"{name} ended with {status} after {len(moments)} kills"
                break
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            moments.append(round(moment / whole, 3))
            for file, content in results(name, out).items():
                if Path(file).name not in GROWING and file != CALIBRATED and wanted.get(file) != content:
                    differences.append(f"{name} after kill {len(moments)}: {file} is there and not what it should be")
        rounds += 1
        found = results(name, out)
        changed = [file for file in wanted.keys() | found.keys() if wanted.get(file) != found.get(file)]
        differences += [f"{name} round {rounds}: {file}" for file in changed]
        differences += [f"{name} round {rounds}: {file} lies there" for file in set(listing(out)) ^ set(files)]
        out.rename(folder / f"{name}-killed-{rounds}")
    return {
        "kills": len(moments),
        "finished": rounds,
        "files": len(wanted),
        "seconds": round(whole, 2),
        "moments": moments,
        "differences": differences,
    }


def fail_anywhere(name: str, folder: Path, faults: int, seed: int = 0) -> dict[str, Any]:
    """Let a job meet a full disk, a disk that fails and a bound on file sizes, then run it again undisturbed.

    Returns:
        Runs that failed, those that never met their fault, the exceptions that ended them, and what was not as it should be.
    """
    rng = random.Random(f"{name}-{seed}")
    straight = folder / f"{name}-straight"
    if not straight.exists():
        assert finish(start(name, folder, straight), PATIENCE) == 0
    wanted = results(name, straight)
    sizes = [len(content) for content in wanted.values()]
    ended: dict[str, int] = {}
    differences: list[str] = []
    for number in range(faults):
        out = folder / f"{name}-failed-{number}"
        call = ("fsync", "replace", "size")[number % 3]
        code = rng.choice((errno.ENOSPC, errno.EIO))
        after = rng.randrange(1, 2 * max(sizes)) if call == "size" else rng.randrange(1, 9)
        report = folder / "report.txt"
        pid = start(name, folder, out, partial(inject, call, code, after), report)
        if finish(pid, PATIENCE) is None:
            raise AssertionError(f"{name} hangs after {call} failed")
        words = report.read_text()
        ended[words.partition(":")[0]] = ended.get(words.partition(":")[0], 0) + 1
        if not words.startswith(("done", "OutputError: cannot")):
            differences.append(f"{name}, {call} fails at {after}: {words}")
        for file, content in results(name, out).items():
            if Path(file).name not in GROWING and wanted.get(file) != content:
                differences.append(f"{name} after {call} failed: {file} is there and not what it should be")
        assert finish(start(name, folder, out), PATIENCE) == 0
        if results(name, out) != wanted:
            differences.append(f"{name} after {call} failed at {after}: other results")
    return {"faults": faults, "ended": ended, "differences": differences}


def inject(call: str, code: int, after: int) -> None:
    """From the given call on, or for files beyond that size, every write fails."""
    if call == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (after, after))
        return
    real, count = getattr(os, call), itertools.count(1)

    def fail(*arguments: Any) -> Any:
        if next(count) >= after:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    setattr(os, call, fail)


def main() -> None:
    folder = Path(sys.argv[1])
    jobs = [word.split("=") for word in sys.argv[2:]]
    pid = os.fork()
    if pid == 0:  # what it starts, for instance threads, stays out of the process that forks
        prepare(folder)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the material could not be made"
    for module in ("tdtrack.training", "tdtrack.teacher.annotate", "tdtrack.track", "tdtrack.runtime.pipeline"):
        __import__(module)
    for module in ("tdtrack.output.video", "tdtrack.runtime.onnxruntime_session", "torch.utils.tensorboard", "pyarrow.parquet"):
        __import__(module)
    report = {}
    for name, count in jobs:
        work = fail_anywhere if name.startswith("full-") else kill_anywhere
        report[name] = work(name.removeprefix("full-"), folder, int(count))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
