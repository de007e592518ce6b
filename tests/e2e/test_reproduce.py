"""``tdtrack reproduce`` on a world of a few frames: from nothing, again, after an interruption, and shared between tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="reproduce needs the extra tdtrack[train]")
pytest.importorskip("trackeval", reason="reproduce needs the extra tdtrack[eval]")

import torch
from rich.console import Console

from layouts import LAYOUTS, Box, put
from tdtrack import cli
from tdtrack.association import Tracker
from tdtrack.benchmarks import sequence_sets
from tdtrack.config import AssociationConfig, DataSource
from tdtrack.data import load_dataset, load_source
from tdtrack.data.identities import read_identities
from tdtrack.errors import ConfigError, DataError
from tdtrack.model import load_model, read_metadata, save_model
from tdtrack.reproduce import TABLES, folder, material, paper_scale, reproduce, walkers_scale, workshop
from tdtrack.reproduce.folder import FolderMaterial
from tdtrack.reproduce.material import WalkersMaterial
from tdtrack.reproduce.run import Request
from tdtrack.reproduce.scale import Scale, apply_settings
from tdtrack.reproduce.tables import Row
from tdtrack.teacher import load_teacher
from training_world import DIM, embed_colour

WORLD = {"width": 192, "height": 128, "min_people": 5, "max_people": 7, "reid_identities": 12, "reid_test_identities": 6}
WORLD |= {"crops_per_identity": 4, "reid_cameras": 3, "cameras_per_identity": 2, "detection_videos": 3, "detection_frames": 3}
WORLD |= {"validation_videos": 1, "validation_frames": 2, "sequences": 2, "sequence_frames": 4}
RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "data"
TRAIN: dict[str, Any] = {
    "input_height": 128,
    "input_width": 192,
    "precision": "32-true",
    "model.fpn_width": 16,
    "model.subnet_depth": 1,
    "model.subnet_width": 16,
    "model.embedding_width": 16,
    "optimizer.steps": 2,
    "optimizer.warmup_steps": 1,
    "optimizer.batch_size": 2,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums come out the same in every process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scale() -> Scale:
    usual = walkers_scale()
    return Scale(
        apply_settings(usual.walkers, WORLD),
        {"crop_height": 32, "crop_width": 16, "steps": 1, "identities_per_batch": 4},
        {**usual.train, **TRAIN},
        {**usual.tracker, "min_score": 0.0},
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture
def run(out: Path, scale: Scale) -> Callable[..., str]:
    def run(table: str, where: Path = out, **settings: Any) -> str:
        console = Console(record=True, width=160)
        reproduce(Request(table, str(where), **settings), scale, console)
        return console.export_text()

    return run


def models(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/model.safetensors")}


def test_table_1_from_nothing_and_again(run: Callable[..., str], out: Path) -> None:
    printed = run("table1")
    assert "Two-stage: about" in printed and "1 of 1 to do" in printed
    for text in ("(76.0)", "(78.7)", "(9.61)", "paper: 102.3 %", "the paper finds: one network"):
        assert text in printed
    saved = json.loads((out / "table1.json").read_text())
    own = ["TDT-tracker, normalised (ours)", "Two-stage on the TDT-tracker's boxes (ours)"]
    assert [row["label"] for row in saved["rows"]] == ["Two-stage", "TDT-tracker", *own]
    _, one_stage, _, same_boxes = (row["ours"][0] for row in saved["rows"])
    assert one_stage["AP"] == pytest.approx(same_boxes["AP"], abs=1e-3) and one_stage["cosine"] == same_boxes["cosine"]
    assert saved["rows"][1]["paper"]["IDF1"] == 0.787
    assert saved["ratio"]["paper"] == pytest.approx(0.787 / 0.769)
    for row in saved["rows"]:
        (ours,) = row["ours"]
        assert set(ours["sequences"]) == {"walkers-01", "walkers-02"}
        assert all(0 <= ours[name] <= 1 for name in ("IDF1", "HOTA", "AP", "teacher_mAP")) and ours["fps"] > 0
        assert ours["MOTA"] <= 1 and -1 <= ours["cosine"] <= 1
    page = (out / "table1.md").read_text()
    assert "| Two-stage |" in page and "(92.4)" in page
    made = models(out)
    assert len(made) == 2, "the normalised model is no training of its own"
    (normalised,) = out.glob("results/*/model.safetensors")
    assert read_metadata(normalised)["normalised"] and read_metadata(normalised)["appearance"]["max_appearance_cost"] > 0
    assert not any("normalised" in read_metadata(path) for path in out.glob("runs/*/model.safetensors"))
    assert "TDT-tracker: trained" in run("table1")
    assert models(out) == made
    assert json.loads((out / "table1.json").read_text()) == saved


def test_tables_share_models_and_seeds_add_to_them(run: Callable[..., str], out: Path) -> None:
    run("table1")
    before = models(out)
    printed = run("fig5", seeds=2)  # its middle row with seed 0 is Tab. 1's one-stage model
    assert "BaseTrainSet: about" in printed and "(1 of 2 to do)" in printed
    after = models(out)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 5
    saved = json.loads((out / "fig5.json").read_text())
    assert saved["seeds"] == 2 and all(len(row["ours"]) == 2 for row in saved["rows"])
    one_stage = json.loads((out / "table1.json").read_text())["rows"][1]["ours"][0]
    assert saved["rows"][1]["ours"][0] == one_stage
    assert (out / "fig5.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "![Fig. 5" in (out / "fig5.md").read_text()
    world = next((out / "worlds").iterdir())
    shares = [world / "shares" / f"{videos}-videos.json" for videos in (1, 2)]
    images = [len(load_dataset(share, world / "detection" / "images")) for share in shares]
    assert images == [3, 6] and len(load_dataset(world / "detection" / "train.json", world / "detection" / "images")) == 9


def test_single_rows_trained_longer(run: Callable[..., str], out: Path) -> None:
    run("table1")
    before = models(out)
    printed = run("table1", rows=("TDT-tracker",), length=2)
    assert "Two-stage" not in printed and "1 seed per row, trained 2 times as long" in printed and "IDF1 of" not in printed
    (new,) = set(models(out)) - set(before)
    assert "steps: 4" in (out / "runs" / new / "config.yaml").read_text()
    saved = json.loads((out / "table1.json").read_text())
    assert saved["length"] == 2 and [row["label"] for row in saved["rows"]] == ["TDT-tracker"]
    assert (saved["ratio"]["ours"], saved["ratio"]["paper"]) == (None, None)
    run("table1")
    assert len(json.loads((out / "table1.json").read_text())["rows"]) == 4 and len(models(out)) == len(before) + 1


def test_rows_side_by_side_give_what_they_give_one_after_the_other(run: Callable[..., str], out: Path, tmp_path: Path) -> None:
    run("table1")
    printed = run("table1", processes=2, where=tmp_path)
    own = "TDT-tracker, normalised (ours) and Two-stage on the TDT-tracker's boxes (ours)"
    assert f"TDT-tracker and {own}, seed 0: done" in printed

    def numbers(where: Path) -> list[dict[str, Any]]:
        rows = json.loads((where / "table1.json").read_text())["rows"]
        return [{name: value for name, value in row["ours"][0].items() if name != "fps"} for row in rows]

    assert numbers(tmp_path) == numbers(out)


def test_an_interrupted_table_goes_on(run: Callable[..., str], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = workshop.track_source, []

    def interrupted(*args: Any, **settings: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:  # the first row's second sequence: its model is trained, its measurement half done
            raise KeyboardInterrupt
        return whole(*args, **settings)

    monkeypatch.setattr(workshop, "track_source", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("table4")
    assert not (out / "table4.json").exists()
    made = models(out)
    results = {path: path.stat().st_mtime_ns for path in out.glob("results/*/measurement.json")}
    monkeypatch.setattr(workshop, "track_source", whole)
    printed = run("table4")
    assert "with identities: trained" in printed
    again = models(out)
    assert {name: again[name] for name in made} == made
    assert {path: path.stat().st_mtime_ns for path in results} == results
    assert "walkers-02" in printed and "KITTI-13" in printed

    # The counterpart alone was given identities, from a file that only it asks for, and the world's own files hold none.
    world = next((out / "worlds").iterdir())
    named = read_identities(world / "withheld" / "identities.json")
    assert sorted(named) == sorted(load_dataset(world / "detection" / "train.json").annotation_id.tolist())
    settings = [path.read_text() for path in out.glob("runs/*/config.yaml")]
    assert sum("withheld" in text for text in settings) == sum("supervision: identities" in text for text in settings) == 1


def test_the_command_says_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"there is no table 'table2'; choose one of table1, table3"):
        reproduce(Request("table2", str(tmp_path)), walkers_scale(), Console(quiet=True))
    with pytest.raises(ConfigError, match="seeds is 0"):
        reproduce(Request("table1", str(tmp_path), seeds=0), walkers_scale(), Console(quiet=True))
    with pytest.raises(ConfigError, match="processes is 0"):
        reproduce(Request("table1", str(tmp_path), processes=0), walkers_scale(), Console(quiet=True))
    with pytest.raises(ConfigError, match="length is 0"):
        reproduce(Request("table1", str(tmp_path), length=0), walkers_scale(), Console(quiet=True))
    assert cli.main(["reproduce", "table5", "--out", str(tmp_path / "x"), "--rows", "MNet", "MNet FPN"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "table5 has no row 'MNet FPN'; choose of 'MNet', 'MNet-FPN', 'RNet34-FPN', 'RNet50-FPN'" in message
    assert cli.main(["reproduce", "table1", "--world", "moon"]) == 2
    (tmp_path / "scale.yaml").write_text("walkers:\n  sequencs: 3\n")
    assert cli.main(["reproduce", "table1", "--scale", str(tmp_path / "scale.yaml"), "--out", str(tmp_path / "x")]) == 2
    assert "walkers.sequences" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"ETH is not there; put it there, docs/paper\.md says"):
        reproduce(Request("table1", str(tmp_path / "x"), data_root=str(tmp_path)), paper_scale(), Console(quiet=True))


def test_keys_name_what_determines_a_result(scale: Scale, tmp_path: Path) -> None:
    row = TABLES["table1"].rows[1]

    def name(changed: Scale, seed: int = 0, where: str = "a") -> str:
        return Path(
            workshop.Workshop(WalkersMaterial(changed, tmp_path / where), changed, tmp_path / where).plan(row, seed).out
        ).name

    def changed(**parts: Any) -> Scale:
        return Scale(**{**vars(scale), **parts})

    same = [name(scale), name(scale, where="b"), name(changed(train={**scale.train, "workers": 3})), name(changed(tracker={}))]
    assert len(set(same)) == 1
    longer = changed(walkers=apply_settings(scale.walkers, {"sequences": 5, "sequence_frames": 9}))
    assert name(longer) == same[0]  # what is tracked does not change what is trained
    assert WalkersMaterial(longer, tmp_path).sequences_key() != WalkersMaterial(scale, tmp_path).sequences_key()
    more_videos = changed(walkers=apply_settings(scale.walkers, {"detection_videos": 9}))
    teachers = {WalkersMaterial(one, tmp_path).teacher_key("ON-Large") for one in (scale, longer, more_videos)}
    assert len(teachers) == 1
    others = [
        name(more_videos),
        name(scale, seed=1),
        name(changed(train={**scale.train, "optimizer.steps": 3})),
        name(changed(teacher={**scale.teacher, "steps": 2})),
        name(changed(walkers=apply_settings(scale.walkers, {"seed": 1}))),
    ]
    assert len({same[0], *others}) == 6
    assert name(changed(teacher_steps={"ResNet50": 2})) == same[0]  # another row's teacher
    assert name(changed(teacher_steps={"ON-Large": 2})) == name(changed(teacher={**scale.teacher, "steps": 2}))
    with pytest.raises(ConfigError, match="teacher_steps names Resnet; the teachers are ResNet50, ON-Small, ON-Large"):
        name(changed(teacher_steps={"Resnet": 2}))
    assert not list(tmp_path.iterdir())  # nothing is made to know a name


def test_real_data_is_laid_out_as_documented(tmp_path: Path, shared_data: Path) -> None:
    real = FolderMaterial(tmp_path)
    (tmp_path / "mot15-validation").symlink_to(shared_data / "mot15-half")
    (tmp_path / "base-train-set").symlink_to(shared_data / "penn-fudan-test")
    (tmp_path / "crowdhuman").symlink_to(shared_data / "coco-person-val")
    assert [path.name for path in real.sequences()] == ["ADL-Rundle-6"]
    base, more = real.training("base", identities=False), real.training("more", identities=False)
    assert (len(base), len(more)) == (1, 2)
    assert len(load_dataset(base[0].annotations, base[0].images)) == 34
    assert len({real.data_key("base"), real.data_key("more"), real.sequences_key()}) == 3
    assert real.teacher_map("ON-Large") == 0.433
    with pytest.raises(DataError, match=r"identities\.json is not there"):
        real.training("base", identities=True)
    assert set(folder.PUBLISHED) == set(material.ARCHITECTURE) == {row.teacher for t in TABLES.values() for row in t.rows}


def test_who_is_who_and_the_teachers_weights_are_part_of_a_models_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [[Box(8.0, 10.0, 20.0, 50.0), Box(55.0, 20.0, 18.0, 45.0)]] * 2
    for name in ("base-train-set", "crowdhuman"):
        LAYOUTS["coco"].write(tmp_path / name, people, 1).rename(tmp_path / name / "annotations.json")
    shift = 0
    monkeypatch.setattr(folder, "load_teacher", lambda _: load_teacher(lambda crops: np.ones((len(crops), 4)) + shift))
    with_identities, without = TABLES["table4"].rows

    def name(row: Row) -> str:
        scale = paper_scale()
        return Path(workshop.Workshop(FolderMaterial(tmp_path), scale, tmp_path).plan(row, 0).out).name

    known, other = set(), set()
    for who in ([0, 1, 0, 1], [0, 1, 0, 2]):
        for part in ("base-train-set", "crowdhuman"):
            put(tmp_path / part / "identities.json", json.dumps({"annotation_id": [1, 2, 3, 4], "identity": who}))
        known.add(name(with_identities))
        other.add(name(without))
    assert (len(known), len(other)) == (2, 1)
    shift = np.arange(4)
    assert name(without) not in other


@pytest.mark.parametrize("method", ["fairmot", "evidence"])
def test_a_row_is_tracked_with_what_was_fitted_to_the_boxes_that_are_held_out_now(
    run: Callable[..., str], out: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    run("table1")
    given: list[AssociationConfig] = []
    monkeypatch.setattr(workshop, "Tracker", lambda config, **settings: given.append(config) or Tracker(config, **settings))
    other = Scale(**{**vars(scale), "tracker": {"method": method, "min_score": 0.0, "min_low_score": 0.0}})
    shop = workshop.Workshop(WalkersMaterial(other, out), other, out)
    for row in TABLES["table1"].rows[:2]:
        model = Path(shop.plan(row, 0).out) / "model.safetensors"
        fitted = read_metadata(model)["appearance"]
        network, metadata = load_model(model)
        save_model(model, network, {**metadata, "appearance": {**fitted, "max_appearance_cost": 9.0}})  # of older boxes
        given.clear()
        shop.measure(row, 0)
        prefix = "teacher_" if row.two_stage else ""
        for config in given:
            assert config.max_appearance_cost == fitted[f"{prefix}max_appearance_cost"]
            assert config.cosine_statistics == tuple(fitted[f"{prefix}cosine_statistics"])
        assert len(given) == 2 and read_metadata(model)["appearance"] == fitted


def write_published_data(root: Path) -> None:
    """Write two images of two people of each of the paper's data sets, as published."""
    people = [[Box(8.0, 10.0, 20.0, 50.0), Box(55.0, 20.0, 18.0, 45.0)]] * 2
    for name, layout in (("CrowdHuman", "crowdhuman"), ("ETH", "eth"), ("Caltech", "caltech"), ("PRW", "prw")):
        LAYOUTS[layout].write(root / name, people, 1)
    LAYOUTS["cuhk-sysu"].write(root / "CUHK-SYSU", people, 1)
    LAYOUTS["mot"].write(root / "MOT17" / "train", people, 1)
    LAYOUTS["citypersons"].write(root / "CityPersons", people, 1)
    (root / "CityPersons" / "leftImg8bit").rename(put(root / "cityscapes" / "README", "").parent / "leftImg8bit")
    for name in sequence_sets()["MOT15-val"] + ("Venice-2",):
        sequence = LAYOUTS["mot"].write(root / "x", people, 1) / "seq"
        information = (sequence / "seqinfo.ini").read_text().replace("name=seq", f"name={name}")
        put(sequence / "seqinfo.ini", information)
        put(root / "MOT15" / "train" / "README", "")
        sequence.rename(root / "MOT15" / "train" / name)


def test_the_papers_data_sets_as_published(tmp_path: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    write_published_data(tmp_path / "data")
    monkeypatch.setattr(
        folder, "load_teacher", lambda _: load_teacher(lambda crops: np.stack([embed_colour(crop) for crop in crops]))
    )
    narrow = Scale(**{**vars(scale), "train": {**scale.train, "model.embedding_dim": DIM}})
    request = Request("fig5", str(tmp_path / "out"), data_root=str(tmp_path / "data"))
    reproduce(request, narrow, Console(quiet=True))
    saved = json.loads((tmp_path / "out" / "fig5.json").read_text())
    for row in saved["rows"]:
        assert set(row["ours"][0]["sequences"]) == set(sequence_sets()["MOT15-val"]), "Venice-2 is no validation sequence"
    real = FolderMaterial(tmp_path / "data")
    count = {data: len(real.training(data, identities=False)) for data in ("part", "base", "more")}
    assert count == {"part": 1, "base": 6, "more": 7}
    boxes = [load_source(source).num_boxes for source in real.training("more", identities=False)]
    assert boxes == [4] * 7
    learned = [yaml.safe_load(path.read_text())["train"] for path in (tmp_path / "out" / "runs").glob("*/config.yaml")]
    assert sorted(map(len, learned)) == [1, 6, 7]
    with pytest.raises(DataError, match=r"base-train-set/identities\.json is not there"):
        real.training("more", identities=True)


def test_the_folder_is_that_of_the_recipes() -> None:
    for name, ours in (("base", folder.BASE_TRAIN_SET), ("benchmark", (*folder.BASE_TRAIN_SET, folder.CROWDHUMAN))):
        recipe = yaml.safe_load((RECIPES / f"{name}-train-set.yaml").read_text())
        for part, sources in (("train", ours), ("validation", (folder.VALIDATION,))):
            named = [DataSource(**{key: value for key, value in source.items() if key != "store"}) for source in recipe[part]]
            below = [
                replace(source, annotations=f"data/{source.annotations}", images=source.images and f"data/{source.images}")
                for source in sources
            ]
            assert named == below
