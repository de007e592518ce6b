"""What must hold for any teacher, crop and gallery."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tdtrack.teacher import load_teacher
from tdtrack.teacher.crops import normalise_crops, resize_crops, unit_rows
from tdtrack.teacher.reid import rank_gallery
from tdtrack.teacher.reid_losses import contrastive_loss

crops = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def moments(batch: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.append(crop.reshape(-1, 3).mean(axis=0), 1.0) for crop in batch])


@given(st.lists(crops, max_size=6), st.randoms())
def test_an_embedding_depends_on_its_crop_alone(batch: list[np.ndarray], chance: object) -> None:
    teacher = load_teacher(moments)
    together = teacher.embed(batch)
    assert together.shape == (len(batch), 4)
    np.testing.assert_allclose((together**2).sum(axis=1), np.ones(len(batch)), rtol=1e-5)
    order = list(range(len(batch)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(teacher.embed([batch[index] for index in order]), together[order])


@given(crops, st.integers(1, 9), st.integers(1, 9))
def test_resizing_stays_within_the_crops_colours_and_keeps_its_size(crop: np.ndarray, height: int, width: int) -> None:
    (resized,) = resize_crops([crop], height, width)
    assert resized.shape == (height, width, 3)
    assert (resized.min(axis=(0, 1)) >= crop.min(axis=(0, 1))).all()
    assert (resized.max(axis=(0, 1)) <= crop.max(axis=(0, 1))).all()
    np.testing.assert_array_equal(resize_crops([crop], *crop.shape[:2])[0], crop)
    np.testing.assert_array_equal(resize_crops([resized], height, width)[0], resized)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.just(3))))
def test_normalising_can_be_undone(batch: np.ndarray) -> None:
    normalised = normalise_crops(batch)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    assert normalised.flags.c_contiguous
    np.testing.assert_allclose((normalised.transpose(0, 2, 3, 1) * std + mean) * 255, batch, atol=1e-3)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 30))
def test_ranking_ignores_order_and_scores_perfection_as_one(seed: int, people: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    identity = generator.integers(0, people, size)
    camera = generator.integers(1, 3, size)
    perfect = np.eye(people, dtype=np.float32)
    asked, asked_camera = np.arange(people), np.full(people, 3)  # a camera of their own: nothing is left out
    first, precision = rank_gallery(perfect, asked, asked_camera, perfect[identity], identity, camera)
    there = np.isin(asked, identity)
    np.testing.assert_array_equal(precision, np.where(there, 1.0, np.nan))
    np.testing.assert_array_equal(first, precision)
    noise = unit_rows(generator.normal(size=(size, 6)).astype(np.float32))
    query = unit_rows(generator.normal(size=(people, 6)).astype(np.float32))
    _, straight = rank_gallery(query, asked, asked_camera, noise, identity, camera)
    order = generator.permutation(size)
    _, shuffled = rank_gallery(query, asked, asked_camera, noise[order], identity[order], camera[order])
    np.testing.assert_allclose(straight, shuffled, rtol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.floats(0.1, 10.0))
def test_contrastive_loss_sees_angles_and_is_known_where_likenesses_meet(seed: int, temperature: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    label = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    loss = contrastive_loss(features, label, temperature)
    torch.testing.assert_close(contrastive_loss(features * scale, label, temperature), loss)
    met = torch.eye(5, dtype=torch.float64)[label]  # likenesses coincide, the six strangers are at right angles
    share = math.exp(1 / temperature) / (math.exp(1 / temperature) + 6)
    assert float(contrastive_loss(met, label, temperature)) == pytest.approx(-math.log(share), abs=1e-7)
