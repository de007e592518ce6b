"""The joint model: RetinaNet with a third head that embeds what it detects (Fig. 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize
from torch.nn.modules.batchnorm import _BatchNorm

from tdtrack.config import DetectConfig, ModelConfig
from tdtrack.errors import ShapeError
from tdtrack.model.anchors import pyramid_anchors
from tdtrack.model.backbones import build_trunk
from tdtrack.model.detect import DetectedTensors, select_detections
from tdtrack.model.heads import EmbeddingHead, Subnet, class_bias, per_anchor
from tdtrack.model.target import TeacherTarget

__all__ = ["JointModel", "Predictions", "weight_decay_groups"]

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(eq=False)
class Predictions:
    """What one forward pass gives, one row per anchor in the order of :mod:`tdtrack.model.anchors`.

    Attributes:
        class_logits: ``(B, N, K)`` before the sigmoid.
        box_codes: ``(B, N, 4)`` as ``(dy, dx, dh, dw)``.
        features: per level ``(B, fpn_width, H_l, W_l)``, the pyramid, from which the embedding head goes on.
        anchors: ``(N, 4)`` xyxy in input pixels; shared, never write into it.
        level_shapes: ``(H_l, W_l)`` per level, fine to coarse.
    """

    class_logits: Tensor
    box_codes: Tensor
    features: list[Tensor]
    anchors: Tensor
    level_shapes: tuple[tuple[int, int], ...]


class JointModel(nn.Module):
    """RetinaNet with class, box and embedding heads.

    Attributes:
        config: what the model was built from.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Build the model; initial weights come from torch's global random generator.

        Args:
            config: the architecture.

        Raises:
            ConfigError: the backbone is unknown or has no features at a level the pyramid needs.
            WeightsError: pretrained weights were asked for and cannot be fetched.

        Source:
            Sec. 3.2, 4.2; batch norm constants of Supp. A, everywhere.
        """
        super().__init__()
        self.config = config
        levels = config.max_level - config.min_level + 1
        slots = config.anchors_per_cell
        self.backbone, self.pyramid = build_trunk(config)
        self.class_subnet = Subnet(levels, slots * len(config.classes), class_bias(config.class_prior), config)
        self.box_subnet = Subnet(levels, slots * 4, 0.0, config)
        self.embedding_head = EmbeddingHead(levels, config)
        self.teacher_target: TeacherTarget | None = None
        self.register_buffer("pixel_mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eps, module.momentum = config.norm_eps, config.norm_momentum
        self.to(memory_format=torch.channels_last)  # anchor rows and kernels become views

    def forward(self, images: Tensor) -> Predictions:
        """Predict everything but embeddings, which :meth:`embed_dense` or :meth:`embed_at` adds.

        Args:
            images: ``(B, 3, H, W)`` RGB, uint8 or float, 0 to 255, any size; normalised inside.

        Returns:
            Raw predictions at all anchors.

        Raises:
            ShapeError: the images have another shape, or are so small and few that batch norm has nothing to average.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ShapeError(f"images have shape {tuple(images.shape)}, expected (B, 3, H, W)")
        batch, _, height, width = images.shape
        if self.training and batch == 1 and max(height, width) <= 2**self.config.max_level:
            raise ShapeError(
                f"one image of {height}x{width} has a single cell at level {self.config.max_level}, which batch norm "
                "cannot learn from; train on more images at once, on larger ones, or with a lower model.max_level"
            )
        pixels = ((images.float() - self.pixel_mean) / self.pixel_std).contiguous(memory_format=torch.channels_last)
        features = self.pyramid(self.backbone(pixels))
        shapes = tuple((level.shape[2], level.shape[3]) for level in features)
        slots = self.config.anchors_per_cell
        return Predictions(
            class_logits=torch.cat([per_anchor(level, slots) for level in self.class_subnet(features)], dim=1),
            box_codes=torch.cat([per_anchor(level, slots) for level in self.box_subnet(features)], dim=1),
            features=features,
            anchors=pyramid_anchors(shapes, self.config, images.device),
            level_shapes=shapes,
        )

    @torch.no_grad()
    def start_embeddings_at(self, mean: Tensor) -> None:
        """Make an untrained head predict one embedding everywhere.

        Args:
            mean: ``(D_s,)`` mean teacher embedding of the training boxes.

        Raises:
            ShapeError: the mean has another width.

        Source:
            Our choice, as the class prior is for scores: in short runs a head that started at 0 went to the mean embedding
            and stayed there.
        """
        self.embedding_head.start_at(mean)

    @torch.no_grad()
    def map_embeddings(self, offset: Tensor, matrix: Tensor, teacher_dim: int) -> None:
        """Make every embedding ``e`` come out as ``(e - offset) @ matrix``; what it has learned of its teacher goes along.

        Args:
            offset: ``(D_s,)``.
            matrix: ``(D_s, D_s)``, invertible.
            teacher_dim: D_t of its teacher.
        """
        target = self.teacher_target
        if target is None:
            target = TeacherTarget(torch.zeros(teacher_dim), torch.eye(teacher_dim, len(offset)))
        self.embedding_head.map_outputs(offset, matrix)
        self.teacher_target = target.mapped(offset, matrix)

    def merged(self) -> JointModel:
        """Return a plain copy for saving: a shared embedding kernel, where training split one off, joins each slot's own."""
        # Not a deep copy whose parametrization is removed: both share one class, and the removal would hit this model too.
        plain = JointModel(replace(self.config, pretrained=False))
        plain.config, plain.teacher_target = self.config, self.teacher_target
        names = plain.state_dict().keys()
        state = {name: value for name, value in self.state_dict().items() if name in names}
        plain.load_state_dict(state | {"embedding_head.conv2.weight": self.embedding_head.conv2.weight.detach()})
        return plain

    def target_of(self, teacher: Tensor) -> Tensor:
        """Return what this model learns of teacher embeddings.

        Args:
            teacher: ``(N, D_t)``.

        Returns:
            ``(N, D_s)``, not normalised: their part in the directions of ``teacher_target``, or their first D_s numbers
            where that is not set.

        Raises:
            ShapeError: the embeddings are narrower than D_s, or of another width than the target was fitted to.

        Source:
            Sec. 3.4 for the first D_s numbers.
        """
        if self.teacher_target is not None:
            projected: Tensor = self.teacher_target(teacher)
            return projected
        if teacher.shape[1] < self.config.embedding_dim:
            raise ShapeError(
                f"teacher embeddings have {teacher.shape[1]} numbers, fewer than the model's {self.config.embedding_dim}; "
                "annotate with the teacher it was trained with"
            )
        return teacher[:, : self.config.embedding_dim]

    def agreement(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Measure how well predicted embeddings meet the teacher's.

        Args:
            student: ``(N, D_s)`` predictions, not normalised.
            teacher: ``(N, D_t)`` embeddings of the same boxes.

        Returns:
            ``(N,)`` cosines in ``[-1, 1]``, in the teacher's own space: of its first D_s numbers, or of all D_t where the
            student learned directions.

        Raises:
            ShapeError: as :meth:`target_of`.
        """
        target = self.target_of(teacher)
        if self.teacher_target is not None:
            student, target = self.teacher_target.back(student), teacher
        if self.config.embedding_target == "first":
            student, target = (numbers[:, : self.config.embedding_dim] for numbers in (student, target))
        return cosine_similarity(student, target, dim=1)

    def embed_dense(self, predictions: Predictions) -> Tensor:
        """Embed every anchor, as the paper does.

        Args:
            predictions: of this model.

        Returns:
            ``(B, N, D_s)``, not normalised.

        Source:
            Sec. 3.2.
        """
        return self.embedding_head.dense(self.embedding_head(predictions.features))

    def embed_at(self, predictions: Predictions, image: Tensor, anchor: Tensor) -> Tensor:
        """Embed chosen anchors only; the same numbers as :meth:`embed_dense` to rounding, and differentiable.

        In training mode the head's first convolution still runs everywhere, for batch norm learns from whole maps.

        Args:
            predictions: of this model.
            image: ``(P,)`` int64 in ``[0, B)``.
            anchor: ``(P,)`` int64 in ``[0, N)``.

        Returns:
            ``(P, D_s)``, not normalised, in the order asked for; ``(0, D_s)`` for none.

        Source:
            Our choice, because the dense head is a quarter to two thirds of the network's work.
        """
        if self.training:
            return self.embedding_head.at(self.embedding_head(predictions.features), image, anchor)
        return self.embedding_head.lazily_at(predictions.features, image, anchor)

    @torch.no_grad()
    def detect(self, images: Tensor, config: DetectConfig, *, dense: bool = False) -> list[DetectedTensors]:
        """Detect and embed in one pass, in evaluation mode whatever mode the model is in.

        Args:
            images: ``(B, 3, H, W)`` RGB, uint8 or float, 0 to 255.
            config: thresholds and caps.
            dense: embed every anchor and pick, as the paper does, instead of embedding the kept anchors only.

        Returns:
            One record per image, best detection first; without rows where nothing was found.

        Raises:
            ShapeError: the images have another shape.

        Source:
            Sec. 3.2.
        """
        height, width = images.shape[-2:]
        with _evaluating(self):
            predictions = self(images)
            found = [
                select_detections(logits, codes, predictions.anchors, height, width, config)
                for logits, codes in zip(predictions.class_logits, predictions.box_codes)
            ]
            counts = [len(candidates.anchor) for candidates in found]
            anchor = torch.cat([candidates.anchor for candidates in found])
            image = torch.arange(len(found), device=anchor.device).repeat_interleave(torch.tensor(counts, device=anchor.device))
            embedding = self.embed_dense(predictions)[image, anchor] if dense else self.embed_at(predictions, image, anchor)
        rows = torch.split(normalize(embedding.float(), dim=1), counts)
        return [DetectedTensors(c.xyxy, c.score, c.class_id, row) for c, row in zip(found, rows)]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode; afterwards exactly the modules that were in training mode are again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def weight_decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Split parameters for an optimiser whose weight decay is meant for convolution kernels only.

    Args:
        model: a module whose only parameters with four dimensions are convolution kernels.

    Returns:
        Two groups: convolution kernels, under the optimiser's own weight decay, and the rest, with zero.

    Source:
        Supp. A for the decay; what it applies to from TensorFlow Model Garden.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim == 4]},
        {"params": [parameter for parameter in parameters if parameter.ndim != 4], "weight_decay": 0.0},
    ]
