"""Verbs that use a trained model, and measure it: track, evaluate."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import INTERRUPTED, Settings, Verb, add_config, add_teacher, write_json
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError


def _track_arguments(parser: ArgumentParser) -> None:
    add_config(parser, "tracking settings")
    parser.add_argument(
        "source", type=str, nargs="?", help="video file, image folder, MOT sequence, camera number or stream URL"
    )
    parser.add_argument("--model", type=str, default=None, help="run folder or model file made by tdtrack train or teach")
    parser.add_argument(
        "--detections", type=str, default=None, help="saved detections instead of a source: .npz, MOT .txt, COCO .json"
    )
    parser.add_argument("--out", type=str, required=True, help="result folder; with --detections the MOT text file")
    parser.add_argument("--association", type=str, default=None, help="evidence (default), fairmot or motion")
    parser.add_argument("--offline", action="store_true", help="link, fill and smooth the finished tracks (text files)")
    add_teacher(parser, required=False)
    parser.add_argument(
        "--two-stage", action="store_true", help="embed crops with --teacher instead of the model's own embeddings"
    )
    parser.add_argument("--frame-rate", type=float, default=None, help="frames per second, where the source does not say")
    parser.add_argument("--max-frames", type=int, default=None, help="stop after this many frames")
    parser.add_argument("--video", type=bool, default=True, help="write the annotated video")
    parser.add_class_arguments(AssociationConfig, "tracker", skip={"method"})


def _track(settings: Settings, console: Console) -> int:
    from tdtrack.track import TrackRequest, run_track

    tracker = settings.pop("tracker")
    summary = run_track(TrackRequest(**settings), dict(vars(tracker)))
    for line in summary.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return INTERRUPTED if summary.interrupted else 0


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--gt", type=str, required=True, help="ground truth: a MOT sequence, a folder of them, or a COCO JSON file"
    )
    parser.add_argument("--results", type=str, default=None, help="folder of MOT text files, one per sequence")
    parser.add_argument("--model", type=str, default=None, help="for a COCO file: the model whose detections are measured")
    parser.add_argument("--images", type=str, default="", help="for a COCO file: its image folder")
    parser.add_argument("--store", type=str, default=None, help="for a COCO file: embedding store to measure agreement with")
    parser.add_argument("--json", type=str, default="", help="also write every number to this file")


def _evaluate(settings: Settings, console: Console) -> int:
    if settings["model"] is not None:
        from tdtrack.training.validate import evaluate_model

        report = evaluate_model(settings["model"], settings["gt"], settings["images"], settings["store"])
        for line in report.lines():
            console.print(line, markup=False, highlight=False)
        numbers = report.to_dict()
    elif settings["results"] is not None:
        from tdtrack.evaluation.table import format_table
        from tdtrack.evaluation.tracking import evaluate_tracking

        tracking = evaluate_tracking(settings["gt"], settings["results"])
        print(format_table(tracking, width=console.width))
        numbers = tracking.to_dict()
    else:
        raise ConfigError("pass --results DIR to measure tracks, or --model M to measure a model's detections")
    if settings["json"]:
        write_json(Path(settings["json"]), numbers)
    return 0


VERBS = {
    "track": Verb("track a video, image folder, MOT sequence, camera or saved detections", _track_arguments, _track),
    "evaluate": Verb("MOTA, IDF1, HOTA of tracks; AP and embedding agreement of a model", _evaluate_arguments, _evaluate),
}
