"""``tdtrack demo``: the whole path on the synthetic world, from nothing to a table, a video and a page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tdtrack.calibrate import calibrate_model
from tdtrack.data import load_dataset
from tdtrack.data.walkers import WalkersConfig, write_world
from tdtrack.demo.compare import compare, sequence_precision
from tdtrack.demo.page import DemoResult, print_result, write_page
from tdtrack.demo.settings import model_settings, teacher_settings
from tdtrack.files import atomic_write, once, require_still_there, sweep
from tdtrack.teacher import load_teacher
from tdtrack.teacher.annotate import annotate
from tdtrack.teacher.train import evaluate_reid, train_teacher
from tdtrack.training import train
from tdtrack.training.validate import evaluate_model

__all__ = ["run_demo"]


def run_demo(out: Path, *, seed: int, console: Console) -> DemoResult:
    """Make a world, teach a detector to track in it, and compare three ways to track.

    Args:
        out: folder for everything; a second call continues where the first stopped.
        seed: of the world and of both trainings.
        console: where stages and the table are printed.

    Returns:
        What was measured; also in ``out/results.json``.

    Raises:
        DataError: the folder holds a world with other settings.
        ConfigError: the folder holds a training with other settings.
        OutputError: the folder cannot be written, or has gone.
    """
    started = time.perf_counter()
    sweep(out, below=True)
    stages = _Stages(out, console)
    with stages("1/6 world: render people, videos and sequences"):
        world = write_world(WalkersConfig(seed=seed), out / "world")
    with stages("2/6 teacher: learn who is who from crops by identity"):
        teacher = load_teacher(train_teacher(teacher_settings(world, out, seed)))
        quality = once(out / "teacher.json", lambda: evaluate_reid(teacher, world.reid))
    with stages("3/6 annotate: one teacher embedding per box, identities unknown"):
        config = model_settings(world, out, seed)
        for source in (*config.train, *config.validation):
            annotate(load_dataset(source.annotations, source.images), teacher, Path(source.store))
    with stages("4/6 train: boxes and embeddings in one network"):
        model = train(config)
        validation = config.validation[0]
        calibrate_model(model, load_dataset(validation.annotations, validation.images), teacher)
        report = evaluate_model(model, validation.annotations, validation.images, validation.store)
    with stages("5/6 track: held-out sequences, three ways"):
        sequences = list(world.sequences)
        modes = compare(sequences, model, teacher, out / "tracks")
        sequence_ap = sequence_precision(sequences, out / "tracks")
    result = DemoResult(modes, report.ap50, sequence_ap, report.mean_cosine or 0.0, quality, stages.seconds)
    with stages("6/6 report"):
        with atomic_write(out / "results.json", "w") as file:
            json.dump(vars(result), file, indent=2)
        page = write_page(result, world, out, seed)
    print_result(result, page, time.perf_counter() - started, console)
    return result


class _Stages:
    """Announces stages and adds up their wall time, over interrupted runs too."""

    def __init__(self, out: Path, console: Console) -> None:
        self.path = out / "seconds.json"
        self.console = console
        self.seconds: dict[str, float] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        self._write()

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        self.console.rule(f"[bold]{title}", align="left", style="dim")
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[title] = round(self.seconds.get(title, 0.0) + spent, 2)
            require_still_there(self.path)
            self._write()

    def _write(self) -> None:
        with atomic_write(self.path, "w") as file:
            json.dump(self.seconds, file, indent=2)
