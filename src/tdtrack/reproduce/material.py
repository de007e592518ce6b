"""What tables are made of: images with boxes, teachers, and sequences to track; and the walkers world as such."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from tdtrack.config import DataSource, TeacherTrainConfig
from tdtrack.data import load_dataset
from tdtrack.data.coco import write_coco
from tdtrack.data.dataset import DetectionDataset
from tdtrack.data.identities import write_identities
from tdtrack.data.walkers import WalkersConfig, World, withheld_identities, write_world
from tdtrack.errors import ConfigError
from tdtrack.files import once
from tdtrack.reproduce.scale import Scale, apply_settings
from tdtrack.reproduce.tables import Data
from tdtrack.teacher import Teacher, load_teacher
from tdtrack.teacher.train import evaluate_reid, train_teacher
from tdtrack.version import __version__

__all__ = ["ARCHITECTURE", "Material", "WalkersMaterial", "content_key"]

ARCHITECTURE = {"ResNet50": "resnet50", "ON-Small": "osnet_x0_25", "ON-Large": "osnet_ain_x1_0"}
"""Tab. 3's teachers; on walkers each is trained from scratch on the world's crops."""

_SHARE: dict[Data, tuple[int, int]] = {"part": (1, 15), "base": (2, 3), "more": (1, 1)}
"""Of the walkers' training videos: about what MOT17, the BaseTrainSet, and it with CrowdHuman are to each other in images."""

_SEQUENCES = frozenset({"sequences", "sequence_frames"})
_DETECTION = frozenset({"detection_videos", "detection_frames", "validation_videos", "validation_frames"})


class Material(Protocol):
    """What a table asks for. Everything is made at the first request and found at the next; keys name it before it is made."""

    def data_key(self, data: Data, *, identities: bool = False) -> str:
        """Return a name for training data that changes whenever their content would, with identities or without."""
        ...

    def teacher_key(self, name: str) -> str:
        """Return a name for a teacher that changes whenever its embeddings would."""
        ...

    def sequences_key(self) -> str:
        """Return a name for the sequences and the held-out boxes that changes whenever their content would."""
        ...

    def training(self, data: Data, *, identities: bool) -> list[DataSource]:
        """Return data sets to learn from, without stores; with files of identities where asked for."""
        ...

    def held_out(self) -> DataSource:
        """Return boxes to fit appearance ceilings and measure agreement on, without a store."""
        ...

    def sequences(self) -> list[Path]:
        """Return the MOT sequences to track."""
        ...

    def teacher(self, name: str) -> Teacher:
        """Return one of the paper's teachers."""
        ...

    def teacher_map(self, name: str) -> float | None:
        """Return how well it finds people again, as a fraction; ``None`` where nobody measured it."""
        ...


def content_key(*content: Any) -> str:
    """Return a name for whatever these plain values determine; equal values have equal names."""
    text = json.dumps([__version__, *content], sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class WalkersMaterial:
    """The synthetic world, and teachers trained on its crops.

    Attributes:
        scale: world and teachers' training.
        out: folder for worlds and teachers, each under a name that its settings determine.
    """

    scale: Scale
    out: Path

    def __post_init__(self) -> None:
        """Refuse a scale that trains teachers nobody asks for.

        Raises:
            ConfigError: ``teacher_steps`` names another teacher than Tab. 3's.
        """
        if unknown := sorted(set(self.scale.teacher_steps) - set(ARCHITECTURE)):
            raise ConfigError(f"teacher_steps names {', '.join(unknown)}; the teachers are {', '.join(ARCHITECTURE)}")

    def data_key(self, data: Data, *, identities: bool = False) -> str:  # noqa: ARG002  (the world determines who is who)
        """Return a name that the world without its sequences, and the share of its videos, determine."""
        return f"{self._world_key(_SEQUENCES)}-{_videos(self.scale.walkers, data)}-videos"

    def teacher_key(self, name: str) -> str:
        """Return a name that architecture, training and the world's crops determine."""
        config = self._teacher_settings(name)
        return f"{config.architecture}-{content_key(self._world_key(_SEQUENCES | _DETECTION), asdict(config))}"

    def sequences_key(self) -> str:
        """Return the world's name."""
        return self._world_key()

    def _world_key(self, irrelevant: frozenset[str] = frozenset()) -> str:
        """Name the world by its settings but those that change nothing of the part in question."""
        return content_key({name: value for name, value in asdict(self.scale.walkers).items() if name not in irrelevant})

    @cache  # noqa: B019 - one object per command
    def world(self) -> World:
        """Return the world, written at the first request."""
        return write_world(self.scale.walkers, self.out / "worlds" / self._world_key())

    def training(self, data: Data, *, identities: bool) -> list[DataSource]:
        """Return the training images of a share of the videos, as one data set."""
        world = self.world()
        videos = _videos(self.scale.walkers, data)
        annotations = world.train if data == "more" else world.root / "shares" / f"{videos}-videos.json"
        if not annotations.is_file():
            _write_share(load_dataset(world.train, world.images), videos, annotations, world.images)
        who = world.root / "withheld" / "identities.json"
        if identities and not who.is_file():
            write_identities(who, *withheld_identities(self.scale.walkers))
        return [DataSource(str(annotations), str(world.images), identities=str(who) if identities else "")]

    def held_out(self) -> DataSource:
        """Return the frames of the validation videos."""
        world = self.world()
        return DataSource(str(world.val), str(world.images))

    def sequences(self) -> list[Path]:
        """Return the world's sequences."""
        return list(self.world().sequences)

    @cache  # noqa: B019 - one object per command
    def teacher(self, name: str) -> Teacher:
        """Return a teacher trained on the world's crops."""
        crops, out = str(self.world().reid), str(self._teacher_file(name))
        return load_teacher(train_teacher(replace(self._teacher_settings(name), crops=crops, out=out)))

    def teacher_map(self, name: str) -> float | None:
        """Return its mAP on people of the world it was not trained on."""
        path = self._teacher_file(name).with_suffix(".json")
        quality: dict[str, float] = once(path, lambda: evaluate_reid(self.teacher(name), self.world().reid))
        return quality["mAP"]

    def _teacher_file(self, name: str) -> Path:
        return self.out / "teachers" / f"{self.teacher_key(name)}.safetensors"

    def _teacher_settings(self, name: str) -> TeacherTrainConfig:
        """Return a teacher's training, without the places of its crops and file."""
        steps = self.scale.teacher_steps
        settings = {**self.scale.teacher, **({"steps": steps[name]} if name in steps else {})}
        return apply_settings(TeacherTrainConfig(crops="", out="", architecture=ARCHITECTURE[name]), settings)


def _videos(config: WalkersConfig, data: Data) -> int:
    """Return how many training videos a share has, rounded up."""
    share, of = _SHARE[data]
    return -(-config.detection_videos * share // of)


def _write_share(dataset: DetectionDataset, videos: int, path: Path, images_dir: Path) -> None:
    """Write the images of the first videos as a data set of their own; boxes keep their annotation ids."""
    names = [image.path.name.rpartition("-")[0] for image in dataset.images]
    kept = set(list(dict.fromkeys(names))[:videos])
    images = [image for image, name in zip(dataset.images, names) if name in kept]
    write_coco(path, images, dataset.classes, images_dir=images_dir, description=dataset.source, licence=dataset.licence)
