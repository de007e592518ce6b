"""What a person looks like: drawn once per identity and kept wherever that identity appears."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

__all__ = ["Color", "Look", "make_looks"]

T = TypeVar("T")
Color = tuple[int, int, int]
Pattern = Literal["plain", "stripes", "pinstripes", "block", "logo", "open"]
Lower = Literal["trousers", "shorts", "skirt"]
Hair = Literal["short", "long", "bun", "tail", "curly", "bald"]
Hat = Literal["none", "cap", "beanie", "hood"]
Bag = Literal["none", "backpack", "satchel", "handbag"]

# Everyday clothes: mostly dark and muted, some bright; the pixels a camera records of them, before light and style.
CLOTHES: tuple[Color, ...] = (
    (28, 28, 34), (56, 58, 66), (120, 122, 126), (222, 220, 214), (38, 50, 92), (62, 98, 160), (128, 172, 214),
    (158, 36, 40), (206, 76, 58), (226, 142, 52), (228, 200, 78), (44, 96, 62), (104, 128, 70), (134, 196, 160),
    (112, 66, 128), (214, 128, 160), (116, 78, 52), (186, 156, 116), (36, 110, 118), (92, 34, 52),
)  # fmt: skip
LOWERS: tuple[Color, ...] = (
    (30, 30, 36), (46, 56, 86), (74, 98, 136), (120, 140, 164), (92, 84, 74), (170, 152, 122), (108, 110, 114), (66, 74, 52),
    (208, 204, 196), (112, 52, 48),
)  # fmt: skip
SKINS: tuple[Color, ...] = ((244, 208, 180), (230, 186, 152), (206, 154, 116), (168, 116, 82), (122, 80, 56), (84, 56, 42))
HAIRS: tuple[Color, ...] = (
    (26, 22, 22),
    (58, 38, 28),
    (98, 64, 38),
    (150, 104, 58),
    (208, 172, 112),
    (150, 66, 36),
    (172, 170, 168),
)
SHOES: tuple[Color, ...] = ((28, 26, 26), (230, 228, 222), (96, 66, 44), (170, 44, 44), (60, 84, 132), (112, 112, 112))


@dataclass(frozen=True, slots=True)
class Look:
    """The persistent appearance of one identity.

    Attributes:
        stature: height from sole to crown, in metres.
        build: width relative to a slim adult, about 0.85 to 1.35.
        skin: its colour, as all others RGB in 0..255 before light and camera.
        hair: how it is worn.
        hair_color: its colour.
        hat: what is worn on the head.
        hat_color: its colour.
        upper: colour of shirt, jacket or coat.
        upper_second: second colour of its pattern.
        pattern: how the two colours share the upper garment; "open" is a jacket open over a shirt.
        sleeve: share of the arm that is covered, 0 to 1.
        hem: length of the upper garment in statures below the waist, 0.08 (shirt) to 0.3 (coat).
        lower: the lower garment.
        lower_color: its colour.
        lower_length: share of the leg it covers, 0 to 1.
        shoe_color: colour of the shoes.
        bag: what is carried.
        bag_color: its colour.
        stride: length of a step relative to the usual.
        arm_swing: relative to the usual.
        posture: forward lean in radians.
    """

    stature: float
    build: float
    skin: Color
    hair: Hair
    hair_color: Color
    hat: Hat
    hat_color: Color
    upper: Color
    upper_second: Color
    pattern: Pattern
    sleeve: float
    hem: float
    lower: Lower
    lower_color: Color
    lower_length: float
    shoe_color: Color
    bag: Bag
    bag_color: Color
    stride: float
    arm_swing: float
    posture: float


def make_looks(rng: np.random.Generator, count: int, lookalike_fraction: float) -> tuple[list[Look], list[int]]:
    """Draw the looks of ``count`` identities, some of them in groups that look alike.

    Args:
        rng: stream to draw from.
        count: number of identities.
        lookalike_fraction: share of identities in a group of two to four that differ in one or two attributes.

    Returns:
        The looks, and for each the number of its group from 0; an identity with nobody like it has a group of its own.
    """
    looks: list[Look] = []
    group: list[int] = []
    while len(looks) < count:
        base = _draw(rng)
        # A group of k is chosen so that the expected share of grouped people, not of groups, is the fraction asked for.
        grouped = lookalike_fraction >= 1 or rng.random() < lookalike_fraction / (
            lookalike_fraction + 3 * (1 - lookalike_fraction)
        )
        size = int(rng.integers(2, 5)) if grouped else 1
        members = [base]
        while len(members) < size:
            other = _alike(rng, base)
            if other not in members:
                members.append(other)
        number = group[-1] + 1 if group else 0
        looks.extend(members)
        group.extend([number] * size)
    return looks[:count], group[:count]


def _pick(rng: np.random.Generator, palette: tuple[Color, ...], spread: float = 10) -> Color:
    """Choose a colour and move it a little, so that two red coats are rarely the same red."""
    base = np.array(palette[int(rng.integers(len(palette)))], float)
    red, green, blue = np.clip(base + rng.normal(0, spread, 3) + rng.normal(0, spread), 8, 246)
    return int(red), int(green), int(blue)


def _other(rng: np.random.Generator, palette: tuple[Color, ...], unlike: Color) -> Color:
    """Choose a colour that can be told from ``unlike`` in a small image."""
    for _ in range(20):
        color = _pick(rng, palette)
        if sum(abs(a - b) for a, b in zip(color, unlike)) > 150:
            break
    return color


def _choice(rng: np.random.Generator, weights: dict[T, float]) -> T:
    names = list(weights)
    share = np.array(list(weights.values()))
    return names[int(rng.choice(len(names), p=share / share.sum()))]


def _draw(rng: np.random.Generator) -> Look:
    upper = _pick(rng, CLOTHES)
    lower = _choice(rng, _LOWER_KINDS)
    coat = rng.random() < 0.2
    hat = _choice(rng, _HATS)
    return Look(
        stature=float(np.clip(rng.normal(1.7, 0.09), 1.45, 1.95)),
        build=float(np.clip(rng.normal(1.05, 0.12), 0.85, 1.35)),
        skin=_pick(rng, SKINS, 4),
        hair=_choice(rng, _HAIR_KINDS),
        hair_color=_pick(rng, HAIRS, 5),
        hat=hat,
        hat_color=upper if hat == "hood" else _pick(rng, CLOTHES),
        upper=upper,
        upper_second=_other(rng, CLOTHES, upper),
        pattern=_choice(rng, _PATTERNS),
        sleeve=1.0 if coat else _choice(rng, {1.0: 6, 0.3: 4, 0.08: 1}),
        hem=float(rng.uniform(0.2, 0.32)) if coat else float(rng.uniform(0.07, 0.12)),
        lower=lower,
        lower_color=_pick(rng, LOWERS if lower != "skirt" else CLOTHES),
        lower_length=1.0 if lower == "trousers" else float(rng.uniform(0.4, 0.75)),
        shoe_color=_pick(rng, SHOES, 6),
        bag=_choice(rng, _BAGS),
        bag_color=_pick(rng, CLOTHES),
        stride=float(np.clip(rng.normal(1, 0.1), 0.8, 1.2)),
        arm_swing=float(np.clip(rng.normal(1, 0.3), 0.3, 1.7)),
        posture=float(np.clip(rng.normal(0.04, 0.04), -0.02, 0.16)),
    )


_LOWER_KINDS: dict[Lower, float] = {"trousers": 6, "shorts": 2, "skirt": 2}
_HATS: dict[Hat, float] = {"none": 7, "cap": 1.3, "beanie": 1, "hood": 0.7}
_HAIR_KINDS: dict[Hair, float] = {"short": 5, "long": 3, "bun": 1, "tail": 1.2, "curly": 1, "bald": 0.8}
_PATTERNS: dict[Pattern, float] = {"plain": 4, "stripes": 1.6, "pinstripes": 0.8, "block": 1.6, "logo": 1.4, "open": 1.6}
_BAGS: dict[Bag, float] = {"none": 5, "backpack": 2.5, "satchel": 1.5, "handbag": 1.2}


def _alike(rng: np.random.Generator, base: Look) -> Look:
    """Change one or two attributes of a look, and the body a little (nobody has a perfect twin)."""
    body = replace(
        base,
        stature=float(np.clip(base.stature + rng.normal(0, 0.03), 1.45, 1.95)),
        build=float(np.clip(base.build + rng.normal(0, 0.03), 0.85, 1.35)),
        stride=float(np.clip(base.stride + rng.normal(0, 0.05), 0.8, 1.2)),
    )
    changes = {
        "upper": lambda look: replace(look, upper=_other(rng, CLOTHES, look.upper)),
        "lower": lambda look: replace(look, lower_color=_other(rng, LOWERS, look.lower_color)),
        "pattern": lambda look: replace(
            look,
            pattern=_choice(rng, {kind: share for kind, share in _PATTERNS.items() if kind != look.pattern}),
        ),
        "second": lambda look: replace(look, pattern="block", upper_second=_other(rng, CLOTHES, look.upper_second)),
        "bag": lambda look: replace(
            look,
            bag=_choice(rng, {kind: share for kind, share in _BAGS.items() if kind != look.bag}),
            bag_color=_other(rng, CLOTHES, look.upper),
        ),
        "hair": lambda look: replace(
            look,
            hair=_choice(rng, {kind: share for kind, share in _HAIR_KINDS.items() if kind != look.hair}),
            hair_color=_other(rng, HAIRS, look.hair_color),
            hat="none",
        ),
        "hat": lambda look: replace(
            look, hat="cap" if look.hat != "cap" else "beanie", hat_color=_other(rng, CLOTHES, look.hat_color)
        ),
    }
    names = rng.choice(len(changes), size=int(rng.integers(1, 3)), replace=False)
    for index in np.sort(names):
        body = list(changes.values())[int(index)](body)
    return body
