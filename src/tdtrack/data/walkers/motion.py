"""Where people walk: errands, detours behind things, second thoughts, company, leaving and coming back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tdtrack.data.walkers.camera import View
from tdtrack.data.walkers.config import WalkersConfig
from tdtrack.data.walkers.looks import Look
from tdtrack.data.walkers.props import Prop
from tdtrack.data.walkers.scene import Scene

__all__ = ["Placement", "walk"]

_EASE = 0.35
"""Seconds in which a person takes up a new speed or direction: short, so that turns are abrupt."""
_ROOM = 0.8
"""Metres that people keep between each other."""
_TALL = 1.7
"""Metres of height from which a thing hides a person whole."""
_MARGIN = 0.5
"""Metres beyond the border at which someone has left the view."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One person at one moment.

    Attributes:
        person: index into the cast.
        x: metres to the right of the camera's axis.
        z: metres before the camera.
        heading: radians; 0 towards the camera, pi/2 to the right.
        phase: of the gait, in radians.
        effort: 0 standing, 1 walking at ease.
    """

    person: int
    x: float
    z: float
    heading: float
    phase: float
    effort: float


@dataclass(slots=True, eq=False)
class _Walker:
    person: int
    look: Look
    x: float = 0.0
    z: float = 0.0
    vx: float = 0.0
    vz: float = 0.0
    speed: float = 1.4
    heading: float = 0.0
    phase: float = 0.0
    goal: tuple[float, float] = (0.0, 0.0)
    leaving: bool = False
    hiding: bool = False
    rest: float = 0.0
    calm: float = 0.0
    side: float = 1.0
    away: float = 0.0
    leader: _Walker | None = None
    beside: tuple[float, float] = (0.0, 0.0)


@dataclass(slots=True, eq=False)
class _Crowd:
    """The people of one scene and the rules they move by."""

    rng: np.random.Generator
    config: WalkersConfig
    scene: Scene
    wanted: int
    fresh: list[_Walker]
    here: list[_Walker] = field(default_factory=list)
    returning: list[_Walker] = field(default_factory=list)
    gone: list[_Walker] = field(default_factory=list)
    met: set[tuple[int, int]] = field(default_factory=set)

    # ------------------------------------------------------------------------------------------ who is in the scene

    def populate(self, view: View, *, anywhere: bool) -> None:
        """Bring in who promised to return, and others until enough people are there."""
        for walker in [walker for walker in self.returning if walker.away <= 0]:
            self.returning.remove(walker)
            self._enter(walker, view, walker.side, anywhere=False)
        while self._seen(view) + len(self.returning) < self.wanted and (self.fresh or self.gone):
            leader = self._next()
            self._enter(leader, view, float(self.rng.choice([-1, 1])), anywhere=anywhere)
            if self.rng.random() < self.config.group_rate:
                for _ in range(int(self.rng.integers(1, 3))):
                    if self.fresh and self._seen(view) + len(self.returning) < self.wanted:
                        self._follow(self._next(), leader)

    def _seen(self, view: View) -> int:
        """Count who is in the view, or near it and not about to leave."""
        ground, width = self.scene.ground, self.config.width / view.zoom
        count = 0
        for walker in self.here:
            column = ground.column(walker.x, walker.z)
            reach = -0.02 * width if walker.leaving and walker.calm <= 0 else 0.25 * width
            count += view.left - reach < column < view.left + width + reach
        return count

    def _next(self) -> _Walker:
        return self.fresh.pop(0) if self.fresh else self.gone.pop(0)

    def _enter(self, walker: _Walker, view: View, side: float, *, anywhere: bool) -> None:
        ground = self.scene.ground
        walker.z = self._depth()
        scale = ground.scale(walker.z)
        width = self.config.width / view.zoom
        if anywhere:
            column = view.left + float(self.rng.uniform(0.08, 0.92)) * width
        else:
            column = view.left - 0.4 * scale if side < 0 else view.left + width + 0.4 * scale
        walker.x = (column - ground.centre) / scale
        walker.side = side
        walker.speed = float(np.clip(self.rng.normal(1.45, 0.3), 0.8, 2.4))
        if self.rng.random() < 0.08:
            walker.speed = float(self.rng.uniform(2.4, 3.2))  # in a hurry
        walker.phase = float(self.rng.uniform(0, math.tau))
        walker.leader, walker.rest, walker.calm = None, 0.0, 1.0
        self.here.append(walker)
        self._errand(walker, view)
        direction = math.hypot(walker.goal[0] - walker.x, walker.goal[1] - walker.z) or 1.0
        walker.vx = (walker.goal[0] - walker.x) / direction * walker.speed
        walker.vz = (walker.goal[1] - walker.z) / direction * walker.speed
        walker.heading = math.atan2(walker.vx, -walker.vz)

    def _follow(self, walker: _Walker, leader: _Walker) -> None:
        walker.leader, walker.side, walker.speed, walker.calm = leader, leader.side, leader.speed * 1.1, 1.0
        walker.beside = float(self.rng.choice([-1, 1]) * self.rng.uniform(0.75, 1.2)), float(self.rng.uniform(-0.4, 0.4))
        walker.x, walker.z = leader.x + walker.beside[0], leader.z + walker.beside[1]
        walker.vx, walker.vz, walker.heading = leader.vx, leader.vz, leader.heading
        walker.phase = float(self.rng.uniform(0, math.tau))
        self.here.append(walker)

    def dismiss(self, view: View) -> None:
        """Let those go who have left the view; some will be back soon."""
        ground = self.scene.ground
        width = self.config.width / view.zoom
        for walker in list(self.here):
            column = ground.column(walker.x, walker.z)
            beyond = max(view.left - column, column - view.left - width)
            lost_leader = walker.leader is not None and walker.leader not in self.here
            # Whom the camera turned away from stays around for a while: the pan may find them again.
            patience = 0.0 if walker.leaving or lost_leader else 0.2 * width
            if beyond > _MARGIN * ground.scale(walker.z) + patience:
                self.here.remove(walker)
                walker.side = -1.0 if column < view.left else 1.0
                if self.rng.random() < self.config.return_rate:
                    walker.away = float(self.rng.uniform(1, 3))
                    self.returning.append(walker)
                else:
                    self.gone.append(walker)
            elif lost_leader:
                walker.leader = None
                self._leave(walker, view, walker.side)

    # ------------------------------------------------------------------------------------------------ what they want

    def _depth(self) -> float:
        """Draw a distance so that feet are spread evenly over the rows of the frame."""
        ground = self.scene.ground
        rows = ground.row(ground.far), ground.row(ground.near)
        return ground.distance(float(self.rng.uniform(*rows)))

    def _errand(self, walker: _Walker, view: View) -> None:
        """Choose where to go next."""
        ground = self.scene.ground
        kind = self.rng.random()
        walker.leaving = walker.hiding = False
        free = self._hideouts(view)
        if kind < 0.3 and free:
            prop = free[int(self.rng.integers(len(free)))]
            behind = min(prop.z + float(self.rng.uniform(0.5, 1.2)), ground.far)
            # Straight behind it, as the camera sees it.
            walker.goal = prop.x * behind / prop.z + float(self.rng.uniform(-0.2, 0.2)) * prop.width, behind
            walker.hiding = True
        elif kind < 0.55:
            z = self._depth()
            column = view.left + float(self.rng.uniform(0.1, 0.9)) * self.config.width / view.zoom
            walker.goal = (column - ground.centre) / ground.scale(z), z
        else:
            self._leave(walker, view, -walker.side)

    def _hideouts(self, view: View) -> list[Prop]:
        """List the tall things in view that nobody is behind or on the way to."""
        ground, width = self.scene.ground, self.config.width / view.zoom
        taken = [ground.column(*walker.goal) for walker in self.here if walker.hiding]
        free = []
        for prop in self.scene.props:
            column, half = ground.column(prop.x, prop.z), prop.width * ground.scale(prop.z)
            inside = view.left + 0.05 * width < column < view.left + 0.95 * width
            if prop.height > _TALL and inside and all(abs(column - other) > half for other in taken):
                free.append(prop)
        return free

    def _alone_in_sight(self, walker: _Walker) -> bool:
        """Tell whether nobody is in line with someone, so that who stops there hides no one for long."""
        ground = self.scene.ground
        column = ground.column(walker.x, walker.z)
        reach = 0.7 * ground.scale(walker.z)
        return all(other is walker or abs(ground.column(other.x, other.z) - column) > reach for other in self.here)

    def _leave(self, walker: _Walker, view: View, side: float) -> None:
        ground = self.scene.ground
        near_current = walker.z + float(self.rng.normal(0, 1.5))
        z = float(np.clip(near_current, ground.near, ground.far))
        column = view.left + (-0.3 if side < 0 else 1.3) * self.config.width
        walker.goal = (column - ground.centre) / ground.scale(z), z
        walker.leaving, walker.hiding = True, False

    def _turn_back(self, walker: _Walker, view: View) -> None:
        self._leave(walker, view, -1.0 if walker.vx > 0 else 1.0)
        walker.calm = 1.5

    def decide(self, walker: _Walker, view: View, seconds: float) -> None:
        """Change one person's mind, or give them something new to do on arrival."""
        walker.calm -= seconds
        walker.rest -= seconds
        if walker.leader:
            leader = walker.leader
            walker.goal = leader.x + walker.beside[0] + leader.vx * 0.5, leader.z + walker.beside[1] + leader.vz * 0.5
            return
        if walker.rest > 0:
            return
        if math.hypot(walker.goal[0] - walker.x, walker.goal[1] - walker.z) < 0.3:
            if walker.hiding:
                walker.rest = float(self.rng.uniform(0.2, 0.9))
                if self.rng.random() < 0.6:
                    self._turn_back(walker, view)
                    return
            elif self.rng.random() < 0.4 and self._alone_in_sight(walker):
                walker.rest = float(self.rng.uniform(0.5, 2.0))
            self._errand(walker, view)
        elif walker.calm <= 0 and self.rng.random() < self.config.restlessness * seconds:
            whim = self.rng.random()
            if whim < 0.35 and self._alone_in_sight(walker):
                walker.rest, walker.calm = float(self.rng.uniform(0.6, 2.0)), 3.0
            elif whim < 0.75:
                self._turn_back(walker, view)
            else:
                self._errand(walker, view)

    def meet(self, view: View) -> None:
        """Let some of those whose pictures cross turn back at that moment, as if they had missed each other."""
        ground = self.scene.ground
        for i, one in enumerate(self.here):
            for other in self.here[i + 1 :]:
                key = min(one.person, other.person), max(one.person, other.person)
                apart = abs(ground.column(one.x, one.z) - ground.column(other.x, other.z))
                wide = 0.3 * (ground.scale(one.z) + ground.scale(other.z)) / 2
                if apart > 4 * wide:
                    self.met.discard(key)
                elif apart < wide and key not in self.met and one.vx * other.vx < 0 and abs(one.z - other.z) < 3:
                    self.met.add(key)
                    free = all(walker.calm <= 0 and walker.leader is None and walker.rest <= 0 for walker in (one, other))
                    if free and self.rng.random() < min(0.6, 1.2 * self.config.restlessness):
                        self._turn_back(one, view)
                        self._turn_back(other, view)

    # ------------------------------------------------------------------------------------------------- how they move

    def move(self, walker: _Walker, seconds: float) -> None:
        """Take one step towards the goal, around people and things."""
        ground = self.scene.ground
        dx, dz = walker.goal[0] - walker.x, walker.goal[1] - walker.z
        distance = math.hypot(dx, dz)
        speed = 0.0 if walker.rest > 0 or distance < 0.05 else min(walker.speed, distance / 0.3)
        wish_x, wish_z = (dx / distance * speed, dz / distance * speed) if distance > 0 else (0.0, 0.0)
        for other in self.here:
            if other is walker:
                continue
            ox, oz = walker.x - other.x, walker.z - other.z
            gap = math.hypot(ox, oz)
            if 1e-6 < gap < _ROOM:
                push = (_ROOM - gap) / _ROOM * 1.6
                wish_x, wish_z = wish_x + ox / gap * push, wish_z + oz / gap * push
        for prop in self.scene.props:
            if abs(walker.x - prop.x) < prop.width / 2 + 0.3 and abs(walker.z - prop.z) < 0.45:
                wish_z += math.copysign(2.0, walker.z - prop.z)
        ease = min(1.0, seconds / _EASE)
        walker.vx += (wish_x - walker.vx) * ease
        walker.vz += (wish_z - walker.vz) * ease
        walker.x += walker.vx * seconds
        walker.z = min(max(walker.z + walker.vz * seconds, ground.near), ground.far)
        pace = math.hypot(walker.vx, walker.vz)
        if pace > 0.3:
            turn = math.remainder(math.atan2(walker.vx, -walker.vz) - walker.heading, math.tau)
            walker.heading += max(-9 * seconds, min(9 * seconds, turn))
        effort = min(1.8, pace / 1.4)
        # The feet cover the ground they pass: one turn of the gait is two steps of these legs.
        cycle = 4 * 0.48 * walker.look.stature * math.sin(0.4 * max(effort, 0.2) * walker.look.stride)
        walker.phase = (walker.phase + math.tau * seconds * pace / cycle) % math.tau


def walk(
    rng: np.random.Generator, config: WalkersConfig, scene: Scene, cast: Sequence[Look], views: Sequence[View], wanted: int
) -> list[list[Placement]]:
    """Let a cast walk through a scene.

    Args:
        rng: stream to draw from.
        config: frame rate and the rates of what makes tracking hard.
        scene: where.
        cast: the people who may come.
        views: what the camera shows in each frame; people enter and leave at its borders.
        wanted: people to keep in view.

    Returns:
        For each frame the people in the scene, some of them outside the view.
    """
    fresh = [_Walker(person, look) for person, look in enumerate(cast)]
    crowd = _Crowd(rng, config, scene, wanted, fresh)
    seconds = 1 / config.frame_rate
    frames = []
    for number, view in enumerate(views):
        crowd.populate(view, anywhere=number == 0)
        crowd.meet(view)
        for walker in crowd.here:
            crowd.decide(walker, view, seconds)
        for walker in crowd.here:
            crowd.move(walker, seconds)
        crowd.dismiss(view)
        for walker in crowd.returning:
            walker.away -= seconds
        frames.append(
            [
                Placement(
                    walker.person,
                    walker.x,
                    walker.z,
                    walker.heading,
                    walker.phase,
                    min(1.8, math.hypot(walker.vx, walker.vz) / 1.4),
                )
                for walker in crowd.here
            ]
        )
    return frames
