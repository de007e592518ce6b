"""Running the items of a job: one after the other in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tdtrack.errors import (
    BusyError,
    ConfigError,
    DataError,
    MediaError,
    MissingExtraError,
    ShapeError,
    StoreError,
    TdtrackError,
)

__all__ = ["ATTEMPTS", "Failure", "RayCluster", "run_here", "run_on_ray"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Result]

ATTEMPTS = 3
"""How often Ray tries an item, the first time included: a worker, its machine or its mount may be what fails."""

_ITEM_ERRORS = (BusyError, DataError, MediaError, ShapeError, StoreError)  # any other on purpose would hit the next item too
_THREADS = "OMP_NUM_THREADS"
_LOCAL_STORE_BYTES = 128 * 2**20  # results are small; Ray's own choice is a third of the memory


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item was given up."""

    reason: str


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where the workers are.

    Attributes:
        address: of a running cluster, for instance ``auto`` or ``ray://host:10001``; ``None`` starts one on this machine and
            ends it with the job.
        workers: processes; ``None`` is one per CPU, or one per GPU where ``gpu`` is set and the cluster has some.
        gpu: a worker may take a GPU.
    """

    address: str | None = None
    workers: int | None = None
    gpu: bool = False


Outcomes = Generator[tuple[Item, Result | Failure], None, None]
"""Items with their results, or with why they failed."""


def run_here(items: Sequence[Item], prepare: Callable[[], Work[Item, Result]]) -> Outcomes[Item, Result]:
    """Run items one after the other.

    Args:
        items: what to do.
        prepare: makes what does an item, for instance loads a model; called once.

    Yields:
        Each item with its result, or with why it failed; a failure costs its item only.

    Raises:
        TdtrackError: of ``prepare``, and errors that are not about one item's data.
    """
    if not items:
        return
    work = prepare()
    for item in items:
        yield item, _attempt(work, item)


def _attempt(work: Work[Item, Result], item: Item) -> Result | Failure:
    try:
        return work(item)
    except _ITEM_ERRORS as error:
        return Failure(str(error))
    except TdtrackError:
        raise
    except Exception as error:  # a decoder's surprise in one of a thousand videos must not cost the others
        return Failure(f"unexpected {type(error).__name__}: {error}")


def run_on_ray(items: Sequence[Item], prepare: Callable[[], Work[Item, Result]], cluster: RayCluster) -> Outcomes[Item, Result]:
    """Run items on Ray, each as often as ``ATTEMPTS`` says before it is given up.

    A worker that dies is replaced, and its item goes to the end of the queue. So an item may run twice, also at the same time
    as what is left of its first try: work has to write its results whole or not at all, the same every time.

    Args:
        items: what to do; sent to the workers.
        prepare: as in ``run_here``, called once in every worker; what it needs is sent there, where tdtrack has to be
            installed and paths, also relative ones, have to lead to the same files.
        cluster: where the workers are.

    Yields:
        As ``run_here``, in the order in which items finish.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no such cluster, or workers die before they begin.
        TdtrackError: as ``run_here``.
    """
    if not items:
        return
    with _connected(cluster) as ray:
        yield from _Pool(ray, list(items), prepare, cluster).run()


class _Worker:
    """What runs in a worker process. Errors come back as values: raised, they would arrive wrapped in Ray's."""

    def __init__(self, folder: str, threads: str | None) -> None:
        with suppress(OSError):  # relative paths lead where they do for the user, if this machine has the folder
            os.chdir(folder)
        if threads is not None:  # else Ray's choice, one per CPU that the worker takes
            os.environ[_THREADS] = threads

    def prepare(self, prepare: Callable[[], Work[Any, Any]]) -> TdtrackError | None:
        try:
            self._work = prepare()
        except TdtrackError as error:
            return error
        return None

    def run(self, item: Any) -> Any:
        try:
            return _attempt(self._work, item)
        except TdtrackError as error:
            return error


@dataclass(slots=True)
class _Try(Generic[Item]):
    """An item and how often it was given to a worker."""

    item: Item
    attempts: int = 0


class _Pool(Generic[Item, Result]):
    """Workers, and what each is busy with: a try, or ``None`` while it prepares."""

    def __init__(self, ray: Any, items: Sequence[Item], prepare: Callable[[], Work[Item, Result]], cluster: RayCluster) -> None:
        self._ray = ray
        self._queue = deque(_Try(item) for item in items)
        self._left = len(items)
        self._prepare = ray.put(prepare)
        self._busy: dict[Any, tuple[Any, _Try[Item] | None]] = {}
        self._idle: list[Any] = []
        self._false_starts = 0
        gpus = int(ray.cluster_resources().get("GPU", 0)) if cluster.gpu else 0
        self._remote = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0)(_Worker)
        available = gpus or int(ray.cluster_resources().get("CPU", 1))
        for _ in range(min(cluster.workers or max(1, available), len(items))):
            self._start()

    def run(self) -> Iterator[tuple[Item, Result | Failure]]:
        """Yield items as they finish."""
        while self._left:
            self._hand_out()
            done, _ = self._ray.wait(list(self._busy), num_returns=1)
            worker, current = self._busy.pop(done[0])
            try:
                outcome = self._ray.get(done[0])
            except self._ray.exceptions.RayTaskError:
                raise  # a mistake of ours, not a worker that died
            except self._ray.exceptions.RayError:
                outcome = self._replace(current)
            else:
                self._idle.append(worker)
            if isinstance(outcome, TdtrackError):
                raise outcome
            if current is None:
                continue
            if isinstance(outcome, Failure) and current.attempts < ATTEMPTS:
                self._queue.append(current)
                continue
            self._left -= 1
            yield current.item, outcome

    def _start(self) -> None:
        worker = self._remote.remote(str(Path.cwd()), os.environ.get(_THREADS))
        self._busy[worker.prepare.remote(self._prepare)] = worker, None

    def _hand_out(self) -> None:
        while self._idle and self._queue:
            worker, current = self._idle.pop(), self._queue.popleft()
            current.attempts += 1
            self._busy[worker.run.remote(current.item)] = worker, current

    def _replace(self, current: _Try[Item] | None) -> Failure:
        """Put a new worker in the place of one that died."""
        if current is None:
            self._false_starts += 1
            if self._false_starts >= ATTEMPTS:
                raise ConfigError(
                    f"{self._false_starts} worker processes died before they began, for instance for lack of memory; "
                    "ask for fewer with --ray-workers"
                )
        self._start()
        return Failure("its worker process died, for instance for lack of memory, or in a decoder")


@contextmanager
def _connected(cluster: RayCluster) -> Iterator[Any]:
    """Join a cluster or start one, and leave or end it afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked to report anything
    os.environ.setdefault("RAY_worker_niceness", "0")  # its own 15 lets any other work on the machine go first
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "scale", "--engine ray") from error
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if cluster.address is None:
        here = {"include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES}
        settings |= {"address": "local", "num_cpus": cluster.workers, **here}
    else:
        settings["address"] = cluster.address
    try:
        ray.init(**settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {cluster.address or 'this machine'} ({str(error).partition(chr(10))[0].rstrip('.')}); "
            "start one with ray start --head, or leave --address out"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
