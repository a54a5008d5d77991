"""The LLM judge's rubric, a file that users edit: labels with examples, and a domain's signs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2
import msgspec

from upshot.errors import InputError, NotFoundError

NO_FEEDBACK = "no feedback"


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that later messages can say about a response."""

    polarity: int
    """1: good news, -1: bad news, 0: either or neither."""
    means: str
    examples: list[str] = []


class Signs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signs of success and failure in one domain."""

    good: list[str] = []
    bad: list[str] = []


class Rubric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contents of a rubric file."""

    labels: dict[str, Label]
    signs: Signs = Signs()

    def prompt(self) -> str:
        """The instructions of the hindsight pass."""
        return _load_template("hindsight.md").render(labels=self.labels, signs=self.signs).strip()


def load_rubric(path: Path | None = None) -> Rubric:
    """The shipped rubric, or a file of the same shape.

    Raises:
        NotFoundError, InputError: the file is not there, or not a rubric.

    >>> NO_FEEDBACK in load_rubric().labels
    True
    """
    if path is not None and not path.is_file():
        raise NotFoundError(f"could not read the rubric: {path} is not a file")
    text = path.read_text("utf-8") if path else _read_prompt_file("rubric.toml")
    try:
        rubric = msgspec.convert(tomllib.loads(text), Rubric)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(
            f"could not read the rubric {path}: {error}; see the shipped prompts/rubric.toml for"
            " its shape"
        ) from error
    if NO_FEEDBACK not in rubric.labels:
        raise InputError(
            f'could not use the rubric {path}: the label "{NO_FEEDBACK}" must be in it, for a judge'
            " that may not abstain invents"
        )
    return rubric


@cache
def foresight_prompt() -> str:
    """The instructions of the foresight pass."""
    return _read_prompt_file("foresight.md").strip()


def dump_rubric(rubric: Rubric) -> str:
    """A rubric as TOML.

    >>> msgspec.convert(tomllib.loads(dump_rubric(load_rubric())), Rubric) == load_rubric()
    True
    """
    lines: list[str] = []
    for name, label in rubric.labels.items():
        lines += [
            f"[labels.{_to_toml(name)}]",
            f"polarity = {label.polarity}",
            f"means = {_to_toml(label.means)}",
            f"examples = {_to_toml(label.examples)}",
            "",
        ]
    lines += ["[signs]"] + [
        f"{sign} = {_to_toml(getattr(rubric.signs, sign))}" for sign in ("good", "bad")
    ]
    return "\n".join(lines) + "\n"


def _to_toml(value: str | list[str]) -> str:
    """A string or a list of strings: JSON is valid TOML here."""
    return msgspec.json.encode(value).decode()


def render_rubric(rubric: Rubric | None = None) -> str:
    """The text of a rubric file: the shipped one with its comments, or the given rubric.

    >>> render_rubric().startswith("# What the LLM judge looks for")
    True
    """
    return _read_prompt_file("rubric.toml") if rubric is None else dump_rubric(rubric)


def _read_prompt_file(name: str) -> str:
    return (
        resources.files("upshot.hindsight.llm")
        .joinpath("prompts")
        .joinpath(name)
        .read_text("utf-8")
    )


@cache
def _load_template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 (a prompt, not a page)
        keep_trailing_newline=True,
    )
    return environment.from_string(_read_prompt_file(name))


def render_plain(name: str, values: Mapping[str, object]) -> str:
    """A prompt file with values in place."""
    return _load_template(name).render(**values).strip()
