"""Every reader against spoiled files: it reads, or refuses in tdtrack's own words, in bounded time and memory.

    python benchmarks/fuzz_readers.py [--inputs 10000] [--only coco,npz-detections] [--workers 2]

Input number n of a reader is the same on every machine. Readers run in a process of their own, so that one that dies or hangs
is seen, counted and gone past.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzzing import TARGETS, Target, attempt

MEMORY = Path("/dev/shm")
SECONDS = 30.0  # for one input
BYTES = 2 << 30  # beyond what the process has when it starts; a 6-frame video or 5-row store needs a thousandth
OUTCOMES = ("read", "refused", "crash", "hang", "died")


def child(name: str, target: Target, first: int, last: int, out: int) -> None:
    """Try inputs ``first`` to ``last`` and say of each what came of it; never returns."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        path = target.write(folder)
        files = target.files(folder)
        target.read(path)  # the good file reads, and everything is imported
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        for index in range(first, last):
            words = ""
            try:
                outcome = attempt(target, path, files, random.Random(f"{name}-{index}"))
            except BaseException as error:
                outcome = "crash"
                where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
                words = f"{type(error).__name__}: {str(error)[:150]} at {' '.join(where[-3:])}"
            os.write(out, (json.dumps([index, outcome, words]) + "\n").encode())
    except BaseException:
        traceback.print_exc()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def fuzz(name: str, inputs: int) -> tuple[str, dict[str, Any]]:
    """Return the reader, how often each outcome came, and the finds."""
    counts = dict.fromkeys(OUTCOMES, 0)
    finds: list[list[Any]] = []
    done, started = 0, time.perf_counter()
    while done < inputs:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            child(name, TARGETS[name], done, inputs, writing)
        os.close(writing)
        rest, outcome, before = b"", "died", done
        while True:
            if not select.select([reading], [], [], SECONDS if done > before else 10 * SECONDS)[0]:
                outcome = "hang"
                os.kill(pid, 9)
                break
            said = os.read(reading, 1 << 16)
            if not said:
                break
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                index, result, words = json.loads(line)
                counts[result] += 1
                done = index + 1
                if result == "crash":
                    finds.append([index, words])
        os.close(reading)
        status = os.waitpid(pid, 0)[1]
        if done < inputs:
            if done == before and outcome == "died":
                raise SystemExit(f"{name}: the process ended before its first input, status {status}")
            counts[outcome] += 1
            finds.append([done, f"{outcome}, status {status}"])
            done += 1
    kinds = sorted({words for _, words in finds})
    print(f"{name:18} {counts} {time.perf_counter() - started:.0f} s", *kinds[:20], sep="\n   ", flush=True)
    return name, {"inputs": inputs, **counts, "finds": finds[:50]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--only", default="", help="readers, with commas between")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-record", action="store_true")
    arguments = parser.parse_args()
    os.environ["MALLOC_ARENA_MAX"] = "2"  # else every thread reserves 64 MB of addresses
    names = [name for name in arguments.only.split(",") if name] or list(TARGETS)
    with ProcessPoolExecutor(arguments.workers) as pool:
        for future in as_completed([pool.submit(fuzz, name, arguments.inputs) for name in names]):
            name, result = future.result()
            if not arguments.no_record:
                record.keep("fuzz_readers", f"python benchmarks/fuzz_readers.py --inputs {arguments.inputs}", name, result)


if __name__ == "__main__":
    main()
