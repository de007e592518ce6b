"""The tables that docs/paper.md prints are those of the result files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="reproduce needs the extra tdtrack[train]")

from tdtrack.reproduce.pages import markdown
from tdtrack.reproduce.results import TableResult

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "benchmarks" / "results").glob("reproduce-*--2-core-x86_64.json"))


def test_there_are_records() -> None:
    assert "reproduce-table1--2-core-x86_64" in [path.stem for path in RECORDS]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_the_docs_print_every_row_of_a_record(path: Path) -> None:
    record = json.loads(path.read_text())["results"]
    measured = {row["label"]: row["ours"] for row in record["rows"]}
    page = markdown(TableResult(record["table"], measured)).splitlines()
    docs = (ROOT / "docs" / "paper.md").read_text().splitlines()
    rows = [line for line in page if line.startswith("| ") and line.split("|")[1].strip() in ("", *measured)]
    assert len(rows) == len(measured) + 1 and not (set(rows) - set(docs)), set(rows) - set(docs)
    assert f"benchmarks/results/{path.name}" in "".join(docs), "and say where they are from"


def test_the_docs_print_the_floors_of_table_1() -> None:
    path = ROOT / "benchmarks" / "results" / "score-floors--2-core-x86_64.json"
    docs = (ROOT / "docs" / "paper.md").read_text()
    for label, row in json.loads(path.read_text())["results"]["mean IDF1"].items():
        cells = [f"{100 * row[floor]:.1f}" for floor in ("0.3", "0.4", "0.5", "0.6", "own")]
        assert f"| {' | '.join([label, *cells])} |" in docs.splitlines()
    assert f"benchmarks/results/{path.name}" in docs


def test_the_docs_print_what_the_teacher_reaches_on_the_boxes_of_table_5() -> None:
    path = ROOT / "benchmarks" / "results" / "teacher-on-boxes-table5--2-core-x86_64.json"
    docs = (ROOT / "docs" / "paper.md").read_text()
    for label, row in json.loads(path.read_text())["results"].items():
        cells = [f"{100 * row[whose]['mean'][metric]:.1f}" for whose in ("own", "teacher's") for metric in ("MOTA", "IDF1")]
        assert f"| {' | '.join([label, *cells])} |" in docs.splitlines()
    assert f"benchmarks/results/{path.name}" in docs
