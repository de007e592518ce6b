"""Real data under one folder, as their authors publish them, and the model zoo's teachers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from tdtrack.benchmarks import sequence_sets
from tdtrack.config import DataSource
from tdtrack.data import load_source
from tdtrack.data.mot import find_sequences
from tdtrack.errors import DataError
from tdtrack.reproduce.material import content_key
from tdtrack.reproduce.tables import Data
from tdtrack.teacher import Teacher, load_teacher
from tdtrack.teacher.zoo import CHECKPOINTS

__all__ = ["BASE_TRAIN_SET", "CROWDHUMAN", "PUBLISHED", "VALIDATION", "FolderMaterial"]

BASE_TRAIN_SET = (
    DataSource("ETH", skip_bad_boxes=True),
    DataSource("CityPersons/annotations/anno_train.mat", "cityscapes", skip_bad_boxes=True),
    DataSource("Caltech", split="train", skip_bad_boxes=True),
    DataSource("MOT17/train", skip_bad_boxes=True),
    DataSource("CUHK-SYSU", split="train", skip_bad_boxes=True),
    DataSource("PRW", split="train", skip_bad_boxes=True),
)
"""The paper's BaseTrainSet (Sec. 4.1), in the layouts of ``docs/data.md``; the same as ``recipes/data/base-train-set.yaml``."""

CROWDHUMAN = DataSource("CrowdHuman/annotation_train.odgt", box="full", skip_bad_boxes=True)
"""What Fig. 5's largest model and Tab. 4 learn from too."""

VALIDATION = DataSource("MOT15/train", split="MOT15-val", skip_bad_boxes=True)
"""The six validation sequences of Sec. 4.1."""

PUBLISHED = {
    "ResNet50": "resnet50_msmt17_combineall",
    "ON-Small": "osnet_x0_25_msmt17_combineall",
    "ON-Large": "osnet_ain_x1_0_msmt17",
}
"""The paper's teachers (Tab. 3) by their names in the weights folder."""


@dataclass(frozen=True, eq=False)
class FolderMaterial:
    """Real data under one folder, and the model zoo's teachers from the weights folder.

    Expected are ``BASE_TRAIN_SET``, ``CROWDHUMAN`` and ``VALIDATION``, in the layouts of ``docs/data.md``. What is called
    ``base-train-set``, ``crowdhuman`` or ``mot15-validation`` there is taken instead: of the first two ``annotations.json``
    (COCO), ``images/`` and, for Tab. 4, ``identities.json``; of the last any MOT sequences.

    Attributes:
        root: the folder.
    """

    root: Path

    @cache  # noqa: B019 - one object per command
    def data_key(self, data: Data, *, identities: bool = False) -> str:
        """Return a name that the boxes determine, and who is in them where that is asked for."""
        sources = self.training(data, identities=identities)
        who = [sha256(Path(source.identities).read_bytes()).hexdigest() for source in sources if identities]
        return content_key([load_source(source).fingerprint() for source in sources], *who)

    def teacher_key(self, name: str) -> str:
        """Return a name that the checkpoint determines."""
        return f"{PUBLISHED[name]}-{self.teacher(name).fingerprint[:12]}"

    @cache  # noqa: B019 - one object per command
    def sequences_key(self) -> str:
        """Return a name that the boxes determine."""
        return content_key(load_source(self.held_out()).fingerprint())

    def training(self, data: Data, *, identities: bool) -> list[DataSource]:
        """Return the paper's data sets: MOT17 alone, BaseTrainSet, or CrowdHuman too.

        Raises:
            DataError: one is not there, or lacks the identities asked for.
        """
        if data == "part":
            return [self._published(next(source for source in BASE_TRAIN_SET if source.annotations.startswith("MOT17")))]
        sources = self._merged_or("base-train-set", BASE_TRAIN_SET, identities=identities)
        return sources + (self._merged_or("crowdhuman", (CROWDHUMAN,), identities=identities) if data == "more" else [])

    def held_out(self) -> DataSource:
        """Return the validation sequences as images with boxes: ceilings are fitted to these, without identities."""
        folder = self.root / "mot15-validation"
        return DataSource(str(folder)) if folder.exists() else self._published(VALIDATION)

    def sequences(self) -> list[Path]:
        """Return the validation sequences."""
        source = self.held_out()
        wanted = sequence_sets()[source.split] if source.split else None
        folders = [sequence.folder for sequence in find_sequences(source.annotations)]
        return [folder for folder in folders if wanted is None or folder.name in wanted]

    @cache  # noqa: B019 - one object per command
    def teacher(self, name: str) -> Teacher:
        """Return a published teacher."""
        return load_teacher(PUBLISHED[name])

    def teacher_map(self, name: str) -> float | None:
        """Return its mAP on Market-1501 as its publishers measured it."""
        measured = CHECKPOINTS[PUBLISHED[name]].market_map
        return None if measured is None else measured / 100

    def _merged_or(self, name: str, published: tuple[DataSource, ...], *, identities: bool) -> list[DataSource]:
        """Return the COCO file in place of data sets if the user made one; identities are read from beside such a file only."""
        if not (self.root / name).exists() and not identities:
            return [self._published(source) for source in published]
        who = str(self._there(f"{name}/identities.json")) if identities else ""
        return [DataSource(str(self._there(f"{name}/annotations.json")), str(self._there(f"{name}/images")), identities=who)]

    def _published(self, source: DataSource) -> DataSource:
        images = str(self._there(source.images)) if source.images else ""
        return replace(source, annotations=str(self._there(source.annotations)), images=images)

    def _there(self, name: str) -> Path:
        path = self.root / name
        if not path.exists():
            raise DataError(f"{path} is not there; put it there, docs/paper.md says how a --data-root is laid out")
        return path
