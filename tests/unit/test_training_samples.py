"""Samples: boxes, pixels and embeddings stay together, whatever reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from layouts import picture, put
from tdtrack.config import AugmentConfig, DataSource
from tdtrack.data import load_dataset, load_source
from tdtrack.errors import ConfigError, DataError, OutputError, StoreError
from tdtrack.teacher import load_teacher
from tdtrack.teacher.annotate import annotate
from tdtrack.training import embeddings
from tdtrack.training import samples as samples_module
from tdtrack.training.samples import TrainingSamples, keep_classes, load_labelled_sets, training_batches
from tdtrack.types import ANY_CLASS
from training_world import COLOUR_TEACHERS, TINY_MODEL, embed_colour, tiny_config, write_images, write_store


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    folder = tmp_path_factory.mktemp("world") / "train"
    write_images(folder, 7, empty=1)
    return write_store(folder)


def as_jde(source: DataSource, folder: Path) -> DataSource:
    """The same images and boxes in JDE's layout."""
    for image in load_dataset(source.annotations, source.images).images:
        rows = [f"0 {index} {fractions(box, image.width, image.height)}\n" for index, box in enumerate(image.xyxy.tolist())]
        put(folder / "images" / image.path.name, image.path.read_bytes())
        put(folder / "labels_with_ids" / f"{image.path.stem}.txt", "".join(rows))
    return DataSource(str(folder))


def as_yolo(source: DataSource, folder: Path) -> DataSource:
    """The same images and boxes in YOLO's layout, of a class with another name."""
    for image in load_dataset(source.annotations, source.images).images:
        rows = [f"1 {fractions(box, image.width, image.height)}\n" for box in image.xyxy.tolist()]
        put(folder / "images" / "val" / image.path.name, image.path.read_bytes())
        put(folder / "labels" / "val" / f"{image.path.stem}.txt", "".join(rows))
    described = put(folder / "data.yaml", "val: images/val\nnames: [dog, pedestrian]")
    return DataSource(str(described), split="val", rename={"pedestrian": "person"})


def fractions(box: list[float], width: int, height: int) -> str:
    left, top, right, bottom = box
    return f"{(left + right) / 2 / width} {(top + bottom) / 2 / height} {(right - left) / width} {(bottom - top) / height}"


def test_data_sets_of_different_layouts_mix_image_by_image_each_with_its_store(tmp_path: Path) -> None:
    sources = []
    for seed, change in enumerate((lambda source, folder: source, as_jde, as_yolo)):
        write_images(tmp_path / f"{seed}", 4 + seed, seed=seed)
        plain = DataSource(str(tmp_path / f"{seed}" / "annotations.json"), str(tmp_path / f"{seed}" / "images"))
        source = replace(change(plain, tmp_path / f"other{seed}"), store=str(tmp_path / f"{seed}.parquet"))
        annotate(load_source(source), load_teacher(COLOUR_TEACHERS["colour"]), Path(source.store), progress=False)
        sources.append(source)
    still = AugmentConfig(flip=0.0, min_scale=1.0, max_scale=1.0)
    samples, _ = read(*sources, model=replace(TINY_MODEL, embedding_dim=16), input_height=144, input_width=192, augment=still)
    assert len(samples) == 4 + 5 + 6
    boxes = 0
    for position in range(len(samples)):
        sample = samples[position]
        for box, embedding in zip(sample.xyxy, sample.embedding):
            x1, y1, x2, y2 = box.round().astype(int)
            assert float(embed_colour(sample.image[:, y1:y2, x1:x2].transpose(1, 2, 0)) @ embedding.astype(np.float32)) > 0.98
            boxes += 1
    assert boxes == sum(load_source(source).num_boxes for source in sources)
    with pytest.raises(DataError, match="has the classes dog, pedestrian, but cat is to be renamed; mend rename"):
        read(replace(sources[2], rename={"cat": "person"}))


def read(source: DataSource, *more: DataSource, **changes: object) -> tuple[TrainingSamples, object]:
    config = replace(tiny_config(Path("unused"), source), train=(source, *more), **changes)
    sets = load_labelled_sets(config.train, config.model.classes, config.model.embedding_dim, need_stores=True)
    return TrainingSamples(sets, config), config


def test_every_box_keeps_its_teacher_embedding_under_every_augmentation(source: DataSource) -> None:
    model = replace(TINY_MODEL, embedding_dim=16)
    augment = AugmentConfig(min_scale=0.5, max_scale=2.0)
    samples, _ = read(source, model=model, input_height=144, input_width=192, augment=augment)
    checked = 0
    for position in range(60):
        sample = samples[position]
        for box, ignored, embedding in zip(sample.xyxy, sample.ignore, sample.embedding):
            x1, y1, x2, y2 = box.round().astype(int)
            if ignored or x1 <= 1 or y1 <= 1 or x2 >= 191 or y2 >= 143 or y2 - y1 < 30:
                continue  # the middle of a cut figure is another place
            seen = embed_colour(sample.image[:, y1:y2, x1:x2].transpose(1, 2, 0))
            assert float(seen @ embedding.astype(np.float32)) > 0.98
            checked += 1
    assert checked > 20


def test_only_the_first_dimensions_are_kept(source: DataSource) -> None:
    narrow, _ = read(source, model=replace(TINY_MODEL, embedding_dim=3))
    wide, _ = read(source, model=replace(TINY_MODEL, embedding_dim=16))
    for position in range(7):
        np.testing.assert_array_equal(narrow[position].embedding, wide[position].embedding[:, :3])


def test_the_same_position_gives_the_same_sample_and_the_cache_changes_nothing(
    source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, _ = read(source)
    monkeypatch.setattr(samples_module, "CACHE_BYTES", 0)
    fresh, _ = read(source)
    for position in [*range(9), *range(9)]:
        for one, two in zip(cached[position], fresh[position]):
            np.testing.assert_array_equal(one, two)
    assert len(cached._cache) == 7
    assert not fresh._cache


@pytest.mark.parametrize("first_step", [0, 2])
def test_loader_processes_and_resuming_change_nothing(source: DataSource, first_step: int) -> None:
    samples, config = read(source)
    alone = list(training_batches(samples, config, 0))[first_step:]
    many = list(training_batches(samples, replace(config, workers=2), first_step))
    assert len(alone) == len(many) == 6 - first_step
    for one, two in zip(alone, many):
        assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_a_batch_falls_apart_into_its_samples(source: DataSource) -> None:
    samples, config = read(source)
    batch = next(training_batches(samples, config, 0))
    images, targets = batch.to(torch.device("cpu"))
    for row, sample in enumerate([samples[0], samples[1]]):
        np.testing.assert_array_equal(images[row].numpy(), sample.image)
        np.testing.assert_array_equal(targets.boxes[row].numpy(), sample.xyxy)
        np.testing.assert_array_equal(targets.embedding[row].numpy(), sample.embedding)
        np.testing.assert_array_equal(targets.ignore[row].numpy(), sample.ignore)
        np.testing.assert_array_equal(targets.class_id[row].numpy(), sample.class_id)


def test_two_sources_are_mixed_image_by_image(source: DataSource, tmp_path: Path) -> None:
    write_images(tmp_path / "more", 4, seed=9)
    samples, _ = read(source, write_store(tmp_path / "more"))
    assert len(samples) == 11


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, workers: int) -> None:
    write_images(tmp_path / "world", 2)
    source = write_store(tmp_path / "world")
    samples, config = read(source, workers=workers)
    (tmp_path / "world" / "images" / "0002.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"^[^\n]*0002\.png[^\n]*$"):
        list(training_batches(samples, config, 0))


def test_an_image_that_changed_its_size_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "world", 1)
    samples, config = read(write_store(tmp_path / "world"))
    write_images(tmp_path / "other", 1, width=100, height=90)
    (tmp_path / "other" / "images" / "0001.png").replace(tmp_path / "world" / "images" / "0001.png")
    with pytest.raises(DataError, match=r"0001\.png is 100x90 pixels but its annotations say 192x144"):
        list(training_batches(samples, config, 0))


def test_data_with_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "world", 3)
    file = tmp_path / "world" / "annotations.json"
    file.write_text(file.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    with pytest.raises(DataError, match="none of the 3 images has a box of person to learn from"):
        read(write_store(tmp_path / "world"))


def test_a_source_without_a_store_is_refused(source: DataSource) -> None:
    with pytest.raises(ConfigError, match="tdtrack annotate"):
        read(replace(source, store=""))


def test_a_store_of_other_data_is_refused(source: DataSource, tmp_path: Path) -> None:
    write_images(tmp_path / "world", 3, seed=3)
    with pytest.raises(StoreError):
        read(replace(write_store(tmp_path / "world"), store=source.store))


def test_stores_of_two_teachers_are_refused(source: DataSource, tmp_path: Path) -> None:
    write_images(tmp_path / "world", 3, seed=3)
    other = write_store(tmp_path / "world", "other_colour")
    with pytest.raises(StoreError, match=r"other_colour\.parquet.*colour\.parquet.*one teacher"):
        read(source, other)


def test_a_store_narrower_than_the_student_is_refused(source: DataSource) -> None:
    with pytest.raises(StoreError, match=r"16 numbers per box.*embedding_dim 17"):
        read(source, model=replace(TINY_MODEL, embedding_dim=17))


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    write_images(tmp_path / "world", 5)
    file = tmp_path / "world" / "annotations.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}, {"id": 3, "name": "dog"}]
    for annotation in content["annotations"]:
        annotation["category_id"] = 1 + annotation["id"] % 3
    file.write_text(json.dumps(content))
    dataset = load_dataset(file, tmp_path / "world" / "images")
    kept = keep_classes(dataset, ("dog", "person"))
    for before, after in zip(dataset.images, kept.images):
        names = [dataset.classes[value] for value in before.class_id]
        expected = [(i, name) for i, name in zip(before.annotation_id, names) if name != "car"]
        assert [(i, kept.classes[value]) for i, value in zip(after.annotation_id, after.class_id)] == expected
    with pytest.raises(DataError, match=r"classes person, car, dog but the model learns bike"):
        keep_classes(dataset, ("bike",))


def test_an_ignore_region_of_every_class_stays_whatever_is_learned(tmp_path: Path) -> None:
    person, car, region, no_person = "5,6,20,40,1,1,0,0", "30,6,20,40,1,4,0,0", "60,6,20,40,0,0,0,0", "5,50,20,20,0,1,0,0"
    put(tmp_path / "images" / "1.jpg", picture())
    put(tmp_path / "annotations" / "1.txt", "\n".join([person, car, region, no_person]))
    dataset = load_dataset(tmp_path)
    for classes, expected in ((("car",), [0, ANY_CLASS]), (("car", "pedestrian"), [1, 0, ANY_CLASS, 1])):
        (image,) = keep_classes(dataset, classes).images
        assert image.class_id.tolist() == expected
        assert image.ignore.tolist() == [False] * (len(expected) // 2) + [True] * (len(expected) // 2)


def test_a_table_in_a_file_holds_what_one_in_memory_does(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = load_labelled_sets([source, source], ("person",), TINY_MODEL.embedding_dim, need_stores=True)
    sets[0].dataset.images[-1].ignore[:] = True  # rows of zeros where one block ends and the next begins
    monkeypatch.setattr(samples_module, "ROWS_AT_ONCE", 3)
    in_memory = TrainingSamples(sets, tiny_config(tmp_path / "memory", source))
    monkeypatch.setattr(embeddings, "TABLE_BYTES", 0)
    config = tiny_config(tmp_path / "file", source, workers=1)
    in_file = TrainingSamples(sets, config)
    table = np.concatenate([item.store.lookup(item.dataset.annotation_id) for item in sets if item.store is not None])
    table[~np.concatenate([item.counted for item in sets])] = 0
    np.testing.assert_array_equal(in_file._embedding, table[:, : TINY_MODEL.embedding_dim])
    np.testing.assert_array_equal(in_file._embedding, in_memory._embedding)
    assert isinstance(in_file._embedding, np.memmap) and not isinstance(in_memory._embedding, np.memmap)
    assert list((tmp_path / "file").iterdir()) == []
    torch.testing.assert_close(in_file.mean_embedding(), in_memory.mean_embedding())
    for one, two in zip(training_batches(in_file, config, 0), training_batches(in_memory, config, 0)):
        assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_a_table_that_does_not_fit_on_the_disk_is_an_error(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(embeddings, "TABLE_BYTES", 0)
    monkeypatch.setattr(embeddings, "TemporaryFile", lambda dir: Path("/dev/full").open("wb"))  # noqa: SIM115
    sets = load_labelled_sets([source], ("person",), TINY_MODEL.embedding_dim, need_stores=True)
    with pytest.raises(OutputError, match=r"cannot keep the embeddings of \d+ boxes in .*run: No space left on device"):
        TrainingSamples(sets, tiny_config(tmp_path / "run", source))
