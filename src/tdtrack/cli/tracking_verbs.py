"""Verbs that use a trained model, measure it and hand results in: track, evaluate, submit."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser
from rich.console import Console

from tdtrack.cli.parsing import INTERRUPTED, Settings, Verb, add_config, add_layout, add_teacher, write_json
from tdtrack.config import AssociationConfig
from tdtrack.errors import ConfigError

_SEQUENCES_HELP = "sequences of the folder, with commas between, or a set such as MOT15-val (the paper's), MOT17-train-FRCNN"


def _track_arguments(parser: ArgumentParser) -> None:
    add_config(parser, "tracking settings")
    parser.add_argument(
        "source", type=str, nargs="?", help="video file, image folder, MOT sequence, camera number or stream URL"
    )
    parser.add_argument("--model", type=str, default=None, help="run folder, .safetensors or .onnx file")
    parser.add_argument("--sequences", type=str, default="", help=_SEQUENCES_HELP)
    parser.add_argument(
        "--detections", type=str, default=None, help="saved detections instead of a source: .npz, MOT .txt, COCO .json"
    )
    parser.add_argument("--out", type=str, required=True, help="result folder; with --detections the MOT text file")
    parser.add_argument("--association", type=str, default=None, help="evidence (default), fairmot or motion")
    parser.add_argument("--offline", action="store_true", help="link, fill and smooth the finished tracks (text files)")
    parser.add_argument("--gallery", type=str, default=None, help="folder of known objects, NAME/*.jpg: who is which track")
    parser.add_argument("--enroll", action="store_true", help="add the tracks' looks to the gallery for other videos")
    add_teacher(parser, required=False)
    parser.add_argument(
        "--two-stage", action="store_true", help="embed crops with --teacher instead of the model's own embeddings"
    )
    parser.add_argument(
        "--engine", type=str, default="auto", help="auto, onnxruntime, openvino or torch; auto says which it took"
    )
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
    from tdtrack.benchmarks import named_sequences
    from tdtrack.track import TrackRequest, run_track, track_sequences

    overrides = dict(vars(settings.pop("tracker")))
    sequences = settings.pop("sequences")
    request = TrackRequest(**settings)
    if sequences:
        summaries = track_sequences(request, named_sequences(sequences), overrides)
    else:
        summaries = iter([("", run_track(request, overrides))])
    for _, summary in summaries:
        for line in summary.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if summary.interrupted:
            return INTERRUPTED
    return 0


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--gt", type=str, required=True, help="ground truth: a MOT sequence, a folder of them, or a data set of any layout"
    )
    parser.add_argument("--results", type=str, default=None, help="folder of MOT text files, one per sequence")
    parser.add_argument("--sequences", type=str, default="", help=_SEQUENCES_HELP)
    parser.add_argument("--model", type=str, default=None, help="the model whose detections on the data set are measured")
    add_layout(parser)
    parser.add_argument("--store", type=str, default=None, help="embedding store of the data set to measure agreement with")
    parser.add_argument("--skip-bad-boxes", action="store_true", help="drop what doctor reports instead of stopping")
    parser.add_argument("--json", type=str, default="", help="also write every number to this file")


def _evaluate(settings: Settings, console: Console) -> int:
    if settings["model"] is not None and settings["sequences"]:
        raise ConfigError("--sequences chooses among tracks; with --model pass --split for a part of the data set")
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
