"""Measures rows in several processes at a time: a small model leaves most of a GPU, or of many cores, idle."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from rich.console import Console

from tdtrack.errors import TdtrackError
from tdtrack.processes import end_with_parent
from tdtrack.reproduce.tables import Row
from tdtrack.reproduce.workshop import Workshop

__all__ = ["measure_side_by_side"]


@dataclass
class _Job:
    """One training and all that is measured of it.

    Attributes:
        seed: of the training.
        log: where its process writes what it has to say.
        rows: that share the training.
    """

    seed: int
    log: Path
    rows: list[Row] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{' and '.join(row.label for row in self.rows)}, seed {self.seed}"


def measure_side_by_side(workshop: Workshop, rows: Sequence[Row], seeds: int, processes: int, console: Console) -> None:
    """Measure every row and seed that has not been measured; ``workshop.measure`` then finds all of them.

    World, teachers and embeddings are made first, here. Then each training has a process of its own; the threads that torch
    would take are divided between as many as run at a time.

    Args:
        workshop: what measures.
        rows: of a table.
        seeds: trainings per row.
        processes: at a time.
        console: says what starts and what is done.

    Raises:
        TdtrackError: what stopped a stage, or that a process died; the others are stopped. A second call goes on from there.
        KeyboardInterrupt: the user stopped it; a second call goes on from there.
    """
    jobs: dict[str, _Job] = {}
    for row in rows:
        for seed in range(seeds):
            if not workshop.measured(row, seed):
                plan = workshop.plan(row, seed)
                jobs.setdefault(plan.out, _Job(seed, Path(f"{plan.out}.log"))).rows.append(row)
    for row in rows:
        if any(row in job.rows for job in jobs.values()):
            workshop.prepare(row)

    def say(text: str) -> None:
        console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)

    threads = max(1, torch.get_num_threads() // processes)
    waiting = deque(jobs.values())
    running: dict[Connection, tuple[_Job, SpawnProcess, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.popleft()
                answer, process = _start(workshop, job, threads)
                running[answer] = job, process, time.monotonic()
                say(f"{job.name}: started, {job.log} shows how it goes")
            ready = wait(list(running))
            for answer in [one for one in running if one in ready]:
                job, process, started = running.pop(answer)
                _finish(job, process, answer)
                say(f"{job.name}: done in {(time.monotonic() - started) / 60:.1f} minutes")
    finally:
        for _, process, _ in running.values():
            process.terminate()  # a training keeps what it has
        for _, process, _ in running.values():
            process.join()


def _start(workshop: Workshop, job: _Job, threads: int) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU, and can hang
    answer, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(workshop, job, threads, theirs), name=job.name)
    process.start()
    theirs.close()  # so that the answer ends when the process does
    return answer, process


def _finish(job: _Job, process: SpawnProcess, answer: Connection) -> None:
    try:
        error: TdtrackError | None = answer.recv()
    except EOFError:
        process.join()
        error = TdtrackError(f"{job.name}: its process ended with exit code {process.exitcode}; {job.log} says more")
    process.join()
    if error is not None:
        raise error


def _measure(workshop: Workshop, job: _Job, threads: int, answer: Connection) -> None:
    """What a process does; it answers with ``None``, or with the error that stopped it."""
    end_with_parent()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    torch.set_num_threads(threads)
    try:
        for row in job.rows:
            workshop.measure(row, job.seed)
        answer.send(None)
    except TdtrackError as error:
        answer.send(error)
