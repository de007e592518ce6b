"""The paper's tables and figures as data: each row is what differs from the setting of Tab. 1, and what the paper measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["COLUMNS", "TABLES", "Column", "Comparison", "Data", "Row", "Table"]

Data = Literal["part", "base", "more"]
"""How much there is to learn from: a part of the BaseTrainSet, all of it, or CrowdHuman too (Sec. 4.1)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One measured number.

    Attributes:
        title: as printed.
        percent: a fraction, printed in percent.
        decimals: as printed.
    """

    title: str
    percent: bool = True
    decimals: int = 1


COLUMNS = {
    "MOTA": Column("MOTA"),
    "IDF1": Column("IDF1"),
    "HOTA": Column("HOTA"),
    "IDSW": Column("IDs", percent=False, decimals=0),
    "AP": Column("AP"),
    "fps": Column("FPS", percent=False, decimals=2),
    "cosine": Column("cosine", percent=False, decimals=3),
    "teacher_mAP": Column("teacher mAP"),
}
"""Everything a row can be asked for, by the name it has in results. ``cosine`` is the agreement with the teacher."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        label: the paper's name of it.
        paper: what the paper measured, by column; empty where it prints a picture only, or the row is ours.
        settings: dotted settings of ``TrainConfig`` that differ from Tab. 1's one-stage row.
        length: training length relative to that row.
        teacher: which of the paper's teachers it learns from (Tab. 3).
        data: what it learns from.
        two_stage: track with the teacher on crops instead of the model's own embeddings.
        normalised: with embeddings that ``tdtrack.calibrate.normalise_model`` mapped; not in the paper.
        paper_sequences: the paper's numbers of single sequences, by MOT15's name of them and column.
    """

    label: str
    paper: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    length: int = 1
    teacher: str = "ON-Large"
    data: Data = "base"
    two_stage: bool = False
    normalised: bool = False
    paper_sequences: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ratio that the paper's text draws a conclusion from: ``metric`` of row ``first`` over row ``second``."""

    metric: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table or figure.

    Attributes:
        title: what it is about.
        finding: what the paper concludes from it.
        columns: what is measured, keys of ``COLUMNS``.
        rows: the models.
        comparison: the ratio behind the finding.
        plot: the paper shows a picture.
        by_sequence: the paper also shows single sequences.
    """

    title: str
    finding: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    comparison: Comparison
    plot: bool = False
    by_sequence: bool = False


def _numbers(mota: float, idf1: float, switches: int, ap: float, fps: float | None = None) -> dict[str, float]:
    numbers = {"MOTA": mota, "IDF1": idf1, "IDSW": float(switches), "AP": ap}
    return numbers if fps is None else {**numbers, "fps": fps}


_ONE_STAGE = _numbers(0.785, 0.787, 57, 0.913, 9.61)  # the model that Tab. 1, 3, 5 and 6 share
_TRACKING = ("MOTA", "IDF1", "HOTA", "IDSW", "AP")

TABLES: dict[str, Table] = {
    "table1": Table(
        title="Tab. 1: one-stage tracking against two-stage",
        finding="one network tracks as well as detector and Re-ID network in sequence, and three times as fast",
        columns=(*_TRACKING, "fps", "cosine"),
        rows=(
            Row("Two-stage", _numbers(0.760, 0.769, 91, 0.924, 3.03), {"loss.embedding_weight": 0.0}, two_stage=True),
            Row("TDT-tracker", _ONE_STAGE),
            Row("TDT-tracker, normalised (ours)", normalised=True),
            Row("Two-stage on the TDT-tracker's boxes (ours)", two_stage=True),  # tells embeddings from detection
        ),
        comparison=Comparison("IDF1", "TDT-tracker", "Two-stage"),
    ),
    "table3": Table(
        title="Tab. 3: better teachers",
        finding="the better the teacher finds people again, the better the student tracks",
        columns=(*_TRACKING, "cosine", "teacher_mAP"),
        rows=(
            Row("ResNet50", {**_numbers(0.754, 0.764, 76, 0.902), "teacher_mAP": 0.228}, teacher="ResNet50"),
            Row("ON-Small", {**_numbers(0.763, 0.766, 76, 0.911), "teacher_mAP": 0.310}, teacher="ON-Small"),
            Row("ON-Large", {**_numbers(0.785, 0.787, 57, 0.913), "teacher_mAP": 0.433}),
        ),
        comparison=Comparison("MOTA", "ON-Large", "ResNet50"),
    ),
    "table4": Table(
        title="Tab. 4: learning from a teacher against learning from identities",
        finding="without identities the tracker comes close to FairMOT, which was trained with them",
        columns=_TRACKING,
        rows=(
            Row(
                "with identities",  # the paper's row is FairMOT itself; ours is the same network taught as FairMOT is
                {"AP": 0.932, "MOTA": 0.805},
                {
                    "loss.supervision": "identities",
                    "loss.embedding_weight": 1.0,
                    "optimizer.embedding_learning_rate_scale": 0.1,  # on walkers the best of 1, 0.1 and 0.01
                },
                data="more",
                paper_sequences={
                    "KITTI-13": {"AP": 0.796, "MOTA": 0.427},
                    "ETH-Sunnyday": {"AP": 0.997, "MOTA": 0.843},
                },
            ),
            Row(
                "TDT-RNet34",
                {"AP": 0.926, "MOTA": 0.784},
                data="more",
                paper_sequences={
                    "KITTI-13": {"AP": 0.792, "MOTA": 0.323},
                    "ETH-Sunnyday": {"AP": 0.984, "MOTA": 0.887},
                },
            ),
        ),
        comparison=Comparison("IDF1", "TDT-RNet34", "with identities"),
        by_sequence=True,
    ),
    "table5": Table(
        title="Tab. 5: backbones",
        finding="feature fusion helps tracking, and so does a stronger backbone up to ResNet-34",
        columns=(*_TRACKING, "fps", "cosine"),
        rows=(
            Row(
                "MNet",
                _numbers(0.744, 0.747, 72, 0.907, 11.18),
                {"model.backbone": "mobilenetv1_100", "model.pyramid": "lateral"},
            ),
            Row("MNet-FPN", _numbers(0.764, 0.759, 73, 0.910, 10.01), {"model.backbone": "mobilenetv1_100"}),
            Row("RNet34-FPN", _ONE_STAGE, {"model.backbone": "resnet34"}),
            Row("RNet50-FPN", _numbers(0.757, 0.786, 58, 0.912, 7.93), {"model.backbone": "resnet50"}),
        ),
        comparison=Comparison("MOTA", "MNet-FPN", "MNet"),
    ),
    "table6": Table(
        title="Tab. 6: how much of the teacher's embedding",
        finding="an eighth of the embedding keeps 98.1 % of the IDF1",
        columns=(*_TRACKING, "fps", "cosine"),
        rows=(
            Row("64", _numbers(0.739, 0.772, 67, 0.902, 13.34), {"model.embedding_dim": 64}),
            Row("128", _numbers(0.773, 0.782, 55, 0.908, 11.82), {"model.embedding_dim": 128}),
            Row("256", _numbers(0.762, 0.777, 63, 0.910, 10.76), {"model.embedding_dim": 256}),
            Row("512", _ONE_STAGE, {"model.embedding_dim": 512}),
            Row("64 principal (ours)", settings={"model.embedding_dim": 64, "model.embedding_target": "pca"}),
        ),
        comparison=Comparison("IDF1", "64", "512"),
    ),
    "fig5": Table(
        title="Fig. 5: more training data",
        finding="tracking improves as more data sets are annotated by the teacher",
        columns=(*_TRACKING, "cosine"),
        rows=(Row("part of it", data="part"), Row("BaseTrainSet", _ONE_STAGE), Row("and CrowdHuman", data="more")),
        comparison=Comparison("IDF1", "and CrowdHuman", "part of it"),
        plot=True,
    ),
    "fig6": Table(
        title="Fig. 6: training time, weight of the embedding loss, pyramid levels",
        finding="none of the three matters much",
        columns=(*_TRACKING, "cosine"),
        rows=(
            Row("1: alpha_e 2", settings={"loss.embedding_weight": 2.0}),
            Row("2: alpha_e 2, twice as long", settings={"loss.embedding_weight": 2.0}, length=2),
            Row("3: alpha_e 10", settings={"loss.embedding_weight": 10.0}),
            Row(
                "4: alpha_e 10, levels 2 to 6",
                settings={"loss.embedding_weight": 10.0, "model.min_level": 2, "model.max_level": 6},
            ),
        ),
        comparison=Comparison("MOTA", "2: alpha_e 2, twice as long", "1: alpha_e 2"),
        plot=True,
    ),
}
"""By the name the command takes.

Source:
    Tab. 1, 3, 4, 5, 6, Fig. 5, 6 and Supp. B. Figures 5 and 6 print no numbers and no settings beyond the text: that Fig. 5's
    three models see a part, all of the BaseTrainSet, and CrowdHuman too, and what the four groups of Fig. 6 are, is our
    reading of Sec. 4.4.4 and Supp. B. That Tab. 1's detector alone has the same network with an idle third head is ours.
"""
