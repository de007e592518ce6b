"""Verbs that use a trained model, measure it and hand results in: track, evaluate, submit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import (
    INTERRUPTED,
    Settings,
    Verb,
    add_config,
    add_layout,
    add_ray,
    add_skip_bad_boxes,
    add_teacher,
    take_ray,
    write_json,
)
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError

if TYPE_CHECKING:
    from tdtrack.jobs.pool import RayCluster
    from tdtrack.track import TrackRequest

_SEQUENCES_HELP = "sequences of the folder, with commas between, or a set such as MOT15-val (the paper's), MOT17-train-FRCNN"


def _track_arguments(parser: ArgumentParser) -> None:
    add_config(parser, "tracking settings")
    parser.add_argument(
        "source",
        type=str,
        nargs="*",
        help="video file, image folder, MOT sequence, camera number or stream URL; several, or a folder of them, go one by one",
    )
    parser.add_argument("--model", type=str, default=None, help="run folder, .safetensors or .onnx file")
    parser.add_argument("--sequences", type=str, default="", help=_SEQUENCES_HELP)
    parser.add_argument(
        "--detections", type=str, default=None, help="saved detections instead of a source: .npz, MOT .txt, COCO .json"
    )
    parser.add_argument("--out", type=str, required=True, help="result folder; with --detections the MOT text file")
    parser.add_argument("--association", type=str, default=None, help="evidence (default), fairmot or motion")
    parser.add_argument(
        "--camera-motion", type=str, default="auto", help="follow a moving camera: auto (where OpenCV is installed), on or off"
    )
    parser.add_argument("--offline", action="store_true", help="link, fill and smooth the finished tracks (text files)")
    parser.add_argument("--gallery", type=str, default=None, help="folder of known objects, NAME/*.jpg: who is which track")
    parser.add_argument("--enroll", action="store_true", help="add the tracks' looks to the gallery for other videos")
    add_teacher(parser, required=False)
    parser.add_argument(
        "--two-stage", action="store_true", help="embed crops with --teacher instead of the model's own embeddings"
    )
    parser.add_argument(
        "--engine", type=str, default="auto", help="auto, onnxruntime, openvino or torch; ray, or ray:openvino, on many workers"
    )
    add_ray(parser)
    parser.add_argument("--precision", type=str, default=None, help="fp32, bf16 or int8; default: what the file holds")
    parser.add_argument("--compiled", action="store_true", help="torch only: compile the network first")
    parser.add_argument("--frame-rate", type=float, default=None, help="frames per second, where the source does not say")
    parser.add_argument("--max-frames", type=int, default=None, help="stop after this many frames")
    parser.add_argument(
        "--max-outage", type=float, default=300.0, help="seconds a camera or stream may stay away; 0 takes any end as the end"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="frames the network takes at once; a GPU wants several")
    parser.add_argument("--video", type=bool, default=True, help="write the annotated video")
    parser.add_class_arguments(AssociationConfig, "tracker", skip={"method"})


def _track(settings: Settings, console: Console) -> int:
    from tdtrack.batch import find_videos, holds_videos
    from tdtrack.benchmarks import named_sequences
    from tdtrack.track import TrackRequest, run_track, sequence_folders

    overrides = dict(vars(settings.pop("tracker")))
    sequences, sources = settings.pop("sequences"), settings.pop("source")
    settings["engine"], cluster = take_ray(settings, "auto")
    request = TrackRequest(**settings, source=sources[0] if len(sources) == 1 else None)
    if request.detections is not None and (sources or sequences or cluster is not None):
        raise ConfigError("--detections holds one video, found already; leave the SOURCE, --sequences and --engine ray out")
    if sequences:
        folders = sequence_folders(request.source, named_sequences(sequences))
        return _track_many(request, folders, overrides, cluster, console)
    if len(sources) > 1 or cluster is not None or (sources and holds_videos(sources[0], request.out)):
        return _track_many(request, find_videos(sources, request.out), overrides, cluster, console)
    summary = run_track(request, overrides)
    for line in summary.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return INTERRUPTED if summary.interrupted else 0


def _track_many(
    request: TrackRequest, videos: dict[str, str], overrides: Settings, cluster: RayCluster | None, console: Console
) -> int:
    """Track a job's videos; a failed one is listed at the end and makes the exit status 1."""
    from tdtrack.batch import track_many
    from tdtrack.jobs.manifest import MANIFEST_FILE

    failed, incomplete = [], []
    for number, entry in enumerate(track_many(request, videos, overrides, cluster), start=1):
        name = f"{number}/{len(videos)} {entry['name']}"
        if entry["status"] == "failed":
            failed.append(entry)
            said = f"{name}: failed"
        else:
            incomplete += [entry] if entry["truncated"] is not None else []
            said = f"{name}: {entry['frames']} frames, {entry['detections']} detections, {entry['tracks']} tracks"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    done = len(videos) - len(failed)
    lines = [f"{done} of {len(videos)} videos tracked; {Path(request.out) / MANIFEST_FILE} says what became of each"]
    lines += [f"incomplete: {entry['name']}: {entry['truncated']}; what it holds was tracked" for entry in incomplete]
    lines += [f"failed: {entry['error']}" for entry in failed]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--gt", type=str, required=True, help="ground truth: a MOT sequence, a folder of them, or a data set of any layout"
    )
    parser.add_argument("--results", type=str, default=None, help="folder of MOT text files, one per sequence")
    parser.add_argument("--sequences", type=str, default="", help=_SEQUENCES_HELP)
    parser.add_argument(
        "--model", type=str, default=None, help="run folder or .safetensors file: measure its detections on --gt"
    )
    add_layout(parser)
    parser.add_argument("--store", type=str, default=None, help="embedding store of the data set to measure agreement with")
    add_skip_bad_boxes(parser)
    parser.add_argument("--json", type=str, default="", help="also write every number to this file")


def _evaluate(settings: Settings, console: Console) -> int:
    if settings["model"] is not None and settings["sequences"]:
        raise ConfigError("--sequences chooses among tracks; with --model pass --split for a part of the data set")
    if settings["model"] is not None and settings["results"] is not None:
        raise ConfigError("--results holds tracks, and --model detects; pass one of them")
    if settings["model"] is None and settings["split"]:
        raise ConfigError("--split is a part of a data set for --model; with --results pass --sequences")
    if settings["model"] is not None:
        from tdtrack.training.validate import evaluate_model

        how = {name: settings[name] for name in ("images", "store", "format", "split", "box")}
        report = evaluate_model(settings["model"], settings["gt"], **how, skip_bad=settings["skip_bad_boxes"])
        for line in report.lines():
            console.print(line, markup=False, highlight=False)
        numbers = report.to_dict()
    elif settings["results"] is not None:
        from tdtrack.benchmarks import named_sequences
        from tdtrack.evaluation.table import format_table
        from tdtrack.evaluation.tracking import evaluate_tracking

        sequences = named_sequences(settings["sequences"]) if settings["sequences"] else None
        tracking = evaluate_tracking(settings["gt"], settings["results"], sequences=sequences)
        print(format_table(tracking, width=console.width))
        numbers = tracking.to_dict()
    else:
        raise ConfigError("pass --results DIR to measure tracks, or --model M to measure a model's detections")
    if settings["json"]:
        write_json(Path(settings["json"]), numbers)
    return 0


def _submit_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("results", type=str, help="folder of MOT text files, or a .zip to check")
    parser.add_argument("--benchmark", type=str, required=True, help="MOT15, MOT16, MOT17 or MOT20")
    parser.add_argument("--split", type=str, default="test", help="test, train, or all for both")
    parser.add_argument("--out", type=str, default=None, help="zip to write; default: BENCHMARK-SPLIT.zip")


def _submit(settings: Settings, console: Console) -> int:
    from tdtrack.evaluation.submission import check_submission, write_submission

    results, benchmark, split = settings["results"], settings["benchmark"], settings["split"]
    if results.lower().endswith(".zip"):
        if settings["out"]:
            raise ConfigError(f"{results} is a zip, which is only checked; leave --out {settings['out']} out")
        submission = check_submission(results, benchmark, split=split)
    else:
        out = settings["out"] or f"{benchmark.upper()}-{split}.zip"
        submission = write_submission(results, benchmark, out, split=split)
    files, rows = len(submission.rows), sum(submission.rows.values())
    console.print(f"{submission.path}: {files} sequences, {rows} rows, ready for MOTChallenge", markup=False)
    return 0


VERBS = {
    "track": Verb("track a video, image folder, MOT sequence, camera or saved detections", _track_arguments, _track),
    "evaluate": Verb("MOTA, IDF1, HOTA of tracks; AP and embedding agreement of a model", _evaluate_arguments, _evaluate),
    "submit": Verb("write and check a MOTChallenge submission", _submit_arguments, _submit),
}
