"""The head on a frozen detector: what it reads, what it learns, that a kill costs nothing, and that the file computes it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("torch", reason="teaching a detector needs the extra tdtrack[train]")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_detectors import HEIGHT, WIDTH, tiny_graph
from media_files import write_video
from random_models import noise
from tdtrack.config import DetectConfig, HeadConfig
from tdtrack.data import load_dataset
from tdtrack.data.images import crop_boxes, load_image
from tdtrack.errors import DataError, StoreError
from tdtrack.frozen import cache as cache_module
from tdtrack.frozen import learn as learn_module
from tdtrack.frozen.cache import FeatureCache, MapReader
from tdtrack.frozen.description import describe_detector
from tdtrack.frozen.head import AppearanceHead
from tdtrack.frozen.learn import evaluate_head, learn_head, relation_loss, retrieval
from tdtrack.frozen.merge import differences, merge
from tdtrack.frozen.pooling import Reading, choose_readings, pool
from tdtrack.frozen.pseudo import write_pseudo_boxes
from tdtrack.runtime.engine import load_engine
from tdtrack.teacher.reid_losses import contrastive_loss
from tdtrack.types import Detections
from training_world import colour, write_images

ENGINES = ("onnxruntime", "openvino")
READING = Reading("map", stride=8, channels=3, height=6, width=9, rows=4, columns=2)


@given(st.integers(0, 10_000), st.sampled_from(["box", "cell"]))
@settings(max_examples=60, deadline=None)
def test_pooling_is_the_mean_of_the_cells_that_a_loop_visits(seed: int, place: str) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3, 6, 9)).astype(np.float32)
    corner = rng.uniform(-10, 70, 2)
    box = np.concatenate([corner, corner + rng.uniform(1, 40, 2)]).astype(np.float32)
    cell = {"place": "cell", "rows": 3, "columns": 3, "samples": 1}
    reading = replace(READING, **cell) if place == "cell" else replace(READING, samples=int(rng.integers(1, 4)))
    got = pool(features, box[None], reading)[0]
    if place == "cell":
        middle = (box[:2] + box[2:]) / 2
        box = np.concatenate([middle - 12, middle + 12])
    samples = reading.samples
    for row in range(reading.rows):
        for column in range(reading.columns):
            total = np.zeros(3)
            for i in range(samples):
                for j in range(samples):
                    y = box[1] + (box[3] - box[1]) * (row * samples + i + 0.5) / (reading.rows * samples)
                    x = box[0] + (box[2] - box[0]) * (column * samples + j + 0.5) / (reading.columns * samples)
                    cell = int(np.clip(np.floor(y / 8), 0, 5)), int(np.clip(np.floor(x / 8), 0, 8))
                    total += features[:, cell[0], cell[1]]
            if not _on_a_border(box, reading):
                np.testing.assert_allclose(got[row * reading.columns + column], total / samples**2, atol=1e-5)


def _on_a_border(box: np.ndarray, reading: Reading) -> bool:
    """Whether a sample lies so near a cell's border that float32 may fall on either side."""
    y, x = reading.steps()
    places = np.concatenate([box[1] + (box[3] - box[1]) * y, box[0] + (box[2] - box[0]) * x]) / 8
    return bool((np.abs(places - np.round(places)) < 1e-4).any())


def test_grids_have_about_square_bins() -> None:
    graph = tiny_graph("yolox")
    grids = [[(item.rows, item.columns) for item in choose_readings(graph, (), aspect)] for aspect in (0.4, 1.0, 2.5)]
    assert grids == [[(8, 4), (4, 2)], [(4, 8), (2, 4)], [(4, 8), (2, 4)]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("place", ["box", "cell"])
@pytest.mark.parametrize("family", ["yolox", "boxes"])
def test_the_file_embeds_as_pooling_and_torch_do(engine: str, place: str, family: str, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="needs the extra tdtrack[openvino]")
    graph = tiny_graph(family)
    description = describe_detector(graph)
    readings = choose_readings(graph, (), 0.4, place)  # type: ignore[arg-type]
    torch.manual_seed(3)
    head = AppearanceHead(readings, torch.eye(32)[:, :24])
    head.train()
    with torch.no_grad():  # so that the norms have something to fold
        for _ in range(3):
            head([torch.randn(16, item.bins, item.channels) * 2 + 1 for item in readings])
    head.eval()
    built, said = merge(
        graph, description, readings=readings, head=head.arrays(), detect=DetectConfig(min_score=0.2, max_detections=60)
    )
    assert said.embedding_dim == 24
    (tmp_path / "model.onnx").write_bytes(built.SerializeToString())
    loaded = load_engine(tmp_path / "model.onnx", engine=engine, device="cpu", precision="fp32", min_score=0.2)
    reader = MapReader(graph, description, readings)
    compared = 0
    for seed in range(3):
        image = noise(seed, HEIGHT, WIDTH)
        found = loaded(image)
        with torch.inference_mode():
            pooled = [torch.from_numpy(values) for values in reader.read(image, found.xyxy)]
            wanted = torch.nn.functional.normalize(head(pooled), dim=1).numpy()
        assert found.embedding is not None
        cosine = (found.embedding * wanted).sum(axis=1)
        # A sample on the border of two cells may fall on either side in another engine's arithmetic.
        assert (cosine > 0.9999).mean() > 0.9 and np.abs(np.linalg.norm(found.embedding, axis=1) - 1).max() < 1e-4
        compared += len(found)
    assert compared > 20
    assert differences(graph, description, built, np.stack([noise(seed, HEIGHT, WIDTH) for seed in range(3)])) == 0


def test_losses_are_their_loops() -> None:
    rng = np.random.default_rng(0)
    student = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(7, 4))), dim=1)
    teacher = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(7, 9))), dim=1)
    box = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    pairs = [float(((student[i] @ student[j]) - (teacher[i] @ teacher[j])) ** 2) for i in range(7) for j in range(7)]
    assert relation_loss(student, teacher).item() == pytest.approx(np.mean(pairs))
    rows = []
    for i in range(7):
        same = [j for j in range(7) if j != i and box[j] == box[i]]
        if same:
            total = sum(np.exp(float(student[i] @ student[j]) / 0.2) for j in range(7) if j != i)
            rows.append(-np.mean([np.log(np.exp(float(student[i] @ student[j]) / 0.2) / total) for j in same]))
    assert contrastive_loss(student, box, 0.2).item() == pytest.approx(np.mean(rows))
    alone = student.clone().requires_grad_()
    loss = contrastive_loss(alone, torch.arange(7), 0.2)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(alone.grad).all()  # type: ignore[arg-type]


def test_retrieval_by_hand() -> None:
    embedded = np.array([[1, 0], [0.9, 0.1], [0.8, 0.6], [0, 1.0]])
    label = np.array([0, 1, 0, 1])
    query = np.array([True, False, False, False])
    # Of the gallery in order of likeness (rows 1, 2, 3), the second is right: rank-1 0, average precision 1/2.
    assert retrieval(embedded, label, query, ~query) == (0.0, 0.5)
    assert retrieval(embedded, np.array([0, 0, 1, 1]), query, ~query) == (1.0, 1.0)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FeatureCache, np.ndarray, tuple[Reading, ...]]:
    """A cache of coloured figures, and the colour teacher's embeddings of their boxes."""
    folder = tmp_path_factory.mktemp("frozen")
    write_images(folder / "data", 40)
    dataset = load_dataset(folder / "data" / "annotations.json", folder / "data" / "images")
    graph = tiny_graph("yolox")
    readings = choose_readings(graph, (), 0.4)
    cache = FeatureCache.make(folder / "cache", dataset, graph, describe_detector(graph), readings, views=4, seed=0)
    crops = [crop for image in dataset.images for crop in crop_boxes(load_image(image.path), image.xyxy)]
    return folder, cache, colour(crops), readings


CONFIG = HeadConfig(embedding_dim=8, epochs=6, batch_size=32, views=4)


def test_learning_makes_boxes_tell_themselves_apart(
    read: tuple[Path, FeatureCache, np.ndarray, tuple[Reading, ...]], tmp_path: Path
) -> None:
    _, cache, teacher, readings = read
    longer = replace(CONFIG, epochs=40)
    taught = evaluate_head(learn_head(cache, teacher, readings, longer, tmp_path / "a"), cache, teacher)
    torch.manual_seed(0)
    untaught = evaluate_head(AppearanceHead(readings, torch.eye(16)[:, :8]).eval(), cache, teacher)
    assert taught.agreement > 0.8 > untaught.agreement
    assert taught.mean_ap > untaught.mean_ap and taught.mean_ap > taught.raw_mean_ap
    with pytest.raises(StoreError, match="lower that"):
        learn_head(cache, teacher[:, :4], readings, CONFIG, tmp_path / "b")


def test_a_head_that_was_killed_goes_on_to_the_same_weights(
    read: tuple[Path, FeatureCache, np.ndarray, tuple[Reading, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cache, teacher, readings = read
    undisturbed = learn_head(cache, teacher, readings, CONFIG, tmp_path / "a").state_dict()
    keep = learn_module._keep

    def killed(path: Path, key: str, epoch: int, *rest: object) -> None:
        keep(path, key, epoch, *rest)  # type: ignore[arg-type]
        if epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(learn_module, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        learn_head(cache, teacher, readings, CONFIG, tmp_path / "b")
    monkeypatch.undo()
    resumed = learn_head(cache, teacher, readings, CONFIG, tmp_path / "b").state_dict()
    for name, value in undisturbed.items():
        assert torch.equal(value, resumed[name]), name


def test_a_head_of_another_detector_or_teacher_is_learned_anew(
    read: tuple[Path, FeatureCache, np.ndarray, tuple[Reading, ...]], tmp_path: Path
) -> None:
    _, cache, teacher, readings = read
    first = learn_head(cache, teacher, readings, CONFIG, tmp_path).state_dict()
    other_teacher = np.roll(teacher, 1, axis=1)
    other_cache = copy.copy(cache)
    other_cache.key = "of another detector"
    other_cache.reads = [np.ascontiguousarray(np.asarray(values)[..., ::-1]) for values in cache.reads]
    for which, whom in ((cache, other_teacher), (other_cache, teacher)):
        again = learn_head(which, whom, readings, CONFIG, tmp_path).state_dict()
        alone = learn_head(which, whom, readings, CONFIG, tmp_path / "alone").state_dict()
        assert all(torch.equal(again[name], alone[name]) for name in alone)
        assert any(not torch.equal(again[name], first[name]) for name in first)


def test_pseudo_boxes_of_a_lying_photo_are_of_the_picture_that_is_learned_from(tmp_path: Path) -> None:
    class Whole:
        classes = ("thing",)

        def __call__(self, frame: np.ndarray) -> Detections:
            return Detections([[0, 0, frame.shape[1], frame.shape[0]]], [0.9], [0])

    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    for name, tags in (("lying.jpg", exif), ("upright.jpg", PIL.Image.Exif())):
        PIL.Image.new("RGB", (40, 20), (9, 9, 9)).save(tmp_path / "photos" / name, exif=tags)
    found = write_pseudo_boxes([str(tmp_path / "photos")], Whole(), tmp_path / "work", every=7, made_by="detector")
    lying, upright = found.images
    assert (lying.width, lying.height, upright.width, upright.height) == (20, 40, 40, 20)
    assert upright.path == tmp_path / "photos" / "upright.jpg"
    for image in found.images:
        height, width, _ = load_image(image.path).shape
        assert image.xyxy.tolist() == [[0, 0, width, height]]


def test_pseudo_boxes_of_each_video_lie_on_its_own_frames(tmp_path: Path) -> None:
    class Counting:
        classes = ("thing",)

        def __call__(self, frame: np.ndarray) -> Detections:
            side = float(frame.mean()) / 4  # tells a dark video's frames from a bright one's
            return Detections([[0, 0, side, side]], [0.9], [0])

    videos = []
    for day, brightness in (("monday", 60), ("tuesday", 200)):
        (tmp_path / day).mkdir()
        frames = [np.full((64, 96, 3), brightness, np.uint8)] * 3
        videos.append(str(write_video(tmp_path / day / "cam.mp4", frames)))
    made = {"every": 1, "made_by": "detector"}
    found = write_pseudo_boxes(videos, Counting(), tmp_path / "work", **made)
    assert len({image.path for image in found.images}) == len(found.images) == 6
    for image in found.images:
        assert image.xyxy[0, 2] == pytest.approx(load_image(image.path).mean() / 4, abs=1)
    assert len(write_pseudo_boxes(videos[:1], Counting(), tmp_path / "work", **made).images) == 3
    assert len(write_pseudo_boxes(videos[:1], Counting(), tmp_path / "work", every=2, made_by="detector").images) == 2
    assert len(list((tmp_path / "work" / "frames").rglob("*.jpg"))) == 2


def test_a_cache_that_was_killed_goes_on_to_the_same_bytes(
    read: tuple[Path, FeatureCache, np.ndarray, tuple[Reading, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache, _, readings = read
    dataset = load_dataset(folder / "data" / "annotations.json", folder / "data" / "images")
    graph = tiny_graph("yolox")

    def make(views: int) -> FeatureCache:
        return FeatureCache.make(tmp_path / "cache", dataset, graph, describe_detector(graph), readings, views=views, seed=0)

    write = cache_module._write_part
    done = []

    def killed(path: Path, *rest: object) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(path)
        write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module, "_write_part", killed)
    with pytest.raises(KeyboardInterrupt):
        make(4)
    monkeypatch.undo()
    make(4)
    for name in ("box.npy", "view.npy", *(f"read-{index}.npy" for index in range(len(readings)))):
        assert (tmp_path / "cache" / name).read_bytes() == (folder / "cache" / name).read_bytes()
    assert not list(tmp_path.glob("*.parts")) and len(cache)
    # Another setting throws the old cache away.
    assert set(make(1).view.tolist()) == {0}


def test_boxes_too_small_for_the_input_are_said(tmp_path: Path) -> None:
    write_images(tmp_path / "data", 2, width=1920, height=1440)
    dataset = load_dataset(tmp_path / "data" / "annotations.json", tmp_path / "data" / "images")
    graph = tiny_graph("yolox")
    readings = choose_readings(graph, (), 0.4)
    with pytest.raises(DataError, match="no box is large enough in an input of 64x96"):
        FeatureCache.make(tmp_path / "cache", dataset, graph, describe_detector(graph), readings, views=1, seed=0)
