"""Verbs that read or make data: doctor, annotate, unpack-caltech, walkers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from rich.console import Console

from tdtrack.cli.parsing import (
    Settings,
    Verb,
    add_config,
    add_input_size,
    add_layout,
    add_ray,
    add_skip_bad_boxes,
    add_teacher,
    take_ray,
    take_size,
    take_teacher,
    write_json,
)
from tdtrack.errors import ConfigError

if TYPE_CHECKING:
    from tdtrack.data.dataset import DetectionDataset
    from tdtrack.teacher import Teacher


def _doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "data", type=str, help="file or folder of a data set of any layout, embedding store, or detector (.onnx) to be taught"
    )
    add_layout(parser)
    parser.add_argument("--decode", type=bool, default=False, help="decode every image, not only its header")
    parser.add_argument("--json", type=str, default="", help="also write the report to this file")
    add_input_size(parser)


def _doctor(settings: Settings, console: Console) -> int:
    if settings["data"].lower().endswith(".onnx"):
        return _doctor_detector(settings, console)
    if settings["input_size"]:
        raise ConfigError("--input-size is a detector's (.onnx); leave it out")
    from tdtrack.data.doctor import inspect

    how = {name: settings[name] for name in ("images", "format", "split", "box", "decode")}
    report = inspect(settings["data"], **how)
    for line in report.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if settings["json"]:
        write_json(Path(settings["json"]), report.to_dict())
    return 0 if report.readable else 1


def _doctor_detector(settings: Settings, console: Console) -> int:
    from tdtrack.errors import WeightsError
    from tdtrack.frozen.description import describe_detector
    from tdtrack.frozen.graph import read_graph

    graph = read_graph(settings["data"], take_size(settings["input_size"]))
    lines = graph.lines()
    try:
        description = describe_detector(graph)
        lines.append(f"outputs are those of family {description.family}; {len(description.classes)} classes")
    except WeightsError as error:
        lines.append(str(error))
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if settings["json"]:
        write_json(Path(settings["json"]), {"maps": [asdict(item) for item in graph.maps], "outputs": graph.outputs})
    return 0


def _annotate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--data", type=str, required=True, help="file or folder of a data set of any layout")
    add_layout(parser)
    add_teacher(parser, required=True)
    parser.add_argument("--out", type=str, required=True, help="embedding store to write (.parquet)")
    parser.add_argument("--batch-size", type=int, default=64, help="crops per teacher call")
    parser.add_argument("--workers", type=int, default=2, help="decoding threads")
    add_skip_bad_boxes(parser)
    parser.add_argument("--engine", type=str, default="local", help="local, or ray: part by part on many workers")
    add_ray(parser)


def _annotate(settings: Settings, console: Console) -> int:
    from tdtrack.data import load_dataset
    from tdtrack.teacher import load_teacher
    from tdtrack.teacher.annotate import annotate, annotate_on_ray

    engine, cluster = take_ray(settings, "local")
    if engine != "local":
        raise ConfigError(f"engine is {engine!r}; choose local or ray")
    how = {name: settings[name] for name in ("images", "format", "split", "box")}
    load_data = partial(load_dataset, settings["data"], **how, skip_bad=settings["skip_bad_boxes"])
    out = Path(settings["out"])
    pace = {name: settings[name] for name in ("batch_size", "workers")}
    if cluster is None:
        store = annotate(load_data(), take_teacher(settings, console), out, **pace)
    else:
        teacher = partial(load_teacher, settings["teacher"], settings["weights"], settings["device"])
        store = annotate_on_ray(partial(_load_both, load_data, teacher), out, cluster, **pace)
    size = out.stat().st_size / 1e6
    console.print(
        f"{len(store)} embeddings of {store.dim} numbers by {store.teacher_name} in {out} ({size:.1f} MB)", markup=False
    )
    return 0


def _load_both(load_data: Callable[[], DetectionDataset], load_teacher: Callable[[], Teacher]) -> tuple[Any, Any]:
    return load_data(), load_teacher()


def _unpack_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("data", type=str, help="folder with Caltech's set00/V000.seq, ..., or videos/set00/V000.seq")
    parser.add_argument("--out", type=str, default=None, help="folder for the frames; default: images in the data's folder")
    parser.add_argument("--every", type=PositiveInt, default=1, help="write only every N-th frame; the benchmark's N is 30")


def _unpack(settings: Settings, console: Console) -> int:
    from tdtrack.data.seq import unpack_caltech

    videos, frames = unpack_caltech(settings["data"], settings["out"], every=settings["every"])
    console.print(f"{frames} new frames of {videos} videos", markup=False)
    return 0


def _walkers_arguments(parser: ArgumentParser) -> None:
    from tdtrack.data.walkers import WalkersConfig

    add_config(parser, "the world's settings")
    parser.add_argument("--out", type=str, required=True, help="folder for the world's three parts")
    parser.add_argument("--workers", type=int, default=2, help="processes; the result does not depend on it")
    parser.add_class_arguments(WalkersConfig, "world")


def _walkers(settings: Settings, console: Console) -> int:
    from tdtrack.data.walkers import write_world

    world = write_world(settings["world"], Path(settings["out"]), workers=settings["workers"])
    console.print(f"world in {world.root}", markup=False)
    return 0


VERBS = {
    "annotate": Verb("give every box of a data set its teacher embedding", _annotate_arguments, _annotate),
    "doctor": Verb("say what is in a data set, what would be dropped and why", _doctor_arguments, _doctor),
    "unpack-caltech": Verb("write the frames of Caltech's .seq videos as image files", _unpack_arguments, _unpack),
    "walkers": Verb("write a synthetic world of walking people", _walkers_arguments, _walkers),
}
