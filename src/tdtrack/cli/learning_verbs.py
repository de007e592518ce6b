"""Verbs that train or fit, and what they can learn from: calibrate, demo, teach, teachers, train, train-teacher."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import Settings, Verb, add_config, add_layout, add_teacher, take_teacher
from tdtrack.config import TeacherTrainConfig, TrainConfig


def _calibrate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--model", type=str, required=True, help="run folder or model file; what is fitted is stored in it")
    parser.add_argument(
        "--data", type=str, required=True, help="COCO JSON file or folder of MOTChallenge sequences; no identities"
    )
    parser.add_argument("--images", type=str, default="", help="folder the file names of a COCO file are relative to")
    add_teacher(parser, required=False)


def _calibrate(settings: Settings, console: Console) -> int:
    from tdtrack.calibrate import calibrate_model
    from tdtrack.data import load_dataset
    from tdtrack.teacher import load_teacher

    name = settings["teacher"]
    teacher = None if name is None else load_teacher(name, settings["weights"], settings["device"])
    path = Path(settings["model"])
    dataset = load_dataset(settings["data"], settings["images"])
    fitted = calibrate_model(path / "model.safetensors" if path.is_dir() else path, dataset, teacher, again=True)
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
    parser.add_argument("data", type=str, help="file or folder of a data set of any layout; no identities needed")
    add_layout(parser)
    parser.add_argument("--val-data", type=str, default="", help="data set to validate on; default: every tenth image of DATA")
    parser.add_argument("--val-images", type=str, default="", help="its image folder")
    parser.add_argument("--val-split", type=str, default="", help="its part; without --val-data, the part of DATA")
    add_teacher(parser, required=True)
    parser.add_argument("--skip-bad-boxes", action="store_true", help="drop what doctor reports instead of stopping")
    parser.add_class_arguments(TrainConfig, skip={"train", "validation"})
    parser.set_defaults(laptop_settings())


def _teach(settings: Settings, console: Console) -> int:
    from tdtrack.teach import TeachData, teach

    data = TeachData(
        data=settings.pop("data"),
        images=settings.pop("images"),
        val_data=settings.pop("val_data"),
        val_images=settings.pop("val_images"),
        val_split=settings.pop("val_split"),
        format=settings.pop("format"),
        split=settings.pop("split"),
        box=settings.pop("box"),
        skip_bad=settings.pop("skip_bad_boxes"),
    )
    teacher = take_teacher(settings, console)
    result = teach(data, teacher, settings)
    for line in result.lines():
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
