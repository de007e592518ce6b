"""Verbs that train or fit, and what they can learn from: calibrate, demo, teach, teachers, train, train-teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import (
    Settings,
    Verb,
    add_config,
    add_input_size,
    add_layout,
    add_skip_bad_boxes,
    add_teacher,
    take_size,
    take_teacher,
)
from tdtrack.config import HeadConfig, TeacherTrainConfig, TrainConfig
from tdtrack.errors import ConfigError

if TYPE_CHECKING:
    from tdtrack.teach import TeachData


def _calibrate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--model", type=str, required=True, help="run folder, model or exported file; stores what is fitted")
    parser.add_argument("--data", type=str, required=True, help="file or folder of a data set of any layout; no identities")
    add_layout(parser)
    add_skip_bad_boxes(parser)
    parser.add_argument(
        "--normalise",
        action="store_true",
        help="first map the embeddings so that what views of one box differ in counts for less; enrol people anew",
    )
    add_teacher(parser, required=False)


def _calibrate(settings: Settings, console: Console) -> int:
    from tdtrack.calibrate import calibrate_exported, calibrate_model, normalise_model
    from tdtrack.data import load_dataset
    from tdtrack.teacher import load_teacher

    name = settings["teacher"]
    teacher = None if name is None else load_teacher(name, settings["weights"], settings["device"])
    path = Path(settings["model"])
    how = {name: settings[name] for name in ("images", "format", "split", "box")}
    dataset = load_dataset(settings["data"], **how, skip_bad=settings["skip_bad_boxes"])
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        if settings["normalise"]:
            raise ConfigError(f"{path} is an exported file; normalise the model it was made from and export that again")
        fitted = calibrate_exported(path, dataset, teacher)
    else:
        model = path / "model.safetensors" if path.is_dir() else path
        if settings["normalise"]:
            normalise_model(model, [dataset])
        fitted = calibrate_model(model, dataset, teacher, again=True)
    for key, value in fitted.items():
        numbers = value if isinstance(value, list) else [value]
        console.print(f"{key}: {', '.join(f'{number:.4f}' for number in numbers)}", markup=False, highlight=False)
    return 0


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="tdtrack-demo", help="folder for everything the demo makes")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of both trainings")


def _demo(settings: Settings, console: Console) -> int:
    from tdtrack.demo import run_demo

    run_demo(Path(settings["out"]), seed=settings["seed"], console=console)
    return 0


def _teach_arguments(parser: ArgumentParser) -> None:
    from tdtrack.teach import laptop_settings

    add_config(parser, "a recipe; its data sets are replaced by DATA")
    parser.add_argument(
        "data",
        type=str,
        nargs="*",
        help="file or folder of a data set of any layout; no identities needed; several with --detector",
    )
    add_layout(parser)
    parser.add_argument("--val-data", type=str, default="", help="data set to validate on; default: every tenth image of DATA")
    parser.add_argument("--val-images", type=str, default="", help="its image folder")
    parser.add_argument("--val-split", type=str, default="", help="its part; without --val-data, the part of DATA")
    add_teacher(parser, required=True)
    add_skip_bad_boxes(parser)
    _detector_arguments(parser)
    parser.add_class_arguments(TrainConfig, skip={"train", "validation"})
    for name in ("train", "validation"):
        parser.add_argument(f"--{name}", type=Any, default=None, help="of a recipe; DATA and --val-data take its place")
    parser.set_defaults(laptop_settings())


def _detector_arguments(parser: ArgumentParser) -> None:
    """Add what a detector that stays as it is brings with it; the settings of training a joint model then have no meaning."""
    parser.add_argument(
        "--detector", type=str, default=None, help="teach this detector embeddings: .onnx file, run of ours, torchvision:NAME"
    )
    parser.add_argument("--detector-weights", type=str, default=None, help="state dict of a torchvision model")
    parser.add_argument("--detector-licence", type=str, default="", help="its licence, which travels with the model")
    parser.add_argument("--detector-description", type=str, default=None, help="YAML file that says what its outputs mean")
    parser.add_argument("--classes", type=str, default="", help="NAME,NAME: of its classes, those to keep; default: DATA's")
    parser.add_argument(
        "--features", type=str, default="", help="NAME,NAME: its feature maps to read; tdtrack doctor lists them"
    )
    add_input_size(parser)
    parser.add_argument(
        "--pseudo-boxes", type=str, nargs="*", default=None, help="also learn from its own boxes here; without a value, in DATA"
    )
    parser.add_argument("--every", type=int, default=5, help="of a video of pseudo boxes, each that many-th frame")
    parser.add_class_arguments(HeadConfig, "head", skip={"features"})


def _teach(settings: Settings, console: Console) -> int:
    from tdtrack.teach import TeachData, teach

    names, pseudo = settings.pop("data"), settings.pop("pseudo_boxes")
    del settings["train"], settings["validation"]
    shared = {name: settings.pop(name) for name in ("val_data", "val_images", "val_split", "images", "format", "split", "box")}
    skip_bad = settings.pop("skip_bad_boxes")
    labelled = [TeachData(data=name, skip_bad=skip_bad, **shared) for name in names]
    about = {name: settings.pop(name) for name in _DETECTOR_WORDS}
    if about["detector"] is not None:
        if pseudo is not None and not pseudo:
            pseudo, labelled = names, []
        return _teach_detector(labelled, tuple(pseudo or ()), about, settings, console)
    if pseudo is not None or len(labelled) != 1:
        raise ConfigError(
            f"{len(labelled)} data sets were given{' and --pseudo-boxes' if pseudo is not None else ''}; give one, "
            "or keep a detector with --detector to learn from several or from its own boxes"
        )
    if idle := [name for name, default in _DETECTOR_WORDS.items() if about[name] != default]:
        option = f"--{idle[0].replace('_', '-')}"
        raise ConfigError(f"{option} is for teaching a detector; name that with --detector, or leave {option} out")
    return _say(console, teach(labelled[0], take_teacher(settings, console), settings).lines())


_DETECTOR_WORDS: dict[str, Any] = {
    "detector": None,
    "detector_weights": None,
    "detector_licence": "",
    "detector_description": None,
    "classes": "",
    "features": "",
    "input_size": "",
    "every": 5,
    "head": HeadConfig(),
}
"""Options that a detector brings with it, and their defaults."""


def _teach_detector(
    labelled: list[TeachData], pseudo: tuple[str, ...], about: Settings, settings: Settings, console: Console
) -> int:
    from tdtrack.teach import DetectorRequest, teach_detector

    request = DetectorRequest(
        detector=about["detector"],
        out=settings["out"],
        licence=about["detector_licence"],
        weights=about["detector_weights"],
        description=about["detector_description"],
        classes=_words(about["classes"]),
        input_size=take_size(about["input_size"]),
        pseudo_boxes=pseudo,
        every=about["every"],
    )
    teacher = take_teacher(settings, console)
    head = replace(about["head"], features=_words(about["features"]))
    return _say(console, teach_detector(labelled, request, teacher, head, settings["detect"]).lines())


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _say(console: Console, lines: list[str]) -> int:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _train_arguments(parser: ArgumentParser) -> None:
    add_config(parser, "a recipe")
    parser.add_class_arguments(TrainConfig)


def _train(settings: Settings, console: Console) -> int:
    from tdtrack.training import train

    model = train(TrainConfig(**settings))
    console.print(f"model in {model}", markup=False)
    return 0


def _train_teacher_arguments(parser: ArgumentParser) -> None:
    add_config(parser, "the settings of a teacher")
    parser.add_class_arguments(TeacherTrainConfig)


def _train_teacher(settings: Settings, console: Console) -> int:
    from tdtrack.teacher import load_teacher
    from tdtrack.teacher.train import evaluate_reid, train_teacher

    config = TeacherTrainConfig(**settings)
    weights = train_teacher(config)
    console.print(f"teacher in {weights}", markup=False)
    if (Path(config.crops) / "query").is_dir():
        quality = evaluate_reid(load_teacher(weights), config.crops)
        console.print(f"rank-1 {quality['rank1']:.1%}, mAP {quality['mAP']:.1%} on query/ against bounding_box_test/")
    return 0


def _teachers_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--architecture", type=str, default="", help="only checkpoints of this network")


def _teachers(settings: Settings, console: Console) -> int:
    from tdtrack.teacher.zoo import MODEL_ZOO, list_checkpoints, weights_folder

    for line in list_checkpoints(settings["architecture"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"files come from {MODEL_ZOO} and go into {weights_folder()}", markup=False, highlight=False, soft_wrap=True)
    return 0


VERBS = {
    "calibrate": Verb("fit the tracker to a model's embeddings, without identities", _calibrate_arguments, _calibrate),
    "demo": Verb("the whole path on a synthetic world, no data needed", _demo_arguments, _demo),
    "teach": Verb("annotate, train and validate on your own boxes, in one command", _teach_arguments, _teach),
    "teachers": Verb("list the known Re-ID checkpoints and say which are here", _teachers_arguments, _teachers),
    "train": Verb("train the joint model from a recipe", _train_arguments, _train),
    "train-teacher": Verb("train a Re-ID teacher on crops by identity", _train_teacher_arguments, _train_teacher),
}
