"""CLEAR, IDF1 and HOTA of MOT text files, through TrackEval."""

from __future__ import annotations

import configparser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tdtrack.benchmarks import scene_of
from tdtrack.boxes import iou, tlwh_to_xyxy
from tdtrack.errors import ConfigError, DataError, MissingExtraError
from tdtrack.evaluation.rows import Rows, is_mot_text, read_rows
from tdtrack.types import IntArray

__all__ = ["Rules", "TrackingReport", "evaluate_tracking"]

Rules = Literal["auto", "mot17", "mot20", "flags"]
"""What of a sequence's ground truth counts.

- ``mot17``: the rules of MOT16 and MOT17. Pedestrians with flag 1 count; a result that covers a person on a vehicle, a static
  person, a distractor or a reflection is dropped before anything is counted.
- ``mot20``: the same, non-motorised vehicles dropped too.
- ``flags``: the rules of MOT15. Every row with a flag other than 0 counts, nothing else is dropped.
- ``auto``: ``mot20`` for sequences named ``MOT20-...``, else ``mot17`` where the ground truth has MOT16's 9 columns with a
  class, else ``flags``.
"""

_BENCHMARK = {"mot17": "MOT17", "mot20": "MOT20", "flags": "MOT15"}
_MAX_FRAMES = 999_999  # of a sequence, as in training data: TrackEval keeps several arrays for every frame
_CLASSES = range(1, 14)  # MOT16's: 1 pedestrian, 2 person on vehicle, ... 12 reflection, 13 crowd
_PEDESTRIAN = 1
_COUNTS = frozenset(  # TrackEval returns some of them as floats
    {"CLR_TP", "CLR_FN", "CLR_FP", "CLR_Frames", "IDSW", "MT", "PT", "ML", "Frag", "IDTP", "IDFN", "IDFP"}
    | {"Dets", "GT_Dets", "IDs", "GT_IDs", "Frames"}
)


@dataclass(frozen=True, slots=True, eq=False)
class TrackingReport:
    """Metrics by TrackEval's names: fractions are fractions, counts are ``int``.

    Attributes:
        overall: all sequences taken together, which is not the mean over them.
        sequences: the same metrics for every sequence, in order of name. HOTA's are means over its 19 overlaps.
        curves: for every sequence and for "OVERALL", HOTA's metrics at overlaps 0.05, 0.10 ... 0.95, each ``(19,)`` float64.
        rules: for every sequence, which rules said what counts.
    """

    overall: dict[str, float]
    sequences: dict[str, dict[str, float]]
    curves: dict[str, dict[str, NDArray[np.float64]]]
    rules: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers, lists and strings, ready for JSON."""
        curves = {
            name: {metric: values.tolist() for metric, values in metrics.items()} for name, metrics in self.curves.items()
        }
        return {
            "overall": dict(self.overall),
            "sequences": {name: dict(metrics) for name, metrics in self.sequences.items()},
            "curves": curves,
            "rules": dict(self.rules),
        }


def evaluate_tracking(
    gt_dir: Path | str, results_dir: Path | str, *, sequences: Sequence[str] | None = None, rules: Rules = "auto"
) -> TrackingReport:
    """Compare tracking results with ground truth.

    Args:
        gt_dir: a sequence folder (``gt/gt.txt`` or ``gt.txt`` inside) or a folder of them. ``seqinfo.ini`` gives the length;
            without it the last frame of either file does. A sequence may have 999,999 frames.
        results_dir: holds ``SEQ.txt``, ``data/SEQ.txt``, ``SEQ/test.txt``, ``SEQ/tracks.txt`` or ``SEQ/SEQ.txt`` for every
            sequence. ``MOT17-02.txt`` stands in for those copies of that scene (DPM, FRCNN, SDP) that have no file. With a
            single sequence it may also be the file itself, or a folder with ``test.txt`` or ``tracks.txt``.
        sequences: names of the sequences to evaluate; ``None`` is all.
        rules: what of the ground truth counts.

    Returns:
        The report.

    Raises:
        DataError: a folder, sequence or file is missing, results have no ground truth, or a line is not as it should be;
            names the file and line.
        ConfigError: ``rules`` is not one of the known names.
        MissingExtraError: TrackEval is not installed.

    Source:
        Sec. 4.1 (CLEAR, IDF1). HOTA is our addition, as the field has moved to it.
    """
    if rules not in get_args(Rules):
        raise ConfigError(f"rules is {rules!r}; it must be one of {', '.join(get_args(Rules))}")
    pairs = _pair_files(Path(gt_dir), Path(results_dir), sequences)
    metrics = _metrics()
    by_metric: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in metrics}
    used: dict[str, str] = {}
    for folder, (gt_path, result_path) in pairs.items():
        truth, result = read_rows(gt_path), read_rows(result_path)
        used[folder.name] = _rules_of(folder.name, truth) if rules == "auto" else rules
        data = _sequence_data(folder, truth, result, used[folder.name])
        for name, metric in metrics.items():
            values = metric.eval_sequence(data)
            if name == "CLEAR":  # left at 0 when there are no results, which would make false alarms per frame too high overall
                values["CLR_Frames"] = data["num_timesteps"]
            by_metric[name][folder.name] = values
    combined = {name: metric.combine_sequences(by_metric[name]) for name, metric in metrics.items()}
    combined["Count"]["Frames"] = sum(values["Frames"] for values in by_metric["Count"].values())
    raw = {name: [by_metric[metric][name] for metric in metrics] for name in used}
    curves = {name: _curves(values) for name, values in {**raw, "OVERALL": list(combined.values())}.items()}
    return TrackingReport(
        overall=_scalars(list(combined.values())),
        sequences={name: _scalars(values) for name, values in raw.items()},
        curves=curves,
        rules=used,
    )


def _metrics() -> dict[str, Any]:
    try:
        from trackeval import metrics
    except ImportError as error:
        raise MissingExtraError("trackeval", "eval", "measuring tracks") from error
    quiet = {"PRINT_CONFIG": False}
    return {
        "HOTA": metrics.HOTA(),
        "CLEAR": metrics.CLEAR(dict(quiet)),
        "Identity": metrics.Identity(dict(quiet)),
        "Count": metrics.Count(),
    }


def _scalars(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Take the plain numbers, and the mean of every curve; counts stay ``int``."""
    scalars: dict[str, float] = {}
    for values in results:
        for name, value in values.items():
            if isinstance(value, np.ndarray) and value.ndim:
                scalars[name] = float(value.mean())
            else:
                scalars[name] = int(value) if name in _COUNTS else float(value)
    return scalars


def _curves(results: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    return {
        name: np.asarray(value, np.float64)
        for values in results
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.ndim
    }


# ------------------------------------------------------------------------------------------------------------- files


def _pair_files(gt_dir: Path, results: Path, names: Sequence[str] | None) -> dict[Path, tuple[Path, Path]]:
    """Find ground truth and results of every sequence, in order of name."""
    if not gt_dir.is_dir():
        raise DataError(f"{gt_dir} is not a folder; pass a MOT sequence or a folder of them as ground truth")
    if not results.exists():
        raise DataError(f"{results} does not exist; pass the folder that holds the results")
    gt_dir = gt_dir.resolve()
    if gt_dir.name == "gt" and (gt_dir / "gt.txt").is_file():  # the folder inside a sequence was meant as the sequence
        gt_dir = gt_dir.parent
    single = _gt_file(gt_dir) is not None
    folders = [gt_dir] if single else sorted(child for child in gt_dir.iterdir() if child.is_dir() and _gt_file(child))
    if not folders:
        raise DataError(f"{gt_dir} holds no ground truth; expected gt/gt.txt in it or in its subfolders")
    known = [folder.name for folder in folders]
    if names is None:
        if not single:
            _refuse_strangers(results, known, gt_dir)
    else:
        missing = [name for name in names if name not in known]
        if missing:
            raise DataError(f"{gt_dir} has no sequence {', '.join(missing)}; it has {', '.join(known)}")
        folders = [folder for folder in folders if folder.name in names]
    return {folder: (_gt_file(folder) or folder, _result_file(results, folder.name, alone=single)) for folder in folders}


def _gt_file(folder: Path) -> Path | None:
    return next((path for path in (folder / "gt" / "gt.txt", folder / "gt.txt") if path.is_file()), None)


def _result_file(results: Path, name: str, *, alone: bool) -> Path:
    if results.is_file():
        if alone:
            return results
        raise DataError(f"{results} is one file, but the ground truth is a folder of sequences; pass a folder of results")
    places = [f"{name}.txt", f"data/{name}.txt", f"{name}/test.txt", f"{name}/tracks.txt", f"{name}/{name}.txt"]
    places += [f"{scene_of(name)}.txt", f"data/{scene_of(name)}.txt"] if scene_of(name) != name else []
    places += ["test.txt", "tracks.txt"] if alone else []
    for place in places:
        if (results / place).is_file():
            return results / place
    raise DataError(f"{results} holds no results for sequence {name}; expected {', '.join(places[:-1])} or {places[-1]}")


def _refuse_strangers(results: Path, known: Sequence[str], gt_dir: Path) -> None:
    """Refuse results without ground truth: left out in silence, they would make a report look complete."""
    candidates = sorted([*results.glob("*.txt"), *results.glob("data/*.txt")]) if results.is_dir() else []
    for path in candidates:
        if path.stem not in known and path.stem not in map(scene_of, known) and is_mot_text(path):
            raise DataError(
                f"{path} has no ground truth: {gt_dir} has no sequence {path.stem}; remove it or name the sequences"
            )


def _length(folder: Path, truth: Rows, result: Rows) -> int:
    """Number of frames; refuse rows beyond it."""
    info = folder / "seqinfo.ini"
    stated = _stated_length(info) if info.is_file() else None
    most = _MAX_FRAMES if stated is None else stated
    why = "a sequence may have; mend the line, or split the sequence" if stated is None else f"{info} states; mend either"
    for rows in (truth, result):
        beyond = np.flatnonzero(rows.frame > most)
        if len(beyond):
            row = int(beyond[0])
            raise DataError(f"{rows.where(row)}: frame {rows.frame[row]} is beyond the {most} frames that {why}")
    return int(max([*truth.frame, *result.frame], default=1)) if stated is None else stated


def _stated_length(info: Path) -> int:
    """Read the number of frames by the rules of data's ``seqinfo.ini``, of which evaluation needs no other key."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(info.read_text(encoding="utf-8-sig"), str(info))
        text = parser.get("Sequence", "seqLength")
        length = float(text)
    except (configparser.Error, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{info}: no whole number under seqLength of [Sequence] ({reason}); mend or remove the file") from error
    if not 1 <= length <= _MAX_FRAMES or length % 1:
        raise DataError(
            f"{info}: seqLength is {text!r}; it must be a whole number from 1 to {_MAX_FRAMES}, mend or remove the file"
        )
    return int(length)


# ------------------------------------------------------------------------------------------------------------- rules


def _rules_of(name: str, truth: Rows) -> str:
    if truth.columns not in (8, 9) or (truth.class_id == -1).all():
        return "flags"
    return "mot20" if name.startswith("MOT20-") else "mot17"


def _sequence_data(folder: Path, truth: Rows, result: Rows, rules: str) -> Any:
    """Build what TrackEval's metrics read, its own ignore rules applied."""
    from trackeval.datasets import MotChallenge2DBox
    from trackeval.utils import TrackEvalException

    if rules != "flags":
        _check_classes(truth, result)
    length = _length(folder, truth, result)
    raw: dict[str, Any] = {"seq": folder.name, "num_timesteps": length}
    raw["gt_dets"], raw["gt_ids"], raw["gt_classes"], flags = _by_frame(
        truth.frame, length, truth.tlwh, _labels(truth), truth.class_id, truth.flag
    )
    raw["gt_extras"] = [{"zero_marked": (flag != 0).astype(np.int64)} for flag in flags]
    raw["tracker_dets"], raw["tracker_ids"], raw["tracker_classes"], raw["tracker_confidences"] = _by_frame(
        result.frame, length, result.tlwh, _labels(result), np.full(len(result.line), _PEDESTRIAN), result.flag
    )
    raw["similarity_scores"] = [
        iou(tlwh_to_xyxy(boxes), tlwh_to_xyxy(found)) for boxes, found in zip(raw["gt_dets"], raw["tracker_dets"])
    ]
    # Given a length, a file that exists and no trackers, it looks for none of its folders.
    dataset = MotChallenge2DBox(
        {
            "BENCHMARK": _BENCHMARK[rules],
            "GT_LOC_FORMAT": str(truth.path).replace("{", "{{").replace("}", "}}"),
            "SEQ_INFO": {folder.name: length},
            "TRACKERS_TO_EVAL": [],
            "SKIP_SPLIT_FOL": True,
            "PRINT_CONFIG": False,
        }
    )
    try:
        return dataset.get_preprocessed_seq_data(raw, "pedestrian")
    except TrackEvalException as error:
        raise DataError(f"{truth.path}: TrackEval refuses the sequence: {' '.join(str(error).split())}") from error


def _labels(rows: Rows) -> IntArray:
    """Number the ids from 0: TrackEval keeps a table as long as the largest, whatever the file holds."""
    return np.unique(rows.track_id, return_inverse=True)[1].astype(np.int64)


def _check_classes(truth: Rows, result: Rows) -> None:
    strange = np.flatnonzero(~np.isin(truth.class_id, _CLASSES))
    if len(strange):
        row = int(strange[0])
        raise DataError(
            f"{truth.where(row)}: class {truth.class_id[row]} is not one of MOT's classes 1 to 13; "
            "mend the column or evaluate by flags alone"
        )
    other = np.flatnonzero(result.class_id > _PEDESTRIAN)
    if len(other):
        row = int(other[0])
        raise DataError(
            f"{result.where(row)}: class {result.class_id[row]}, but only pedestrians (1, or -1 for unknown) are "
            "evaluated; remove the other rows"
        )


def _by_frame(frame: IntArray, length: int, *columns: NDArray[Any]) -> list[list[NDArray[Any]]]:
    """Split every column into one array per frame, rows in the file's order."""
    order = np.argsort(frame, kind="stable")
    edges = np.searchsorted(frame[order], np.arange(2, length + 1))
    return [np.split(column[order], edges) for column in columns]
