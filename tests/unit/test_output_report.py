"""The HTML page and the training curves."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from tdtrack.errors import DataError, MissingExtraError, OutputError, ShapeError
from tdtrack.output.plots import plot_training
from tdtrack.output.report import Bars, Commands, Figure, Number, Section, Table, Text, Video, write_html_report

NASTY = """<script>alert("1 & 2")</script> 'x' {y}"""
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Reads a page back: tags in order, text, attributes; refuses tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and data.strip():
            self.words.append(data)


def test_page_shows_every_block(tmp_path: Path) -> None:
    picture, video = tmp_path / "media" / "täg #1.png", tmp_path / "tracks & more.mp4"
    picture.parent.mkdir()
    picture.write_bytes(b"")
    video.write_bytes(b"")
    blocks = [
        Text("A paragraph"),
        Table(["", "IDF1"], [["motion only", "69.3"], ["one-stage", "78.4"]], "A table", highlight=1),
        Bars([("train", 20.0, "20 s"), ("track", 5.0, "5 s")], "Times"),
        Figure(picture, "Curves"),
        Video(video, "People"),
        Commands("tdtrack demo\n", "Again"),
    ]
    path = write_html_report(
        tmp_path / "report.html",
        title="Title",
        summary="Summary",
        numbers=[Number("IDF1", "78.4 %", "one-stage")],
        sections=[Section("Part", blocks)],
        notes=["tdtrack 0.1.0"],
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    for words in (
        "Title",
        "Summary",
        "78.4 %",
        "Part",
        "A paragraph",
        "motion only",
        "A table",
        "20 s",
        "Curves",
        "tdtrack demo",
    ):
        assert words in page.words
    assert {"table", "img", "video", "pre", "footer"} <= set(page.tags)
    assert text.count('<tr class="highlight"><th scope="row">one-stage</th>') == 1
    assert "width:100.0%" in text and "width:25.0%" in text
    linked = {(tmp_path / unquote(urlsplit(link).path)).resolve() for link in page.links}
    assert linked == {picture, video}
    assert not any(urlsplit(link).scheme or Path(urlsplit(link).path).is_absolute() for link in page.links)


def test_text_is_escaped_everywhere(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"")
    blocks = [
        Text(NASTY),
        Table([NASTY, NASTY], [[NASTY, NASTY]], NASTY),
        Bars([(NASTY, 0.0, NASTY)], NASTY),
        Figure(picture, NASTY),
        Video(picture, NASTY),
        Commands(NASTY, NASTY),
    ]
    path = write_html_report(
        tmp_path / "r.html",
        title=NASTY,
        summary=NASTY,
        numbers=[Number(NASTY, NASTY, NASTY)],
        sections=[Section(NASTY, blocks)],
        notes=[NASTY],
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.words.count(NASTY) == 21


def test_page_without_anything(tmp_path: Path) -> None:
    page = Page(write_html_report(tmp_path / "new" / "r.html", title="T", summary="S").read_text())
    assert page.words == ["T", "tdtrack", "T", "S"]


def test_a_missing_picture_is_refused_and_no_page_is_left(tmp_path: Path) -> None:
    section = Section("Part", [Figure(tmp_path / "none.png", "")])
    with pytest.raises(OutputError, match=r"none\.png, which is not there"):
        write_html_report(tmp_path / "r.html", title="T", summary="S", sections=[section])
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"2 columns .* row of 1 cells"):
        write_html_report(tmp_path / "r.html", title="T", summary="S", sections=[Section("P", [Table(["", "a"], [["x"]])])])


def test_a_page_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*r\.html"):
        write_html_report(tmp_path / "file" / "r.html", title="T", summary="S")


# ------------------------------------------------------------------------------------------------------------ curves


def table(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
        assert pixels.min() < 100 and pixels.max() == 255  # something is drawn, on white
        return image.size


def test_curves_of_a_whole_run(tmp_path: Path) -> None:
    header = "step,learning_rate,loss,class_loss,box_loss,embedding_loss,gradient_norm,positives,val_ap50,val_cosine"
    rows = []
    for step in range(5, 505, 5):
        quality = "0.5,0.8" if step % 50 == 0 else ","
        rows.append(f"{step},0.01,9,{100 / step},0.02,{1 + 1 / step},1,50,{quality}")
    out = plot_training(table(tmp_path / "metrics.csv", header, *rows), tmp_path / "plots" / "training.png", title="A run")
    assert size(out) == (1920, int(160 * (2 * 2.6 + 0.4)))


@pytest.mark.parametrize(
    ("header", "row", "width"), [("step,val_ap50", "10,0.4", 640), ("step,box_loss,learning_rate", "1,0.5,", 640)]
)
def test_what_was_not_logged_gets_no_panel(tmp_path: Path, header: str, row: str, width: int) -> None:
    assert size(plot_training(table(tmp_path / "m.csv", header, row), tmp_path / "m.png"))[0] == width


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("step,box_loss", "10,", "no numbers under any of class_loss"),
        ("step,other", "10,1", "no numbers under any of class_loss"),
        ("iteration,box_loss", "10,1", "no column named step"),
        ("step,box_loss", "10,low", r"m\.csv:2: .*'low'"),
        ("step,box_loss", ",1", r"m\.csv:2: "),
    ],
)
def test_a_table_that_cannot_be_drawn_is_named(tmp_path: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plot_training(table(tmp_path / "m.csv", header, row), tmp_path / "m.png")
    assert not (tmp_path / "m.png").exists()


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.csv: No such file"):
        plot_training(tmp_path / "none.csv", tmp_path / "m.png")


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*tdtrack\[train\]"):
        plot_training(table(tmp_path / "m.csv", "step,box_loss", "1,2"), tmp_path / "m.png")
