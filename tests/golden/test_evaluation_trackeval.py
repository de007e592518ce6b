"""Tracking metrics against what TrackEval and py-motmetrics published for the same files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tdtrack.evaluation.tracking import TrackingReport, evaluate_tracking


def published(report: TrackingReport, name: str, column: str) -> float:
    """Return the value of one column of TrackEval's detailed CSV, for instance ``HOTA___50`` or ``HOTA___AUC``."""
    metric, _, overlap = column.partition("___")
    if not overlap or overlap == "AUC":
        return report.sequences[name][metric]
    curve = report.curves[name][metric]
    # TrackEval writes the percent cut off, so that 0.15 * 100 = 14.999... may be named 14.
    place = [int(100 * alpha) for alpha in np.arange(0.05, 0.99, 0.05)].index(int(overlap))
    return float(curve[place])


def test_mot17_equals_trackeval(shared_data: Path) -> None:
    folder = shared_data / "trackeval"
    report = evaluate_tracking(folder / "gt", folder / "results" / "Lif_T")
    with (folder / "expected-Lif_T.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("seq") for row in rows] == list(report.sequences) and len(rows) == 3
    compared = 0
    for name, row in zip(report.sequences, rows):
        for column, text in row.items():
            ours = published(report, name, column)
            counted_at_one_overlap = column.startswith(("HOTA_TP___", "HOTA_FP___", "HOTA_FN___")) and "AUC" not in column
            if isinstance(ours, int) or counted_at_one_overlap:
                assert ours == float(text), f"{name} {column}"
            else:
                assert ours == pytest.approx(float(text), abs=1e-6), f"{name} {column}"
            compared += 1
    assert compared == 3 * 275
    assert set(report.rules.values()) == {"mot17"}


@pytest.mark.parametrize(
    ("name", "idf1", "mota", "false_alarms", "misses", "switches"),
    [("TUD-Campus", 0.557659, 0.526462, 13, 150, 7), ("TUD-Stadtmitte", 0.644619, 0.564014, 45, 452, 7)],
)
def test_tud_equals_motmetrics(
    shared_data: Path, name: str, idf1: float, mota: float, false_alarms: int, misses: int, switches: int
) -> None:
    folder = shared_data / "trackeval" / "tud"
    for report in (evaluate_tracking(folder, folder), evaluate_tracking(folder / name, folder / name / "test.txt")):
        metrics = report.sequences[name]
        assert metrics["IDF1"] == pytest.approx(idf1, abs=1e-6)
        assert metrics["MOTA"] == pytest.approx(mota, abs=1e-6)
        assert [metrics[key] for key in ("CLR_FP", "CLR_FN", "IDSW")] == [false_alarms, misses, switches]


def test_ground_truth_of_every_kind_is_its_own_perfect_result(shared_data: Path) -> None:
    """MOT15, MOT17, ETH, KITTI and PETS files all load; the boxes that count, given back, are found without error."""
    seen = {}
    for gt in sorted((shared_data / "replay").glob("*/gt/gt.txt")):
        report = evaluate_tracking(gt.parents[1], gt, rules="flags")
        seen[gt.parents[1].name] = report
        assert report.overall["CLR_FN"] == 0, gt
        assert report.overall["GT_Dets"] > 0
    assert len(seen) == 8
    assert seen["MOT17-02"].overall["GT_Dets"] == 18581  # rows of pedestrians with flag 1
