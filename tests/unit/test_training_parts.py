"""A batch in parts: who starts the processes, and that parts add up to the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tdtrack.config import AssignConfig, DataSource, LossConfig, OptimizerConfig
from tdtrack.errors import ConfigError
from tdtrack.model import BatchTotals, IdentityHead, JointModel, Losses, Targets, assign_batch, compute_losses
from tdtrack.training.order import PositionBatches
from tdtrack.training.processes import launched_by_others
from tdtrack.training.schedule import learning_rate_at
from tdtrack.training.session import Session
from training_world import TINY_MODEL, tiny_config, write_images, write_store


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    folder = tmp_path_factory.mktemp("world") / "train"
    write_images(folder, 8, empty=1)
    return write_store(folder)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"WORLD_SIZE": "4"}, None),
        (TORCHRUN, (2, 3)),
        (SLURM, (4, 2)),
        (SLURM | TORCHRUN, (2, 3)),
        (SLURM | {"SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_who_started_the_processes_says_how_many(environment: dict[str, str], found: tuple[int, int] | None) -> None:
    assert launched_by_others(environment) == found


def test_machines_with_different_numbers_of_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 processes are not shared evenly"):
        launched_by_others(TORCHRUN | {"WORLD_SIZE": "7"})


def test_shares_and_micro_batches_must_be_even() -> None:
    assert list(PositionBatches(8, 0, 1, rank=1, world_size=2, accumulate=2)) == [[4, 5, 6, 7]]
    with pytest.raises(ConfigError, match=r"batch_size is 6, which 2 devices with 2 micro-batches each.*multiple of 4"):
        PositionBatches(6, 0, 1, world_size=2, accumulate=2)


def test_the_linear_rule_scales_the_rate_and_nothing_else_does() -> None:
    plain = OptimizerConfig(learning_rate=0.15, warmup_learning_rate=0.001, warmup_steps=10, steps=100, batch_size=16)
    scaled = replace(plain, batch_size=64, learning_rate_batch=16)
    assert learning_rate_at(10, scaled) == 4 * learning_rate_at(10, plain)
    assert learning_rate_at(55, scaled) == pytest.approx(4 * learning_rate_at(55, plain))
    assert learning_rate_at(0, scaled) == 0.001
    assert learning_rate_at(5, scaled) == pytest.approx((0.001 + 0.6) / 2)
    assert learning_rate_at(10, replace(plain, batch_size=64)) == 0.15


def made_up_batch() -> tuple[torch.Tensor, Targets]:
    """Four images with 2, 0, 1 and 3 boxes, some of known identity and one ignored."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 64, 96), dtype=torch.uint8, generator=generator)
    counts = (2, 0, 1, 3)
    boxes = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 40
        boxes.append(torch.cat([corner, corner + 12 + torch.rand(count, 2, generator=generator) * 30], dim=1))
    kinds = [torch.zeros(count, dtype=torch.int64) for count in counts]
    ignore = [torch.arange(count) == 2 for count in counts]
    teacher = [torch.randn(count, TINY_MODEL.embedding_dim, generator=generator) for count in counts]
    who = [torch.arange(count) - 1 for count in counts]
    return images, Targets(boxes, kinds, ignore, teacher, who)


def part_of(targets: Targets, rows: slice) -> Targets:
    assert targets.identity is not None
    columns = (targets.boxes, targets.class_id, targets.ignore, targets.embedding, targets.identity)
    return Targets(*(column[rows] for column in columns))


@pytest.mark.parametrize("named", [False, True], ids=["teacher", "identities"])
def test_the_losses_of_parts_add_up_to_those_of_the_batch(named: bool) -> None:
    torch.manual_seed(0)
    model = JointModel(TINY_MODEL).eval()
    head = IdentityHead(TINY_MODEL.embedding_dim, 4) if named else None
    images, targets = made_up_batch()
    how = AssignConfig(), LossConfig()
    whole = compute_losses(model, model(images), targets, *how, head)
    whole.total.backward()
    gradients = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    anchors = model(images[:1]).anchors
    parts = [(images[rows], part_of(targets, rows)) for rows in (slice(0, 1), slice(1, 2), slice(2, 4))]
    assigned = [assign_batch(anchors, of_part, how[0]) for _, of_part in parts]
    counted = [BatchTotals.of(assignment, of_part) for assignment, (_, of_part) in zip(assigned, parts)]
    totals = BatchTotals(*(torch.stack(column).sum() for column in zip(*((t.images, t.positives, t.named) for t in counted))))
    assert int(totals.images) == 4
    assert int(totals.positives) == whole.positives > int(totals.named) > 0
    losses: list[Losses] = []
    for (pixels, of_part), assignment in zip(parts, assigned):
        losses.append(compute_losses(model, model(pixels), of_part, *how, head, assignment=assignment, totals=totals))
        losses[-1].total.backward()
    for name in ("total", "classification", "box", "embedding"):
        added = sum(float(getattr(part, name).detach()) for part in losses)
        assert added == pytest.approx(float(getattr(whole, name).detach()), rel=1e-5), name
    assert sum(part.positives for part in losses) == whole.positives
    again = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert len(again) == len(gradients) > 50
    for added, at_once in zip(again, gradients):
        torch.testing.assert_close(added, at_once, rtol=1e-3, atol=1e-5 * float(at_once.abs().max()) + 1e-8)


def learned(source: DataSource, out: Path, accumulate: int, *, freeze_norms: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers and weights after two iterations."""
    optimizer = OptimizerConfig(learning_rate=0.001, warmup_steps=0, steps=2, batch_size=4, accumulate=accumulate)
    session = Session(tiny_config(out, source, optimizer=optimizer))
    if freeze_norms:
        for module in session.run.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    for batch in session.batches():
        session.iterate(batch)
    return session.run.sums, torch.cat([weight.detach().flatten() for weight in session.run.model.parameters()])


def test_micro_batches_learn_what_the_batch_does_where_norms_are_fixed(source: DataSource, tmp_path: Path) -> None:
    sums, weights = learned(source, tmp_path / "1", 1, freeze_norms=True)
    for accumulate in (2, 4):
        again, moved = learned(source, tmp_path / f"{accumulate}", accumulate, freeze_norms=True)
        torch.testing.assert_close(again, sums, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(moved, weights, rtol=1e-4, atol=1e-6)


def test_micro_batches_differ_by_batch_norm_alone(source: DataSource, tmp_path: Path) -> None:
    (sums, _), (again, _) = (learned(source, tmp_path / f"{n}", n, freeze_norms=False) for n in (1, 2))
    assert sums[-1] == again[-1] > 0  # positives know no norms
    assert not torch.allclose(sums, again, rtol=1e-4, atol=1e-6)


def test_the_log_says_how_a_batch_is_spread_and_where_its_rate_comes_from(source: DataSource, tmp_path: Path) -> None:
    optimizer = OptimizerConfig(learning_rate=0.1, warmup_steps=0, steps=2, batch_size=8, accumulate=2)
    plain = Session(tiny_config(tmp_path / "plain", source, optimizer=optimizer)).remarks()[0]
    assert plain.startswith("batch of 8: 1 x 2 x 4 (processes, micro-batches, images); learning rate 0.1, as set")
    scaled = replace(optimizer, learning_rate_batch=16)
    remark = Session(tiny_config(tmp_path / "scaled", source, optimizer=scaled)).remarks()[0]
    assert remark.endswith("learning rate 0.05, 0.1 x 8 / 16, by the linear rule")
