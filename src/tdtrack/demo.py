"""``tdtrack demo``: the whole path on the synthetic world, from nothing to a table, a video and a page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable

from tdtrack.association import Tracker
from tdtrack.calibrate import calibrate_model
from tdtrack.config import (
    AssociationConfig,
    AugmentConfig,
    DataSource,
    ModelConfig,
    OptimizerConfig,
    TeacherTrainConfig,
    TrainConfig,
)
from tdtrack.data import load_dataset
from tdtrack.data.walkers import WalkersConfig, World, write_world
from tdtrack.evaluation.tracking import evaluate_tracking
from tdtrack.files import atomic_write
from tdtrack.output import report as html
from tdtrack.output.plots import plot_training
from tdtrack.runtime.engine import Engine, load_engine
from tdtrack.runtime.pipeline import track_source
from tdtrack.runtime.sources import open_source
from tdtrack.runtime.two_stage import TwoStageEngine
from tdtrack.teacher import Teacher, load_teacher
from tdtrack.teacher.annotate import annotate
from tdtrack.teacher.train import evaluate_reid, train_teacher
from tdtrack.training import train
from tdtrack.training.validate import evaluate_model
from tdtrack.version import __version__

__all__ = ["DemoResult", "run_demo"]

MIN_SCORE = 0.4  # FairMOT's; a detector trained for minutes is seldom sure
MAX_GATING_DISTANCE = 40.0  # FairMOT's 9.49 loses people when the camera shakes at 12 frames per second
MAX_LOST_SECONDS = 3.0  # the walkers come back within three seconds; the same for every mode


@dataclass(frozen=True)
class Mode:
    """One way to track: how boxes get an appearance, if at all."""

    key: str
    title: str
    method: Literal["fairmot", "motion"]
    crops: bool = False


MODES = (
    Mode("motion-only", "motion only", "motion"),
    Mode("two-stage", "two-stage (teacher on crops)", "fairmot", crops=True),
    Mode("one-stage", "one-stage (tdtrack)", "fairmot"),
)


@dataclass
class DemoResult:
    """What the demo measured.

    Attributes:
        modes: per mode key the overall metrics (fractions) and ``fps``, frames per second of detection and association.
        detection_ap: AP at IoU 0.5 on the held-out detection frames, fraction.
        sequence_ap: the same on the held-out sequences.
        agreement: mean cosine between the model's and the teacher's embedding of a held-out box.
        teacher: rank-1 and mAP of the teacher on people it has not seen, fractions.
        seconds: wall time of every stage that ran, summed over interrupted runs.
    """

    modes: dict[str, dict[str, float]] = field(default_factory=dict)
    detection_ap: float = 0.0
    sequence_ap: float = 0.0
    agreement: float = 0.0
    teacher: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def teacher_settings(world: World, out: Path, seed: int) -> TeacherTrainConfig:
    """Return the demo's teacher: a small OSNet on small crops, which two cores train in a minute and a half."""
    return TeacherTrainConfig(
        crops=str(world.reid),
        out=str(out / "teacher.safetensors"),
        architecture="osnet_x0_25",
        crop_height=64,  # people in the demo's frames are 35 to 170 pixels tall
        crop_width=32,
        steps=600,
        learning_rate=1.2e-2,
        erase=0.1,
        seed=seed,
    )


def model_settings(world: World, out: Path, seed: int) -> TrainConfig:
    """Return the demo's training: a small network that two cores train from scratch in about four minutes."""
    stores = out / "embeddings"
    return TrainConfig(
        out=str(out / "run"),
        train=(DataSource(str(world.train), str(world.images), str(stores / "train.parquet")),),
        validation=(DataSource(str(world.val), str(world.images), str(stores / "val.parquet")),),
        input_height=256,
        input_width=448,
        seed=seed,
        precision="bf16-mixed" if _computes_bf16() else "32-true",
        validate_every=250,
        checkpoint_every=100,
        model=ModelConfig(
            backbone="test_resnet",
            embedding_dim=128,
            fpn_width=64,
            subnet_depth=2,
            subnet_width=64,
            embedding_width=128,
            norm_momentum=0.05,
        ),
        augment=AugmentConfig(min_scale=0.8, max_scale=1.3, brightness=0.2, contrast=0.2),
        optimizer=OptimizerConfig(
            algorithm="adamw",
            learning_rate=1.5e-3,
            embedding_learning_rate_scale=0.05,
            warmup_learning_rate=1e-4,
            weight_decay=0.02,
            warmup_steps=50,
            steps=800,
            batch_size=8,
            max_gradient_norm=10.0,
            ema_decay=0.97,
        ),
    )


def _computes_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively, which halves the training time; where it does not, it costs time."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


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
        OutputError: the folder cannot be written.
    """
    started = time.perf_counter()
    stages = _Stages(out, console)
    with stages("1/6 world: render people, videos and sequences"):
        world = write_world(WalkersConfig(seed=seed), out / "world")
    with stages("2/6 teacher: learn who is who from crops by identity"):
        teacher = load_teacher(train_teacher(teacher_settings(world, out, seed)))
        quality = _once(out / "teacher.json", lambda: evaluate_reid(teacher, world.reid))
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
        result = _track_all(world, model, teacher, out / "tracks")
        on_sequences = _once(out / "sequence-ap.json", lambda: {"ap50": evaluate_model(model, world.sequences[0].parent).ap50})
    result.teacher, result.sequence_ap = quality, on_sequences["ap50"]
    result.detection_ap, result.agreement = report.ap50, report.mean_cosine or 0.0
    result.seconds = stages.seconds
    with stages("6/6 report"):
        with atomic_write(out / "results.json", "w") as file:
            json.dump(vars(result), file, indent=2)
        page = _write_page(result, world, out, seed)
    _print(result, page, time.perf_counter() - started, console)
    return result


class _Stages:
    """Announces stages and adds up their wall time, over interrupted runs too."""

    def __init__(self, out: Path, console: Console) -> None:
        self.path = out / "seconds.json"
        self.console = console
        self.seconds: dict[str, float] = json.loads(self.path.read_text()) if self.path.is_file() else {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        self.console.rule(f"[bold]{title}", align="left", style="dim")
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[title] = round(self.seconds.get(title, 0.0) + spent, 2)
            with atomic_write(self.path, "w") as file:
                json.dump(self.seconds, file, indent=2)


def _once(path: Path, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return what an earlier run left in ``path``, or make it now."""
    if not path.is_file():
        made = make()
        with atomic_write(path, "w") as file:
            json.dump(made, file, indent=2)
    loaded: dict[str, float] = json.loads(path.read_text())
    return loaded


def _track_all(world: World, model: Path, teacher: Teacher, out: Path) -> DemoResult:
    """Track every held-out sequence in every mode; a sequence that an earlier run finished is kept."""
    detector = load_engine(model)
    appearance = detector.metadata["appearance"]
    result = DemoResult()
    for mode in MODES:
        engine: Engine = TwoStageEngine(detector, teacher, min_embed_score=MIN_SCORE) if mode.crops else detector
        ceiling = appearance["teacher_max_appearance_cost" if mode.crops else "max_appearance_cost"]
        config = AssociationConfig(
            method=mode.method,
            min_score=MIN_SCORE,
            max_appearance_cost=ceiling,
            max_gating_distance=MAX_GATING_DISTANCE,
            max_lost_seconds=MAX_LOST_SECONDS,
        )
        spent = [_track(sequence, engine, config, out / mode.key) for sequence in world.sequences]
        metrics = evaluate_tracking(world.sequences[0].parent, out / mode.key).overall
        result.modes[mode.key] = {**metrics, "fps": sum(s["frames"] for s in spent) / sum(s["seconds"] for s in spent)}
    return result


def _track(sequence: Path, engine: Engine, config: AssociationConfig, out: Path) -> dict[str, float]:
    """Track one sequence unless an earlier run finished it; returns frames, and seconds of network and association."""

    def track() -> dict[str, float]:
        source = open_source(sequence)
        tracker = Tracker(config, frame_rate=source.frame_rate)
        summary = track_source(
            source,
            engine,
            tracker,
            mot_path=out / f"{sequence.name}.txt",
            jsonl_path=out / f"{sequence.name}.jsonl",
            video_path=out / f"{sequence.name}.mp4",
        )
        if summary.interrupted:
            raise KeyboardInterrupt
        return {"frames": summary.frames, "seconds": summary.network_seconds + summary.association_seconds}

    return _once(out / f"{sequence.name}.json", track)


def _comparison(result: DemoResult) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table that the demo prints and the page shows."""
    columns = ["", "MOTA", "IDF1", "HOTA", "IDSW", "frames/s"]
    rows = [
        [
            mode.title,
            *(f"{100 * row[name]:.1f}" for name in ("MOTA", "IDF1", "HOTA")),
            f"{row['IDSW']:.0f}",
            f"{row['fps']:.1f}",
        ]
        for mode in MODES
        for row in [result.modes[mode.key]]
    ]
    return columns, rows


def _print(result: DemoResult, page: Path, seconds: float, console: Console) -> None:
    columns, rows = _comparison(result)
    table = RichTable(title="held-out walkers sequences, one detector, three ways to link", title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for row, mode in zip(rows, MODES):
        table.add_row(*row, style="bold" if mode.key == "one-stage" else "")
    console.print(table)
    console.print(
        f"AP at IoU 0.5: {result.sequence_ap:.1%} on these sequences, {result.detection_ap:.1%} on held-out photos; "
        f"cosine with the teacher {result.agreement:.3f}; this run took {seconds / 60:.1f} minutes",
        highlight=False,
    )
    console.print(f"open {page}", markup=False, highlight=False)


def _write_page(result: DemoResult, world: World, out: Path, seed: int) -> Path:
    """Write ``report.html``: numbers, video, curves, wall times and how to go on."""
    one = result.modes["one-stage"]
    motion = result.modes["motion-only"]
    columns, rows = _comparison(result)
    plot = plot_training(out / "run" / "metrics.csv", out / "training.png", title="Training of the joint model")
    shown = world.sequences[0].name
    total = sum(result.seconds.values())
    return html.write_html_report(
        out / "report.html",
        title="tdtrack demo",
        summary=(
            "A detector learned to track in a synthetic world: from boxes without identities, "
            "and a teacher that gives each box an embedding."
        ),
        numbers=[
            html.Number(
                "IDF1, one-stage", f"{100 * one['IDF1']:.1f}", f"{100 * (one['IDF1'] - motion['IDF1']):+.1f} over motion only"
            ),
            html.Number("AP at IoU 0.5", f"{100 * result.sequence_ap:.1f}", "on held-out sequences"),
            html.Number("Cosine with teacher", f"{result.agreement:.3f}", "on held-out boxes"),
            html.Number("From nothing", f"{total / 60:.1f} min", "all stages together"),
        ],
        sections=[
            html.Section(
                "Three ways to link the same detections",
                [
                    html.Table(
                        columns,
                        rows,
                        "All held-out sequences together; frames per second of network and association.",
                        highlight=len(MODES) - 1,
                    )
                ],
            ),
            html.Section(
                "What it looks like",
                [html.Video(out / "tracks" / "one-stage" / f"{shown}.mp4", f"{shown}, one-stage: a colour per identity.")],
            ),
            html.Section("How it learned", [html.Figure(plot, "Losses, and validation on held-out frames.")]),
            html.Section(
                "Where the time went",
                [html.Bars([(title.split(":")[0], spent, f"{spent:.0f} s") for title, spent in result.seconds.items()])],
            ),
            html.Section(
                "Now with your own data",
                [
                    html.Commands(
                        "tdtrack doctor boxes.json --images photos/\n"
                        "tdtrack teach boxes.json --images photos/ --out run \\\n"
                        "    --teacher osnet_x0_25 --weights osnet_x0_25_msmt17.pth\n"
                        "tdtrack track video.mp4 --model run --out tracks",
                        "boxes.json is a COCO file; no identities, no videos needed.",
                    )
                ],
            ),
        ],
        notes=[
            f"tdtrack {__version__}, seed {seed}",
            f"teacher: rank-1 {result.teacher['rank1']:.1%}, mAP {result.teacher['mAP']:.1%} on people it has not seen",
        ],
    )
