"""What people write on which occasion, from TOML files; `phrases.toml` documents their shape."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from random import Random

import msgspec

from upshot.errors import ConfigError, NotFoundError
from upshot.io.json_values import is_array, is_object

OCCASIONS = (
    "ask",
    "again",
    "worked",
    "thanks",
    "failed_error",
    "failed_output",
    "correction",
    "lenient",
    "gives_up",
    "next",
    "back_worked",
    "back_failed",
    "hostile_praise",
    "hostile_blame",
    "hostile_judge",
    "flattered",
    "answered",
    "refused",
)
_PLACES = frozenset({"task", "input", "got", "want", "error", "hint"})
_PLACE = re.compile(r"\{(\w*)\}")


class Phrases(msgspec.Struct, frozen=True):
    """Phrasings by occasion; those of one world come first."""

    everywhere: Mapping[str, list[str]]
    by_world: Mapping[str, Mapping[str, list[str]]]

    def say(self, random: Random, world: str, occasion: str, **places: str) -> str:
        """One phrasing, filled in."""
        phrasings = self.by_world.get(world, {}).get(occasion) or self.everywhere[occasion]
        return _PLACE.sub(lambda place: places.get(place[1], ""), random.choice(phrasings))


def load(path: str | Path | None = None) -> Phrases:
    """A phrases file, the shipped one without a path.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: an occasion is unknown or missing, or a phrasing has a place that nothing
            fills.
    """
    name = str(path) if path is not None else "phrases.toml"
    try:
        text = (
            Path(path).read_text("utf-8")
            if path is not None
            else files("upshot.worlds").joinpath(name).read_text("utf-8")
        )
        tables = tomllib.loads(text)
    except FileNotFoundError as error:
        raise NotFoundError(f"could not read phrases: {name} is not there") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"could not read phrases: {name}: {error}") from error
    everywhere = {
        key: _check_phrasings(name, key, value)
        for key, value in tables.items()
        if not is_object(value)
    }
    by_world = {
        world: {key: _check_phrasings(name, key, value) for key, value in table.items()}
        for world, table in tables.items()
        if is_object(table)
    }
    if missing := sorted(set(OCCASIONS) - set(everywhere)):
        raise ConfigError(f"could not use phrases: {name} lacks {', '.join(missing)}")
    return Phrases(everywhere, by_world)


def _check_phrasings(name: str, occasion: str, value: object) -> list[str]:
    if occasion not in OCCASIONS:
        raise ConfigError(
            f"could not use phrases: {name} has {occasion!r}; occasions are {', '.join(OCCASIONS)}"
        )
    if not is_array(value) or not value or not all(isinstance(phrasing, str) for phrasing in value):
        raise ConfigError(f"could not use phrases: {occasion} in {name} is no list of texts")
    unknown = {place for phrasing in value for place in _PLACE.findall(phrasing)} - _PLACES
    if unknown:
        raise ConfigError(
            f"could not use phrases: {occasion} in {name} has places {sorted(unknown)}; there are"
            f" {sorted(_PLACES)}"
        )
    return value


def typos(text: str, rate: float, random: Random) -> str:
    """The same text with letters swapped, lost or doubled at this rate a letter; digits, brackets
    and code stay.
    """
    if not rate:
        return text
    out: list[str] = []
    skip = False
    for letter, following in zip(text, f"{text[1:]} ", strict=False):
        if skip:
            skip = False
        elif letter.isalpha() and random.random() < rate:
            kind = random.randrange(3)
            out.append(
                following + letter
                if kind == 0 and following.isalpha()
                else ""
                if kind == 1
                else letter + letter
            )
            skip = kind == 0 and following.isalpha()
        else:
            out.append(letter)
    return "".join(out)
