"""Simulated people and tasks whose truth is known: for tests, benchmarks and the tutorial.

Nothing above imports this.
"""

from __future__ import annotations

from upshot.errors import NotFoundError
from upshot.worlds.plans import Plans
from upshot.worlds.programs import Programs
from upshot.worlds.world import World

WORLDS = {"programs": Programs, "plans": Plans}


def get(name: str) -> World:
    """A world by name.

    Raises:
        NotFoundError: there is none of that name.
    """
    if name not in WORLDS:
        raise NotFoundError(f"could not find the world {name!r}: there are {', '.join(WORLDS)}")
    return WORLDS[name]()
