"""Known Re-ID checkpoints by name: torchreid's model zoo, as far as we build its networks. Nothing is downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tdtrack.errors import ConfigError, WeightsError

__all__ = ["CHECKPOINTS", "MODEL_ZOO", "Checkpoint", "find_checkpoint", "list_checkpoints", "weights_folder"]

MODEL_ZOO = "https://kaiyangzhou.github.io/deep-person-reid/MODEL_ZOO"
"""Page that lists the files; its author mirrors them at https://huggingface.co/kaiyangzhou/osnet."""

_DATA_LICENCE = {
    "MSMT17": "research only",
    "Market-1501": "research only",
    "DukeMTMC-reID": "withdrawn by its authors",
}
_JITTER = "256x128_amsgrad_ep150_stp60_lr0.0015_b64_fb10_softmax_labelsmooth_flip_jitter.pth"
_FLIP = "256x128_amsgrad_ep150_stp60_lr0.0015_b64_fb10_softmax_labelsmooth_flip.pth"
_LONG = "256x128_amsgrad_ep180_stp80_lr0.003_b128_fb10_softmax_labelsmooth_flip.pth"
_COSINE = "lr0.0015_coslr_b64_fb10_softmax_labsmth_flip_jitter.pth"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One trained network.

    Attributes:
        architecture: one of ``tdtrack.teacher.ARCHITECTURES``.
        data: what it was trained on.
        identities: of that data, the rows of its classifier.
        file: name under which the model zoo publishes it.
        market_map: mAP on Market-1501 without training on it, percent, as the model zoo states it; ``None`` where it does not.
        sha256: of the file; empty where we do not know it.
    """

    architecture: str
    data: str
    identities: int
    file: str
    market_map: float | None = None
    sha256: str = ""

    @property
    def licence(self) -> str:
        """Of the weights, and of the data they learned from."""
        return f"MIT (torchreid); {self.data}: {_DATA_LICENCE[self.data]}"


def _whole_msmt17(architecture: str, market_map: float, sha256: str = "") -> Checkpoint:
    return Checkpoint(architecture, "MSMT17", 4101, f"{architecture}_msmt17_combineall_{_JITTER}", market_map, sha256)


CHECKPOINTS: dict[str, Checkpoint] = {
    # Trained on all of MSMT17, for other domains: Tab. 3's ResNet50, ON-Small and ON-Large are among these.
    "resnet50_msmt17_combineall": _whole_msmt17("resnet50", 22.8),
    "osnet_x1_0_msmt17_combineall": _whole_msmt17("osnet_x1_0", 37.5),
    "osnet_x0_75_msmt17_combineall": _whole_msmt17("osnet_x0_75", 35.5),
    "osnet_x0_5_msmt17_combineall": _whole_msmt17("osnet_x0_5", 34.9),
    "osnet_x0_25_msmt17_combineall": _whole_msmt17(
        "osnet_x0_25", 31.0, "cf55163d78fc44c62c82f85ab62d39f10438679b5abe8c698ae08cfa84aa6e18"
    ),
    "osnet_ibn_x1_0_msmt17_combineall": _whole_msmt17("osnet_ibn_x1_0", 37.2),
    "osnet_ain_x1_0_msmt17": Checkpoint(
        "osnet_ain_x1_0",
        "MSMT17",
        4101,
        f"osnet_ain_x1_0_msmt17_256x128_amsgrad_ep50_{_COSINE}",
        43.3,
        "8a07e8da38946f7cee37f4561617bf8b6d2fe8f3a4027852893ea092e46d919f",
    ),
    # Trained on one data set's training part, for that data set.
    "resnet50_msmt17": Checkpoint("resnet50", "MSMT17", 1041, "resnet50_msmt_xent.pth.tar"),
    "resnet50_fc512_msmt17": Checkpoint("resnet50_fc512", "MSMT17", 1041, "resnet50_fc512_msmt_xent.pth.tar"),
    "osnet_x1_0_msmt17": Checkpoint("osnet_x1_0", "MSMT17", 1041, f"osnet_x1_0_msmt17_{_FLIP}"),
    "osnet_x0_75_msmt17": Checkpoint("osnet_x0_75", "MSMT17", 1041, f"osnet_x0_75_msmt17_{_FLIP}"),
    "osnet_x0_5_msmt17": Checkpoint("osnet_x0_5", "MSMT17", 1041, f"osnet_x0_5_msmt17_{_LONG}"),
    "osnet_x0_25_msmt17": Checkpoint(
        "osnet_x0_25",
        "MSMT17",
        1041,
        f"osnet_x0_25_msmt17_{_LONG}",
        sha256="6f57607fed9f502b9efed546108132ee715df5a5b6e6932c6269bacb47f59f99",
    ),
    "resnet50_market1501": Checkpoint("resnet50", "Market-1501", 751, "resnet50_market_xent.pth.tar"),
    "resnet50_fc512_market1501": Checkpoint("resnet50_fc512", "Market-1501", 751, "resnet50_fc512_market_xent.pth.tar"),
    "osnet_x1_0_market1501": Checkpoint("osnet_x1_0", "Market-1501", 751, f"osnet_x1_0_market_{_FLIP}"),
    "osnet_x0_75_market1501": Checkpoint("osnet_x0_75", "Market-1501", 751, f"osnet_x0_75_market_{_FLIP}"),
    "osnet_x0_5_market1501": Checkpoint("osnet_x0_5", "Market-1501", 751, f"osnet_x0_5_market_{_LONG}"),
    "osnet_x0_25_market1501": Checkpoint("osnet_x0_25", "Market-1501", 751, f"osnet_x0_25_market_{_LONG}"),
    "osnet_ibn_x1_0_market1501": Checkpoint("osnet_ibn_x1_0", "Market-1501", 751, f"osnet_ibn_x1_0_market1501_{_JITTER}"),
    "osnet_ain_x1_0_market1501": Checkpoint(
        "osnet_ain_x1_0", "Market-1501", 751, f"osnet_ain_x1_0_market1501_256x128_amsgrad_ep100_{_COSINE}"
    ),
    "resnet50_duke": Checkpoint("resnet50", "DukeMTMC-reID", 702, "resnet50_duke_xent.pth.tar"),
    "resnet50_fc512_duke": Checkpoint("resnet50_fc512", "DukeMTMC-reID", 702, "resnet50_fc512_duke_xent.pth.tar"),
    "osnet_x1_0_duke": Checkpoint("osnet_x1_0", "DukeMTMC-reID", 702, f"osnet_x1_0_duke_{_FLIP}"),
    "osnet_x0_75_duke": Checkpoint("osnet_x0_75", "DukeMTMC-reID", 702, f"osnet_x0_75_duke_{_FLIP}"),
    "osnet_x0_5_duke": Checkpoint("osnet_x0_5", "DukeMTMC-reID", 702, f"osnet_x0_5_duke_{_LONG}"),
    "osnet_x0_25_duke": Checkpoint("osnet_x0_25", "DukeMTMC-reID", 702, f"osnet_x0_25_duke_{_LONG}"),
    "osnet_ibn_x1_0_duke": Checkpoint("osnet_ibn_x1_0", "DukeMTMC-reID", 702, f"osnet_ibn_x1_0_duke_{_FLIP}", 26.1),
    "osnet_ain_x1_0_duke": Checkpoint(
        "osnet_ain_x1_0", "DukeMTMC-reID", 702, f"osnet_ain_x1_0_dukemtmcreid_256x128_amsgrad_ep90_{_COSINE}", 30.6
    ),
}
"""Name to checkpoint, under the names that trackers use for them.

Source:
    torchreid's model zoo. ``osnet_x0_25_msmt17`` has the checksum of the file our reference features were made with; the
    other two checksums are those that its author's mirror shows, taken from projects that pin them.
"""


def weights_folder() -> Path:
    """Return where checkpoints are looked for: ``TDTRACK_WEIGHTS``, or ``tdtrack/weights`` in the user's cache folder."""
    if "TDTRACK_WEIGHTS" in os.environ:
        return Path(os.environ["TDTRACK_WEIGHTS"])
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "tdtrack" / "weights"


def find_checkpoint(name: str) -> Path:
    """Return the file of a known checkpoint, which the user has put into the weights folder.

    Args:
        name: a key of ``CHECKPOINTS``.

    Returns:
        ``<name>.pth`` there, or the file under its published name.

    Raises:
        WeightsError: neither is there (says what to fetch from where, and where to put it), or its checksum is not the
            published one.
    """
    known, folder = CHECKPOINTS[name], weights_folder()
    path = next((path for path in (folder / f"{name}.pth", folder / known.file) if path.is_file()), None)
    if path is None:
        raise WeightsError(
            f"the weights of {name} are not in {folder}; fetch {known.file} from {MODEL_ZOO} ({known.licence}) and put it "
            f"there, also as {name}.pth, or name its place with --teacher {known.architecture} --weights FILE"
        )
    if known.sha256:
        digest = sha256(path.read_bytes()).hexdigest()
        if digest != known.sha256:
            raise WeightsError(
                f"{path} has SHA-256 {digest[:12]}..., the published {name} has {known.sha256[:12]}...; fetch it again from "
                f"{MODEL_ZOO}, or use it as it is with --teacher {known.architecture} --weights {path}"
            )
    return path


def list_checkpoints(architecture: str = "") -> list[str]:
    """Return a table of the known checkpoints, a line each, then their licences.

    Args:
        architecture: only those of this network; empty lists all.

    Raises:
        ConfigError: no checkpoint of that architecture is known.
    """
    chosen = {name: known for name, known in CHECKPOINTS.items() if architecture in ("", known.architecture)}
    if not chosen:
        names = ", ".join(dict.fromkeys(known.architecture for known in CHECKPOINTS.values()))
        raise ConfigError(f"no checkpoint of {architecture!r} is known; there are some of {names}")
    folder = weights_folder()
    rows = [("name", "here", "trained on", "ids", "Market mAP", "SHA-256", "file")]
    for name, known in chosen.items():
        here = any(path.is_file() for path in (folder / f"{name}.pth", folder / known.file))
        accuracy = "" if known.market_map is None else f"{known.market_map:.1f}"
        digest = f"{known.sha256[:12]}..." if known.sha256 else "not known"
        rows.append((name, "yes" if here else "no", known.data, str(known.identities), accuracy, digest, known.file))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [*table, *(f"licence: {licence}" for licence in sorted({known.licence for known in chosen.values()}))]
