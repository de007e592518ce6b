"""The counterpart that learns from identities: where they come from, what it learns, and that nothing else reads them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tdtrack.config import AssignConfig, DataSource, LossConfig
from tdtrack.data import load_dataset
from tdtrack.data.identities import read_identities, write_identities
from tdtrack.data.walkers import WalkersConfig, withheld_identities, write_world
from tdtrack.data.walkers.render import make_shot, render_frame
from tdtrack.errors import ConfigError, DataError, ShapeError
from tdtrack.model import UNKNOWN, IdentityHead, JointModel, Targets, compute_losses
from tdtrack.training import train
from tdtrack.training.samples import TrainingSamples, load_labelled_sets
from tdtrack.training.state import RunState
from training_world import TINY_MODEL, tiny_config, write_images, write_store

WORLD = WalkersConfig(seed=5, width=160, height=96, max_people=6, min_people=5, reid_identities=0, reid_test_identities=0)
WORLD = replace(WORLD, detection_videos=2, detection_frames=3, validation_videos=1, validation_frames=1, sequences=0)


def test_withheld_identities_are_those_of_the_rendered_people(tmp_path: Path) -> None:
    world = write_world(WORLD, tmp_path, progress=False, workers=1)
    assert not [path for path in tmp_path.rglob("*") if "identit" in path.name]
    boxes, identity = withheld_identities(WORLD)
    named = dict(zip(boxes.tolist(), identity.tolist()))
    dataset = load_dataset(world.train, world.images)
    assert sorted(named) == sorted(dataset.annotation_id.tolist())
    shots = [make_shot(WORLD, "train", index, 33) for index in range(2)]
    looked_at = 0
    for image in dataset.images:
        video, frame = int(image.path.stem[6:8]) - 1, int(image.path.stem[9:]) - 1
        people = render_frame(shots[video], frame)
        for box, annotation in zip(image.xyxy, image.annotation_id.tolist()):
            here = people.identity[(people.xyxy == box).all(axis=1)]
            assert named[annotation] in here
            looked_at += 1
    assert looked_at == len(boxes) > 20
    assert 5 <= len(set(identity.tolist())) < len(boxes)  # people are seen again


def test_files_of_identities_are_read_back_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "who.json"
    write_identities(path, np.array([3, 1, 2]), np.array([9, 0, 9]))
    assert read_identities(path) == {3: 9, 1: 0, 2: 9}
    bad = {
        '{"annotation_id": [1, 2], "identity": [1]}': "two lists of one length",
        '{"annotation_id": [1]}': "two lists of one length",
        "[1, 2": "is not a file of identities",
        '{"annotation_id": [1], "identity": [-1]}': "annotation 1 has identity -1",
        '{"annotation_id": [1, 2], "identity": [1, "x"]}': "annotation 2 has identity 'x'",
        '{"annotation_id": [4, 4], "identity": [1, 1]}': "annotation 4 is listed twice",
        '{"annotation_id": [9223372036854775808], "identity": [1]}': "annotation 9223372036854775808 has identity 1",
        '{"annotation_id": [1], "identity": [9223372036854775808]}': "must be whole numbers below 2",
    }
    for text, message in bad.items():
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_identities(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_identities(tmp_path / "none.json")


def test_a_repeated_box_among_many_is_found_in_time(tmp_path: Path) -> None:
    many = [*range(300_000), 299_999]  # comparing each with each would take hours
    (tmp_path / "who.json").write_text(json.dumps({"annotation_id": many, "identity": many}))
    with pytest.raises(DataError, match="annotation 299999 is listed twice"):
        read_identities(tmp_path / "who.json")


def test_identity_loss_is_fairmots_formula() -> None:
    torch.manual_seed(0)
    head = IdentityHead(5, 7)
    student, identity = torch.randn(4, 5, requires_grad=True), torch.tensor([2, UNKNOWN, 6, 2])
    total = 0.0
    for row, who in zip(student.detach().double(), identity.tolist()):
        if who == UNKNOWN:
            continue
        unit = row / row.norm() * math.sqrt(2) * math.log(6)
        scores = [
            float(weights.double() @ unit + bias)
            for weights, bias in zip(head.classifier.weight.detach(), head.classifier.bias.detach())
        ]
        total += math.log(sum(math.exp(score) for score in scores)) - scores[who]
    loss = head(student, identity)
    assert float(loss.detach()) == pytest.approx(total / 3, rel=1e-5)
    loss.backward()
    assert student.grad is not None
    assert torch.equal(student.grad[1], torch.zeros(5))
    nobody = head(student, torch.full((4,), UNKNOWN))
    nobody.backward()
    assert float(nobody.detach()) == 0
    assert head.classifier.weight.grad is not None
    with pytest.raises(ShapeError, match="4 anchors but 3 identities"):
        head(student, identity[:3])


def test_identities_replace_the_teacher_and_nothing_else() -> None:
    torch.manual_seed(0)
    model, head = JointModel(TINY_MODEL), IdentityHead(TINY_MODEL.embedding_dim, 4)
    predictions = model(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))
    boxes = [torch.tensor([[10.0, 10, 30, 60]]), torch.tensor([[40.0, 8, 64, 56], [70, 10, 90, 60]])]
    counts = [len(rows) for rows in boxes]
    marks = [[torch.zeros(n, dtype=kind) for n in counts] for kind in (torch.int64, torch.bool)]
    teacher, who = [torch.randn(n, TINY_MODEL.embedding_dim) for n in counts], [torch.tensor([3]), torch.tensor([UNKNOWN, 0])]
    targets = Targets(boxes, *marks, teacher, who)  # type: ignore[arg-type]
    settings = AssignConfig(), LossConfig()
    taught, named = (compute_losses(model, predictions, targets, *settings, one) for one in (None, head))
    assert torch.equal(taught.classification, named.classification) and torch.equal(taught.box, named.box)
    other = Targets(boxes, *marks, [-rows for rows in teacher], who)  # type: ignore[arg-type]
    assert torch.equal(compute_losses(model, predictions, other, *settings, head).embedding, named.embedding)
    assert not torch.equal(compute_losses(model, predictions, other, *settings).embedding, taught.embedding)
    with pytest.raises(ShapeError, match="the targets have none"):
        compute_losses(model, predictions, Targets(boxes, *marks, teacher), *settings, head)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    write_images(tmp_path / "data", 4)
    source = write_store(tmp_path / "data")
    ids = load_dataset(source.annotations, source.images).annotation_id
    write_identities(tmp_path / "who.json", ids[1:], 100 + np.arange(len(ids) - 1) % 3)
    return replace(source, identities=str(tmp_path / "who.json"))


def test_identities_are_numbered_over_all_sets(source: DataSource, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", source)
    sets = load_labelled_sets([source, source], config.model.classes, config.model.embedding_dim, need_stores=True)
    samples = TrainingSamples(sets, config)
    assert samples.num_identities == 6  # three people in each: equal numbers in two sets are not one person
    per_set = samples._identity.reshape(2, -1)
    assert per_set[0, 0] == per_set[1, 0] == UNKNOWN
    assert per_set[0, 1:].tolist() == [index % 3 for index in range(per_set.shape[1] - 1)]
    assert (per_set[1, 1:] == per_set[0, 1:] + 3).all()


def test_the_counterpart_trains_and_leaves_no_classifier_behind(source: DataSource, tmp_path: Path) -> None:
    loss = LossConfig(supervision="identities", embedding_weight=1.0)
    named = train(tiny_config(tmp_path / "named", source, steps=3, loss=loss), progress=False)
    unread = replace(source, identities=str(tmp_path / "no such file.json"))  # the paper's method never opens it
    taught = train(tiny_config(tmp_path / "taught", unread, steps=3), progress=False)
    weights = []
    for path in (named, taught):
        with safe_open(path, framework="pt") as file:
            assert not [key for key in file.keys() if "identity" in key]  # noqa: SIM118 - not a mapping
            weights.append(file.get_tensor("embedding_head.conv2.bias"))
    assert not torch.equal(*weights)


def test_what_the_counterpart_lacks_is_said(source: DataSource, tmp_path: Path) -> None:
    loss = LossConfig(supervision="identities")
    with pytest.raises(ConfigError, match=r"annotations\.json names none; set its identities"):
        tiny_config(tmp_path / "run", replace(source, identities=""), loss=loss)
    lone = tmp_path / "lone.json"
    lone.write_text(json.dumps({"annotation_id": [1], "identity": [0]}))
    with pytest.raises(ConfigError, match="the training data name 1; name at least two"):
        train(tiny_config(tmp_path / "run", replace(source, identities=str(lone)), loss=loss), progress=False)


def test_identities_of_another_data_set_are_refused(source: DataSource, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", source)
    write_identities(tmp_path / "who.json", np.array([7001, 7002]), np.array([0, 1]))
    with pytest.raises(
        DataError, match=r"who\.json: none of its 2 annotations is a box of .*annotations\.json; set identities"
    ):
        load_labelled_sets([source], config.model.classes, config.model.embedding_dim, need_stores=True)


def test_the_classifier_is_part_of_a_checkpoint() -> None:
    def state(seed: int) -> RunState:
        torch.manual_seed(seed)
        model, head = JointModel(replace(TINY_MODEL, embedding_dim=4)), IdentityHead(4, 5)
        return RunState(model, torch.optim.SGD(head.parameters(), lr=0.1), None, torch.zeros(6, dtype=torch.float64), head)

    first, second = state(1), state(2)
    second.load_state_dict(first.state_dict())
    assert first.identity_head is not None and second.identity_head is not None
    assert torch.equal(first.identity_head.classifier.weight, second.identity_head.classifier.weight)


def test_mixed_precision_does_not_blur_who_is_who() -> None:
    torch.manual_seed(0)
    head = IdentityHead(16, 3000)
    student, identity = torch.randn(20, 16), torch.randint(0, 3000, (20,))
    plain = head(student, identity)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = head(student, identity)
        rounded = torch.nn.functional.cross_entropy(
            head.classifier(head.scale * torch.nn.functional.normalize(student, dim=1)).float(), identity
        )
    assert torch.equal(mixed, plain) and not torch.equal(rounded, plain)
