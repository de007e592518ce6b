"""The training room: from data sets with embeddings to a joint model (Sec. 3.2 to 3.4, 4.2, Supp. A).

``loop`` is the whole of it on one screen; ``session`` does what the loop says. ``samples`` and ``augment`` make tensors of
images, ``order`` says which sample comes when, ``schedule`` how fast to learn, ``ema`` averages weights, ``state`` keeps a
run on disk, ``log`` writes numbers down, ``validate`` measures.
"""

from importlib.util import find_spec

from tdtrack.errors import MissingExtraError

for _package in ("torch", "lightning_fabric", "pyarrow"):
    if find_spec(_package) is None:
        raise MissingExtraError(_package, "train", "training")

from tdtrack.training.loop import train  # noqa: E402

__all__ = ["train"]
