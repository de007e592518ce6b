from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tdtrack.config import ModelConfig
from tdtrack.errors import ShapeError
from tdtrack.model import JointModel, TeacherTarget, load_model, principal_directions, save_model
from tdtrack.model.heads import EmbeddingHead


@pytest.fixture
def rows() -> torch.Tensor:
    """Teacher embeddings with unequal variance in every direction."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(60, 6)) * [5, 4, 3, 2, 1, 0.5] @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    return torch.from_numpy(mixed + rng.normal(size=6))


def test_directions_are_those_of_the_singular_value_decomposition(rows: torch.Tensor) -> None:
    centred = rows - rows.mean(dim=0)
    directions = principal_directions(centred.T @ centred / len(rows), 4)
    _, _, right = torch.linalg.svd(centred, full_matrices=False)
    assert torch.allclose((right[:4] @ directions).abs(), torch.eye(4, dtype=torch.float64), atol=1e-9)
    assert (directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)) > 0).all()
    variance = (centred @ directions).var(dim=0)
    assert (variance.diff() < 0).all()


def test_back_undoes_the_projection_as_far_as_the_directions_reach(rows: torch.Tensor) -> None:
    mean = rows.mean(dim=0)
    centred = rows - mean
    for count in (2, 6):
        directions = principal_directions(centred.T @ centred, count)
        target = TeacherTarget(mean.float(), directions.float())
        expected = mean + centred @ directions @ directions.T
        assert torch.allclose(target.back(target(rows)).double(), expected, atol=1e-4)
    assert torch.allclose(expected, rows)


def test_a_teacher_of_another_width_is_refused(rows: torch.Tensor) -> None:
    model = small_model()
    with pytest.raises(ShapeError, match="6 numbers, fewer than the model's 8"):
        model.target_of(rows.float())
    model.teacher_target = TeacherTarget(torch.zeros(16), torch.eye(16)[:, :8])
    with pytest.raises(ShapeError, match="6 numbers, the model learned from a teacher with 16"):
        model.target_of(rows.float())


def test_agreement_is_the_cosine_in_the_teachers_space() -> None:
    torch.manual_seed(0)
    teacher, model = torch.randn(5, 16), small_model()
    student = torch.randn(5, 8)
    plain = [float(np.dot(s, t[:8]) / np.linalg.norm(s) / np.linalg.norm(t[:8])) for s, t in zip(student, teacher)]
    assert model.agreement(student, teacher).tolist() == pytest.approx(plain, abs=1e-6)
    directions = torch.linalg.qr(torch.randn(16, 16))[0][:, :8]
    model.teacher_target = TeacherTarget(torch.full((16,), 0.3), directions)
    model.config = replace(model.config, embedding_target="pca")
    meant = [np.full(16, 0.3) + directions.numpy() @ s.numpy() for s in student]
    full = [float(np.dot(m, t) / np.linalg.norm(m) / np.linalg.norm(t)) for m, t in zip(meant, teacher)]
    assert model.agreement(student, teacher).tolist() == pytest.approx(full, abs=1e-6)


def test_the_target_travels_with_the_weights(tmp_path: object) -> None:
    model = small_model()
    model.teacher_target = TeacherTarget(torch.randn(16), torch.randn(16, 8))
    save_model(f"{tmp_path}/model.safetensors", model, {})
    again, _ = load_model(f"{tmp_path}/model.safetensors")
    teacher = torch.randn(3, 16)
    assert torch.equal(again.target_of(teacher), model.target_of(teacher))


def small_model() -> JointModel:
    config = ModelConfig(
        backbone="test_resnet", embedding_dim=8, max_level=5, fpn_width=16, subnet_depth=1, subnet_width=16, embedding_width=16
    )
    return JointModel(config)


def test_a_shared_kernel_learns_what_all_slots_learn_together() -> None:
    torch.manual_seed(0)
    config = ModelConfig(embedding_dim=5, fpn_width=6, embedding_width=7)
    plain, shared = (EmbeddingHead(2, config) for _ in range(2))
    shared.load_state_dict(plain.state_dict())
    shared.share_slots()
    features = [torch.randn(2, 6, 4, 5), torch.randn(2, 6, 2, 3)]
    image = torch.tensor([0, 1, 1, 0])
    anchor = torch.tensor([3, 40, 185, 200])  # the last two in the coarser level
    outputs = [head.at(head(features), image, anchor) for head in (plain, shared)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    own, common = (getattr(shared.conv2.parametrizations.weight, f"original{index}").grad for index in (0, 1))
    assert torch.allclose(own, plain.conv2.weight.grad)
    by_slot = plain.conv2.weight.grad.view(config.anchors_per_cell, 5, 7, 3, 3)
    assert torch.allclose(common, by_slot.sum(dim=0), atol=1e-7) and common.abs().max() > 0


def test_tied_slots_learn_one_kernel_as_if_each_had_a_copy_of_it() -> None:
    torch.manual_seed(2)
    config = ModelConfig(embedding_dim=5, fpn_width=6, embedding_width=7)
    plain, tied = (EmbeddingHead(2, config) for _ in range(2))
    with torch.no_grad():
        plain.conv2.bias.normal_()  # slots differ in their biases alone
        plain.conv2.weight.normal_()
        mean = plain.conv2.weight.view(config.anchors_per_cell, 5, 7, 3, 3).mean(dim=0)
    tied.load_state_dict(plain.state_dict())
    tied.tie_slots()
    with torch.no_grad():
        plain.conv2.weight.copy_(mean.repeat(config.anchors_per_cell, 1, 1, 1))
    features = [torch.randn(2, 6, 4, 5), torch.randn(2, 6, 2, 3)]
    image, anchor = torch.tensor([0, 1, 1, 0]), torch.tensor([3, 40, 185, 200])
    outputs = [head.at(head(features), image, anchor) for head in (plain, tied)]
    assert torch.allclose(*outputs, atol=1e-5)
    assert torch.allclose(tied.dense(tied(features))[image, anchor], outputs[0], atol=1e-5)
    for output in outputs:
        output.square().sum().backward()
    common = tied.conv2.parametrizations.weight.original.grad
    by_slot = plain.conv2.weight.grad.view(config.anchors_per_cell, 5, 7, 3, 3)
    assert torch.allclose(common, by_slot.sum(dim=0), rtol=1e-4, atol=1e-4) and common.abs().max() > 0
    assert torch.allclose(tied.conv2.bias.grad, plain.conv2.bias.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["share_slots", "tie_slots"])
def test_a_merged_model_is_plain_and_the_same_and_leaves_the_other_as_it_was(how: str) -> None:
    torch.manual_seed(1)
    model = small_model()
    names = list(model.state_dict())
    getattr(model.embedding_head, how)()
    with torch.no_grad():
        list(model.embedding_head.conv2.parametrizations.weight.parameters())[-1].normal_()
    split = list(model.state_dict())
    plain = model.merged().eval()
    assert list(plain.state_dict()) == names and list(model.state_dict()) == split
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    before, after = (each.embed_dense(each.eval()(image)) for each in (model, plain))
    assert torch.allclose(before, after, atol=1e-6) and before.std() > 0.1


@pytest.mark.parametrize("known", [False, True], ids=["first numbers", "directions"])
def test_a_mapped_model_gives_mapped_embeddings_and_agrees_with_its_teacher_as_before(known: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = small_model().eval()
    with torch.no_grad():
        model.embedding_head.conv2.weight.normal_()
        model.embedding_head.conv2.bias.normal_()
    teacher = torch.randn(20, 12) + 2
    if known:
        directions = torch.linalg.qr(torch.randn(12, 8))[0]
        model.teacher_target = TeacherTarget(torch.randn(12), directions)
        model.config = replace(model.config, embedding_target="pca")
    offset, matrix = torch.randn(8), torch.randn(8, 8)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        before = model.embed_dense(model(image))[0]
        target = model.target_of(teacher)
        agreement = model.agreement(before[:20], teacher)
        model.map_embeddings(offset, matrix, teacher_dim=12)
        save_model(tmp_path / "mapped.safetensors", model, {})
        model, _ = load_model(tmp_path / "mapped.safetensors")
        after = model.embed_dense(model(image))[0]
        assert torch.allclose(after, (before - offset) @ matrix, rtol=1e-3, atol=1e-2)
        assert torch.allclose(model.target_of(teacher), (target - offset) @ matrix, rtol=1e-3, atol=1e-3)
        assert torch.allclose(model.agreement(after[:20], teacher), agreement, atol=1e-3)
