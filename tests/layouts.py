"""Small data sets in every published layout, written as their authors publish them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import scipy.io

WIDTH, HEIGHT = 100, 80


class Box(NamedTuple):
    """A person, or with ``ignore`` a region that is none."""

    left: float
    top: float
    width: float
    height: float
    ignore: bool = False


Boxes = Sequence[Sequence[Box]]
"""The boxes of each image."""


@dataclass(frozen=True)
class Layout:
    """How to write one layout: ``write(root, boxes, first_id)`` returns the path to load."""

    write: Callable[[Path, Boxes, int], Path]
    ignores: bool = True
    identities: bool = False
    record: str = "1"  # how the first record of the first image is called in messages


@cache
def picture(suffix: str = ".jpg") -> bytes:
    content = io.BytesIO()
    PIL.Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(content, "JPEG" if suffix == ".jpg" else "PNG")
    return content.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        path.write_bytes(content)
    return path


def matlab_cell(values: Sequence[object], shape: tuple[int, int]) -> np.ndarray:
    cell = np.empty(shape, object)
    for index, value in enumerate(values):
        cell.ravel()[index] = value
    return cell


def matlab_structs(records: Sequence[dict[str, object]]) -> np.ndarray:
    """A 1xN struct array; an empty matrix where there are none, as MATLAB leaves it."""
    if not records:
        return np.zeros((0, 0))
    array = np.empty((1, len(records)), [(name, object) for name in records[0]])
    for index, record in enumerate(records):
        array[0, index] = tuple(record.values())
    return array


def write_coco(root: Path, boxes: Boxes, first_id: int) -> Path:
    images, annotations = [], []
    for number, people in enumerate(boxes, start=1):
        put(root / "images" / f"{number}.jpg", picture())
        images.append({"id": number, "file_name": f"{number}.jpg"})
        for box in people:
            record = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append(record | {"bbox": list(box[:4]), "iscrowd": int(box.ignore)})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    return put(root / "train.json", json.dumps(content))


def write_mot(root: Path, boxes: Boxes, first_id: int) -> Path:
    lines = []
    for frame, people in enumerate(boxes, start=1):
        put(root / "seq" / "img1" / f"{frame:06d}.jpg", picture())
        for number, box in enumerate(people):
            left, top, width, height = box[:4]
            lines.append(f"{frame},{first_id + number},{left},{top},{width},{height},1,{7 if box.ignore else 1},1\n")
    put(root / "seq" / "gt" / "gt.txt", "".join(lines))
    size = f"imWidth={WIDTH}\nimHeight={HEIGHT}\n"
    put(root / "seq" / "seqinfo.ini", f"[Sequence]\nname=seq\nframeRate=25\nseqLength={len(boxes)}\n{size}")
    return root


def write_crowdhuman(root: Path, boxes: Boxes, first_id: int) -> Path:
    lines = []
    for number, people in enumerate(boxes, start=1):
        put(root / "Images" / f"27{number},c9db.jpg", picture())
        records = []
        for index, box in enumerate(people):
            left, top, width, height = box[:4]
            record = {"tag": "mask" if box.ignore else "person", "fbox": [left, top, width, height]}
            record |= {"vbox": [left, top, width, height / 2], "hbox": [left, top, width, height / 4]}
            records.append(record | {"extra": {"box_id": index, "occ": 0}, "head_attr": {"ignore": 0, "occ": 0, "unsure": 0}})
        lines.append(json.dumps({"ID": f"27{number},c9db", "gtboxes": records}))
    return put(root / "annotation_train.odgt", "\n".join(lines) + "\n")


def write_citypersons(root: Path, boxes: Boxes, first_id: int) -> Path:
    records = []
    for number, people in enumerate(boxes, start=1):
        name = f"aachen_{number:06d}_000019_leftImg8bit.png"
        put(root / "leftImg8bit" / "train" / "aachen" / name, picture(".png"))
        table = np.zeros((len(people), 10))
        for row, box in enumerate(people):
            left, top, width, height = box[:4]
            table[row] = [5 if box.ignore else 1, left, top, width, height, first_id + row, left, top, width, height / 2]
        records.append({"cityname": "aachen", "im_name": name, "bbs": table})
    (root / "annotations").mkdir(parents=True)
    path = root / "annotations" / "anno_train.mat"
    scipy.io.savemat(path, {"anno_train_aligned": matlab_cell(records, (1, len(records)))})
    return path


def write_caltech(root: Path, boxes: Boxes, first_id: int) -> Path:
    most = first_id + max((len(people) for people in boxes), default=0) * 2
    lists = []
    for frame, people in enumerate(boxes):
        put(root / "images" / "set00" / "V000" / f"I{frame:05d}.jpg", picture())
        records = []
        for number, box in enumerate(people):
            left, top, width, height = box[:4]
            # Ids are of people or of groups: even ones are groups here.
            identity = 2 * ((first_id + 1) // 2 + number) - (0 if box.ignore else 1)
            record = {"id": identity, "pos": np.array([[left, top, width, height]]), "occl": 1, "lock": 0}
            records.append(record | {"posv": np.array([[left, top, width, height / 2]])})
        lists.append(matlab_structs(records))
    labels = ["people" if identity % 2 == 0 else "person" for identity in range(1, most + 2)]
    content = {"nFrame": len(boxes), "objLists": matlab_cell(lists, (1, len(boxes))), "maxObj": len(labels)}
    content |= {"objLbl": matlab_cell(labels, (1, len(labels))), "altered": 0, "log": 0.0, "logLen": 0}
    (root / "annotations" / "set00").mkdir(parents=True)
    path = root / "annotations" / "set00" / "V000.vbb"
    scipy.io.savemat(path, {"A": content, "vers": 1.4}, appendmat=False)
    return root


def write_eth(root: Path, boxes: Boxes, first_id: int) -> Path:
    lines = []
    for number, people in enumerate(boxes, start=1):
        put(root / "left" / f"image_{number:08d}_0.png", picture(".png"))
        corners = []
        for index, (left, top, width, height, _) in enumerate(people):
            upside_down = index % 2  # as some published boxes are
            top, bottom = (top + height, top) if upside_down else (top, top + height)
            corners.append((left, top, left + width, bottom))
        said = ", ".join(f"({', '.join(f'{side:g}' for side in corner)}):-1" for corner in corners)
        lines.append(f'"left/image_{number:08d}.png"{": " if said else ""}{said};')
    return put(root / "annotations.idl", "\n".join(lines).removesuffix(";") + ".\n")


def write_cuhk_sysu(root: Path, boxes: Boxes, first_id: int) -> Path:
    records = []
    for number, people in enumerate(boxes, start=1):
        put(root / "Image" / "SSM" / f"s{number}.jpg", picture())
        found = [{"idlocate": np.array([box[:4]]), "ishard": 0} for box in people]
        records.append({"imname": f"s{number}.jpg", "nAppear": len(people), "box": matlab_structs(found)})
    put(root / "Image" / "SSM" / "s9999.jpg", picture())
    gallery = {
        "imname": "s9999.jpg",
        "nAppear": 1,
        "box": matlab_structs([{"idlocate": np.array([[1, 1, 5, 5]]), "ishard": 0}]),
    }
    (root / "annotation").mkdir(parents=True)
    scipy.io.savemat(root / "annotation" / "Images.mat", {"Img": matlab_structs([*records, gallery])})
    scipy.io.savemat(root / "annotation" / "pool.mat", {"pool": matlab_cell(["s9999.jpg"], (1, 1))})
    return root


def write_prw(root: Path, boxes: Boxes, first_id: int) -> Path:
    (root / "annotations").mkdir(parents=True)
    variables = ("box_new", "anno_file", "anno_previous")
    for number, people in enumerate([*boxes, [Box(1, 1, 5, 5)]], start=1):
        put(root / "frames" / f"c1s1_{number:06d}.jpg", picture())
        table = np.array([[first_id + row, *box[:4]] for row, box in enumerate(people)]).reshape(-1, 5)
        path = root / "annotations" / f"c1s1_{number:06d}.jpg.mat"
        scipy.io.savemat(path, {variables[number % 3]: table}, appendmat=False)
    names = [f"c1s1_{number:06d}" for number in range(1, len(boxes) + 2)]
    for split, chosen in (("train", names[:-1]), ("test", names[-1:])):
        scipy.io.savemat(root / f"frame_{split}.mat", {f"img_index_{split}": matlab_cell(chosen, (len(chosen), 1))})
    return root


def fractions(box: Box) -> str:
    centre = ((box.left + box.width / 2) / WIDTH, (box.top + box.height / 2) / HEIGHT)
    return " ".join(repr(side) for side in (*centre, box.width / WIDTH, box.height / HEIGHT))


def write_yolo(root: Path, boxes: Boxes, first_id: int) -> Path:
    for number, people in enumerate(boxes, start=1):
        put(root / "images" / "train" / f"{number:06d}.jpg", picture())
        put(root / "labels" / "train" / f"{number:06d}.txt", "".join(f"0 {fractions(box)}\n" for box in people))
    return put(root / "data.yaml", "train: images/train\nval: images/val\nnames: {0: person, 1: dog}\n")


def write_jde(root: Path, boxes: Boxes, first_id: int) -> Path:
    for number, people in enumerate(boxes, start=1):
        put(root / "set" / "images" / "train" / f"{number:06d}.png", picture(".png"))
        rows = [f"0 {first_id + index} {fractions(box)}\n" for index, box in enumerate(people)]
        put(root / "set" / "labels_with_ids" / "train" / f"{number:06d}.txt", "".join(rows))
    return root


def write_visdrone(root: Path, boxes: Boxes, first_id: int) -> Path:
    for number, people in enumerate(boxes, start=1):
        put(root / "images" / f"{number:07d}.jpg", picture())
        rows = [",".join(map(str, (*box[:4], int(not box.ignore), 0 if box.ignore else 1, 0, 0))) for box in people]
        put(root / "annotations" / f"{number:07d}.txt", "".join(f"{row}\n" for row in rows))
    return root


def write_visdrone_video(root: Path, boxes: Boxes, first_id: int) -> Path:
    rows = []
    for frame, people in enumerate(boxes, start=1):
        put(root / "sequences" / "uav01" / f"{frame:07d}.jpg", picture())
        for number, box in enumerate(people):
            fields = (frame, first_id + number, *box[:4], int(not box.ignore), 0 if box.ignore else 1, 0, 0)
            rows.append(",".join(map(str, fields)) + ",\n")
    put(root / "annotations" / "uav01.txt", "".join(rows))
    return root


LAYOUTS = {
    "coco": Layout(write_coco, record="annotation 1"),
    "mot": Layout(write_mot, identities=True, record="gt.txt:1"),
    "crowdhuman": Layout(write_crowdhuman, record="annotation_train.odgt:1: box 1"),
    "citypersons": Layout(write_citypersons, identities=True, record="image 1 (aachen_000001_000019_leftImg8bit.png): box 1"),
    "caltech": Layout(write_caltech, identities=True, record="V000.vbb: frame 0: box 1"),
    "eth": Layout(write_eth, ignores=False, record="annotations.idl:1: box 1"),
    "cuhk-sysu": Layout(write_cuhk_sysu, ignores=False, record="Images.mat: image 1 (s1.jpg): box 1"),
    "prw": Layout(write_prw, ignores=False, identities=True, record="c1s1_000001.jpg.mat: box 1"),
    "yolo": Layout(write_yolo, ignores=False, record="000001.txt:1"),
    "jde": Layout(write_jde, ignores=False, identities=True, record="000001.txt:1"),
    "visdrone": Layout(write_visdrone, record="0000001.txt:1"),
    "visdrone-video": Layout(write_visdrone_video, identities=True, record="uav01.txt:1"),
}
