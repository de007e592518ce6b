"""Crops by identity, Market-1501's protocol, batches and losses, each against loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tdtrack.errors import DataError, ShapeError
from tdtrack.teacher import load_teacher
from tdtrack.teacher.reid import evaluate_reid, rank_gallery, read_reid_crops
from tdtrack.teacher.reid_batches import IdentitySampler, augment_crops, load_crops
from tdtrack.teacher.reid_losses import IdentityHead, contrastive_loss


def write_crop(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (8, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def mean_colour(crops: list[np.ndarray]) -> np.ndarray:
    return np.stack([crop.reshape(-1, 3).mean(axis=0) for crop in crops]) - 128


def test_market_names_give_identity_and_camera(tmp_path: Path) -> None:
    for name in ("0002_c1s1_000451_03.jpg", "-1_c3s2_000001_00.jpg", "0007_c6.png", "notes.txt"):
        write_crop(tmp_path / "bounding_box_train" / name, (9, 9, 9)) if name != "notes.txt" else None
    (tmp_path / "bounding_box_train" / "notes.txt").write_text("no crop")
    for folder in (tmp_path, tmp_path / "bounding_box_train"):
        crops = read_reid_crops(folder)
        assert [path.name for path in crops.paths] == ["-1_c3s2_000001_00.jpg", "0002_c1s1_000451_03.jpg", "0007_c6.png"]
        assert crops.identity.tolist() == [-1, 2, 7]
        assert crops.camera.tolist() == [3, 1, 6]


def test_one_folder_per_identity(tmp_path: Path) -> None:
    for person, count in (("anna", 2), ("bert", 1)):
        for index in range(count):
            write_crop(tmp_path / person / f"{index}.png", (1, 2, 3))
    (tmp_path / "empty").mkdir()
    crops = read_reid_crops(tmp_path)
    assert crops.identity.tolist() == [0, 0, 1]
    assert crops.camera.tolist() == [0, 0, 0]


def test_folders_without_crops_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_reid_crops(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no crops"):
        read_reid_crops(tmp_path)
    write_crop(tmp_path / "portrait.jpg", (0, 0, 0))
    with pytest.raises(DataError, match=r"portrait\.jpg: the name does not begin with identity and camera"):
        read_reid_crops(tmp_path)


def by_loops(query, query_identity, query_camera, gallery, gallery_identity, gallery_camera):  # type: ignore[no-untyped-def]
    """The protocol's words, one crop at a time."""
    first, precision = [], []
    for q in range(len(query)):
        ranked = sorted(range(len(gallery)), key=lambda g: -float(query[q] @ gallery[g]))
        seen = right = 0
        parts: list[float] = []
        hit_first = None
        for g in ranked:
            if gallery_identity[g] == -1 or (gallery_identity[g] == query_identity[q] and gallery_camera[g] == query_camera[q]):
                continue
            seen += 1
            hit = gallery_identity[g] == query_identity[q]
            hit_first = hit if hit_first is None else hit_first
            if hit:
                right += 1
                parts.append(right / seen)
        first.append(float(hit_first) if parts else np.nan)
        precision.append(np.mean(parts) if parts else np.nan)
    return np.array(first), np.array(precision)


def test_ranking_is_the_protocol_by_loops() -> None:
    generator = np.random.default_rng(3)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = generator.normal(size=(count, 5)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows, generator.integers(-1, 6, count), generator.integers(1, 4, count)

    query, gallery = draw(40), draw(90)
    query[1][query[1] == -1] = 99  # nobody in the gallery
    first, precision = rank_gallery(*query, *gallery)
    expected_first, expected_precision = by_loops(*query, *gallery)
    assert np.isnan(expected_first).any()
    np.testing.assert_array_equal(first, expected_first)
    np.testing.assert_allclose(precision, expected_precision, rtol=1e-6)


def test_evaluation_reads_a_market_folder(tmp_path: Path) -> None:
    red, green = (250, 5, 5), (5, 250, 5)
    write_crop(tmp_path / "query" / "0001_c1.png", red)
    write_crop(tmp_path / "query" / "0002_c1.png", green)
    write_crop(tmp_path / "bounding_box_test" / "0001_c2.png", (240, 15, 5))
    write_crop(tmp_path / "bounding_box_test" / "0002_c2.png", (200, 60, 5))  # looks like 1
    write_crop(tmp_path / "bounding_box_test" / "0001_c1_2.png", red)  # own camera: left out
    write_crop(tmp_path / "bounding_box_test" / "-1_c2.png", red)  # junk: left out
    teacher = load_teacher(mean_colour)
    # query 1 ranks 1 first; query 2 ranks its only match first too, nearest to green: below 1's crops it is not
    assert evaluate_reid(teacher, tmp_path) == {"rank1": 1.0, "mAP": 1.0}
    write_crop(tmp_path / "bounding_box_test" / "0003_c2.png", green)  # a stranger in the colour of 2
    assert evaluate_reid(teacher, tmp_path) == {"rank1": 0.5, "mAP": 0.75}


def test_evaluation_says_what_is_missing(tmp_path: Path) -> None:
    teacher = load_teacher(mean_colour)
    with pytest.raises(DataError, match="has no query/"):
        evaluate_reid(teacher, tmp_path)
    write_crop(tmp_path / "query" / "0001_c1.png", (1, 1, 1))
    write_crop(tmp_path / "bounding_box_test" / "0001_c1.png", (1, 1, 1))
    with pytest.raises(DataError, match="nothing can be measured"):
        evaluate_reid(teacher, tmp_path)
    with pytest.raises(ShapeError, match="query embeddings have 2 dimensions, gallery embeddings 3"):
        one = np.ones(1, np.int64)
        rank_gallery(np.ones((1, 2), np.float32), one, one, np.ones((1, 3), np.float32), one, one)


def test_sampler_draws_each_identity_once_an_epoch_and_remembers_nothing() -> None:
    identity = np.repeat([4, 9, 11, 30, 31, -1], [1, 5, 3, 8, 2, 6])
    sampler = IdentitySampler(identity, 2, 4, seed=5)
    assert sampler.num_identities == 5
    assert sampler.label.tolist() == np.repeat([0, 1, 2, 3, 4, -1], [1, 5, 3, 8, 2, 6]).tolist()
    for epoch in range(4):
        drawn = [sampler.draw(2 * epoch + place) for place in range(2)]
        people = [identity[batch].reshape(2, 4) for batch in drawn]
        assert all((block == block[:, :1]).all() for block in people)
        seen = np.concatenate([block[:, 0] for block in people])
        assert len(set(seen)) == 4
        assert -1 not in seen
    for batch in (sampler.draw(step) for step in range(12)):
        for block in batch.reshape(2, 4):
            if (identity == identity[block[0]]).sum() >= 4:
                assert len(set(block)) == 4
    again = IdentitySampler(identity, 2, 4, seed=5)
    np.testing.assert_array_equal(again.draw(7), sampler.draw(7))
    assert any((IdentitySampler(identity, 2, 4, seed=6).draw(step) != sampler.draw(step)).any() for step in range(3))


def test_sampler_needs_two_people_and_takes_all_where_there_are_few() -> None:
    with pytest.raises(DataError, match="show 1 identities"):
        IdentitySampler(np.array([3, 3, -1]), 2, 2, seed=0)
    assert len(IdentitySampler(np.array([3, 3, 5]), 16, 4, seed=0).draw(0)) == 8


def test_crops_are_cached_at_one_size(tmp_path: Path) -> None:
    for index in range(5):
        write_crop(tmp_path / f"000{index}_c1.png", (index * 10, 0, 0), (5 + index, 9))
    cached = load_crops(read_reid_crops(tmp_path), 32, 16)
    assert cached.shape == (5, 32, 16, 3)
    assert cached[:, 7, 7, 0].tolist() == [0, 10, 20, 30, 40]


def test_augmentation_varies_crops_and_follows_its_generator() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (6, 32, 16, 3), dtype=np.uint8)
    device = torch.device("cpu")
    first = augment_crops(crops, np.random.default_rng(1), 0.5, device)
    again = augment_crops(crops, np.random.default_rng(1), 0.5, device)
    assert torch.equal(first, again)
    assert first.shape == (6, 3, 32, 16)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(first, augment_crops(crops, np.random.default_rng(2), 0.5, device))
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    pixels = first * std + mean
    assert -1e-5 <= pixels.min() <= pixels.max() <= 1 + 1e-5


def test_erasing_blanks_one_rectangle_to_the_mean_colour() -> None:
    crops = np.full((40, 32, 16, 3), 255, dtype=np.uint8)  # white stays far from the mean colour whatever the jitter
    whole = augment_crops(crops, np.random.default_rng(1), 0.0, torch.device("cpu"))
    assert (whole != 0).all()
    for image in augment_crops(crops, np.random.default_rng(1), 1.0, torch.device("cpu")):
        blank = (image == 0).all(dim=0)
        assert torch.equal(blank, (image == 0).any(dim=0))
        rows, columns = torch.nonzero(blank, as_tuple=True)
        if len(rows):
            assert blank[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert blank.float().mean() <= 0.4
    erased = augment_crops(crops, np.random.default_rng(1), 1.0, torch.device("cpu"))
    assert sum(bool((image == 0).any()) for image in erased) >= 30


def test_contrastive_loss_is_its_formula_by_loops() -> None:
    torch.manual_seed(2)
    features = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 4])
    unit = features / features.norm(dim=1, keepdim=True)
    totals = []
    for i in range(9):
        likenesses = [j for j in range(9) if j != i and label[j] == label[i]]
        if likenesses:
            everyone = sum(torch.exp(unit[i] @ unit[k] / 0.2) for k in range(9) if k != i)
            totals.append(-sum(torch.log(torch.exp(unit[i] @ unit[j] / 0.2) / everyone) for j in likenesses) / len(likenesses))
    assert len(totals) == 7
    loss = contrastive_loss(features, label, 0.2)
    torch.testing.assert_close(loss, torch.stack(totals).mean())
    assert torch.autograd.gradcheck(lambda rows: contrastive_loss(rows, label, 0.2), (features,))


def test_contrastive_loss_of_strangers_is_zero_and_differentiable() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(features, torch.tensor([0, 1, 2]), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_head_scores_are_cosines_behind_batch_norm() -> None:
    torch.manual_seed(0)
    head = IdentityHead(6, 4)
    features = torch.rand(5, 6) + 3
    scores = head(features)
    centred = (features - features.mean(dim=0)) / (features.var(dim=0, unbiased=False) + head.neck.eps).sqrt()
    for b in range(5):
        for k in range(4):
            direction = head.direction[k]
            cosine = centred[b] @ direction / (centred[b].norm() * direction.norm())
            torch.testing.assert_close(scores[b, k], 16 * cosine, rtol=1e-4, atol=1e-4)
