"""Jobs that are killed at random moments and started again, until they end: the result is that of an undisturbed run.

    python tests/killing.py FOLDER JOB=KILLS... full-JOB=FAULTS... lost-JOB=LOSSES...

Everything is imported once; each run is a fork of that process, so a kill costs no imports. Prints what was done as JSON.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # no threads before a fork
sys.path.insert(0, str(Path(__file__).resolve().parent))

from long_jobs import CALIBRATED, GROWING, JOBS, prepare, results

PATIENCE = 600.0  # seconds for one run
IMPORTED = (
    *("tdtrack.training", "tdtrack.teacher.annotate", "tdtrack.track", "tdtrack.batch", "tdtrack.runtime.pipeline"),
    *("tdtrack.output.video", "tdtrack.runtime.onnxruntime_session", "torch.utils.tensorboard", "pyarrow.parquet"),
)


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
                growing = Path(file).name in GROWING or (name, Path(file).name) in CALIBRATED
                if not growing and wanted.get(file) != content:
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


FAULTS = ("fsync", "replace", "size", "write", "read")
REFUSALS = ("OutputError: cannot", "DataError: ", "MediaError: ", "StoreError: ", "WeightsError: ")


def fail_anywhere(name: str, folder: Path, faults: int, seed: int = 0) -> dict[str, Any]:
    """Let a job meet a full disk, a disk that fails in writing or reading, one that takes no more files, and a bound on file
    sizes, then run it again undisturbed.

    Returns:
        Runs that failed, the exceptions that ended them, "done" where they never met their fault, and what was not as it
        should be.
    """
    rng = random.Random(f"{name}-{seed}")
    wanted = straight_results(name, folder)
    sizes = [len(content) for content in wanted.values()]
    ended: Counter[str] = Counter()
    differences: list[str] = []
    for number in range(faults):
        out = folder / f"{name}-failed-{number}"
        call = FAULTS[number % len(FAULTS)]
        code = errno.EROFS if call == "write" else errno.EIO if call == "read" else rng.choice((errno.ENOSPC, errno.EIO))
        after = rng.randrange(1, 2 * max(sizes)) if call == "size" else rng.randrange(1, 9)
        words = run_to_the_end(name, folder, out, partial(inject, call, code, after, folder / "data"))
        ended[words.partition(":")[0]] += 1
        if not words.startswith(("done", *(REFUSALS if call == "read" else REFUSALS[:1]))) or "\n" in words:
            differences.append(f"{name}, {call} fails at {after}: {words}")
        for file, content in results(name, out).items():
            if Path(file).name not in GROWING and wanted.get(file) != content:
                differences.append(f"{name} after {call} failed: {file} is there and not what it should be")
        assert finish(start(name, folder, out), PATIENCE) == 0
        if results(name, out) != wanted:
            differences.append(f"{name} after {call} failed at {after}: other results")
    return {"faults": faults, "ended": dict(ended), "differences": differences}


def lose_anywhere(name: str, folder: Path, losses: int, seed: int = 0) -> dict[str, Any]:
    """Take the result folder or the data away in mid-run, as when a disk is unplugged or a mount is lost, and bring them back.

    What the job leaves in the place meanwhile is gone when the disk is back, for a mount hides what is below. Every third time
    the result folder does not come back.

    Returns:
        As ``fail_anywhere``.
    """
    rng = random.Random(f"{name}-{seed}")
    straight_results(name, folder)
    place, away = folder / f"{name}-out", folder / "away"
    place.mkdir(exist_ok=True)
    ended: Counter[str] = Counter()
    differences: list[str] = []
    began = time.monotonic()
    assert finish(start(name, folder, place), PATIENCE) == 0
    whole, wanted, files = time.monotonic() - began, results(name, place), listing(place)
    shutil.rmtree(place)
    for number in range(losses):
        lost = ("results", "data", "results for good")[number % 3]
        target = folder / "data" if lost == "data" else place
        report = folder / "report.txt"
        pid = start(name, folder, place, report=report)
        if finish(pid, rng.uniform(0.02, 1) * whole) is not None:
            report.write_text("done before")
        elif not target.exists():  # it has not begun to write
            finish(pid, PATIENCE)
        else:
            target.rename(away)
            if finish(pid, PATIENCE) is None:
                raise AssertionError(f"{name} hangs after it lost {lost}")
        words = report.read_text()
        ended[words.partition(":")[0]] += 1
        if not words.startswith(("done", "OutputError: ", *REFUSALS)) or "\n" in words:
            differences.append(f"{name} lost {lost}: {words}")
        if words == "done" and wanted not in (results(name, place), results(name, away)):  # lost in its last moment
            differences.append(f"{name} lost {lost}: said nothing, other results")
        if away.exists():
            shutil.rmtree(target, ignore_errors=True)
            shutil.rmtree(away) if lost == "results for good" else away.rename(target)
        assert finish(start(name, folder, place), PATIENCE) == 0, f"{name} does not go on after it lost {lost}"
        if results(name, place) != wanted:
            differences.append(f"{name} lost {lost}: other results in the end")
        differences += [f"{name} lost {lost}: {file} lies there" for file in set(listing(place)) ^ set(files)]
        shutil.rmtree(place)
    return {"losses": losses, "ended": dict(ended), "differences": differences}


def straight_results(name: str, folder: Path) -> dict[str, bytes]:
    """Return the results of an undisturbed run, made at the first request."""
    straight = folder / f"{name}-straight"
    if not straight.exists():
        assert finish(start(name, folder, straight), PATIENCE) == 0
    return results(name, straight)


def run_to_the_end(name: str, folder: Path, out: Path, prepared: Callable[[], None]) -> str:
    """Run a job in a fork; returns "done" or its exception in words."""
    report = folder / "report.txt"
    if finish(start(name, folder, out, prepared, report), PATIENCE) is None:
        raise AssertionError(f"{name} hangs")
    return report.read_text()


def inject(call: str, code: int, after: int, data: Path) -> None:
    """From the given call on, or for files beyond that size, every write fails; or every file of the data cannot be read."""
    if call == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (after, after))
        return
    count = itertools.count(1)

    def failing(real: Callable[..., Any], concerns: Callable[..., bool] = lambda *_, **__: True) -> Callable[..., Any]:
        def fail(*arguments: Any, **more: Any) -> Any:
            if concerns(*arguments, **more) and next(count) >= after:
                raise OSError(code, os.strerror(code), *([] if call in ("fsync", "replace") else [str(arguments[0])]))
            return real(*arguments, **more)

        return fail

    def writes(file: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
        return any(letter in mode for letter in "wax+") and str(file) != os.devnull

    def reads(file: Any, *_: Any, **__: Any) -> bool:
        return isinstance(file, str | Path) and Path(file).is_relative_to(data)

    if call in ("write", "read"):
        io.open = builtins.open = failing(builtins.open, writes if call == "write" else reads)  # type: ignore[assignment]
    else:
        setattr(os, call, failing(getattr(os, call)))


def main() -> None:
    folder = Path(sys.argv[1])
    jobs = [word.split("=") for word in sys.argv[2:]]
    pid = os.fork()
    if pid == 0:  # what it starts, for instance threads, stays out of the process that forks
        prepare(folder)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the material could not be made"
    for module in IMPORTED:
        __import__(module)
    disturb = {"full": fail_anywhere, "lost": lose_anywhere}
    report = {}
    for name, count in jobs:
        how, _, job = name.partition("-")
        report[name] = disturb[how](job, folder, int(count)) if how in disturb else kill_anywhere(name, folder, int(count))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
