"""Who replays: the agent of rules, a language model at an endpoint, a policy of ours.

An agent sees what the tools show and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from upshot.artifacts.environment import Action, CitedPlace, Environment, sentences_in
from upshot.artifacts.rules import Finding, Provision, apply_rules, read_rules
from upshot.artifacts.structure import split_sentences
from upshot.artifacts.words import content_words
from upshot.hindsight.trust import hostile

_RESULT = re.compile(r"^\[(?P<id>[^\]]+)\] (?P<title>[^\n]*?): (?P<excerpt>.*)$", re.MULTILINE)
_SECTION = re.compile(r"(?:\b[Ss]ections?|§|\b[Ss]ec\.)[\s\u202f]*(\d+[A-Z]*)")
_TITLE = re.compile(r"^§[\s\u202f]*(\d+[A-Z]*)\.?\s")
_MAX_OPEN = 12
"""Sources that the agent of rules opens at most: three times what memoranda cite."""
_MAX_SHOWN = 24_000
"""Characters of a transcript that a model is shown, the last ones."""


class Agent(Protocol):
    """Chooses the next action, given what it was told and what came of its actions."""

    name: str

    def act(self, given: dict[str, Any], env: Environment) -> Action:
        """The next action; `env` gives `actions` and `observations` so far."""
        ...


class RulesAgent:
    """Searches the question and the facts, opens what speaks of them, follows references and
    defined terms, and applies what it read by `apply_rules`; abstains where that decides nothing.
    """

    name = "rules/1"

    def __init__(self) -> None:
        self._plan: list[Action] = []
        self._titles: dict[str, str] = {}
        self._excerpts: dict[str, str] = {}
        self._scores: dict[str, float] = {}
        """Of sources: the sum of 1 / rank over the searches that returned them."""
        self._is_begun = False

    def act(self, given: dict[str, Any], env: Environment) -> Action:
        """The next planned action, or the conclusion."""
        if not self._is_begun:
            self._is_begun = True
            self._plan = [Action("search", text) for text in _first_queries(given)]
        if env.observations:
            self._read(env.actions[-1], env.observations[-1])
        if self._plan:
            return self._plan.pop(0)
        opening = self._next_opening(given, env)
        return opening if opening is not None else self._conclude(given, env)

    def _read(self, action: Action, observation: str) -> None:
        if action.tool == "search":
            for rank, match in enumerate(_RESULT.finditer(observation), 1):
                self._titles.setdefault(match["id"], match["title"])
                shown = self._excerpts.get(match["id"], "")
                self._excerpts[match["id"]] = f"{shown} {match['excerpt']}"
                self._scores[match["id"]] = self._scores.get(match["id"], 0.0) + 1 / rank

    def _next_opening(self, given: dict[str, Any], env: Environment) -> Action | None:
        """A section that what was read refers to, else the next result; none once several sources
        in a row added no rule that bears on what was read before.
        """
        waiting = [source for source in self._titles if source not in env.opened]
        waiting.sort(key=lambda source: -self._scores[source])
        if len(env.opened) >= _MAX_OPEN or len(env.actions) + 2 >= env.max_calls:
            return None
        texts = self._texts(env)
        numbers = {number for text in texts.values() for number in _SECTION.findall(text)}
        own = {_number_of(text) for text in texts.values()}
        for source in waiting:
            refers = own & set(_SECTION.findall(self._excerpts[source]))
            if refers or _number_of(self._titles[source]) in numbers - own:
                return Action("open", source)
        query = self._ask_of_rules(given, env)
        if query is not None:
            return query
        if waiting and self._count_idle(texts) < _PATIENCE:
            return Action("open", waiting[0])
        finding = self._apply(given, env)
        if finding.missing:
            query = Action("search", f"{finding.missing} {given['question']}")
            if query not in env.actions:
                return query
        return None

    def _ask_of_rules(self, given: dict[str, Any], env: Environment) -> Action | None:
        """A search for what modifies the rules that were applied, each rule's words once."""
        provisions = self._provisions(env)
        for place in self._apply(given, env).places:
            query = Action("search", _first_sentence(provisions[place][1].text))
            if query not in env.actions:
                return query
        return None

    def _count_idle(self, texts: dict[str, str]) -> int:
        """How many of the last sources opened hold no rule that bears on another's section."""
        rules = [
            read_rules([Provision(_number_of(text), part) for part in sentences_in(text)[1:]])
            for text in texts.values()
        ]
        sections = {_number_of(text) for text in texts.values()}
        idle = 0
        for own in reversed(rules):
            if any(rule.target in sections or rule.kind in _ANSWERS for rule in own):
                break
            idle += 1
        return idle

    def _texts(self, env: Environment) -> dict[str, str]:
        return {
            action.input: observation
            for action, observation in zip(env.actions, env.observations, strict=True)
            if action.tool == "open" and action.input in env.opened
        }

    def _provisions(self, env: Environment) -> list[tuple[str, Provision]]:
        return [
            (source, Provision(_number_of(text), part))
            for source, text in self._texts(env).items()
            for part in sentences_in(text)[1:]
        ]

    def _apply(self, given: dict[str, Any], env: Environment) -> Finding:
        provisions = [provision for _, provision in self._provisions(env)]
        return apply_rules(given["question"], given["facts"], provisions)

    def _conclude(self, given: dict[str, Any], env: Environment) -> Action:
        finding = self._apply(given, env)
        provisions = self._provisions(env)
        if not finding.label:
            reason = finding.missing or "what was read holds no rule for it"
            return Action("conclude", text=f"This cannot be decided: {reason}.")
        citations = tuple(
            CitedPlace(provisions[place][0], _first_sentence(provisions[place][1].text))
            for place in finding.places
        )
        due = "Nothing is due." if finding.label == "no" else "It is due"
        amount = f": ${finding.amount:,.2f}." if finding.label == "yes" and finding.amount else ""
        return Action(
            "conclude",
            text=due + (amount or ("" if finding.label == "no" else ".")),
            label=finding.label,
            number=finding.amount,
            citations=citations,
        )


_PATIENCE = 4
"""Sources in a row that may turn out idle before the search is given up."""
_ANSWERS = frozenset(("charge", "left_out"))
"""Kinds of rules that bear on a question without naming a section that was read."""


def _first_queries(given: dict[str, Any]) -> list[str]:
    question, facts = str(given["question"]), str(given["facts"])
    queries = [question, f"{question} {facts}"]
    queries += [facts[a:b] for a, b in split_sentences(facts, 0, len(facts))]
    return [query for query in dict.fromkeys(queries) if content_words(query)][:6]


def _number_of(title: str) -> str:
    match = _TITLE.match(title)
    return match[1] if match is not None else ""


def _first_sentence(text: str) -> str:
    for start, end in split_sentences(text, 0, len(text)):
        return text[start:end]
    return text


class ClosedBookAgent:
    """Answers without a library, with the commonest conclusion: the floor of every agent."""

    name = "closed-book"

    def __init__(self, label: str = "") -> None:
        self._label = label

    def act(self, given: dict[str, Any], env: Environment) -> Action:
        """The conclusion, at once."""
        del given, env
        return Action("conclude", text="By the prior alone.", label=self._label)


class ModelReply(msgspec.Struct, frozen=True):
    """What a language model answers: one action."""

    tool: str
    input: str = ""
    source: str = ""
    text: str = ""
    label: str = ""
    number: float | None = None
    citations: list[CitedPlace] = []


def show_transcript(given: dict[str, Any], env: Environment) -> dict[str, Any]:
    """What a model is shown: its task and what came of its actions so far, cleaned of control
    characters and cut to the last part.
    """
    turns = [
        {"action": msgspec.to_builtins(action), "observation": hostile.sanitise(observation, 6_000)}
        for action, observation in zip(env.actions, env.observations, strict=True)
    ]
    while len(turns) > 1 and sum(len(str(turn)) for turn in turns) > _MAX_SHOWN:
        turns.pop(0)
    return {
        **{key: hostile.sanitise(str(value), 6_000) for key, value in given.items()},
        "calls_left": env.max_calls - len(env.actions),
        "turns": turns,
    }


def check_reply(reply: ModelReply) -> str:
    """What is wrong with a reply; "" if nothing is."""
    if reply.tool not in ("search", "open", "find", "conclude"):
        return "`tool` must be search, open, find or conclude"
    if reply.tool == "conclude" and reply.label not in ("yes", "no", ""):
        return '`label` must be "yes", "no", or "" to abstain'
    if reply.tool in ("search", "open") and not reply.input.strip():
        return f"`input` of {reply.tool} must not be empty"
    return ""


def reply_to_action(reply: ModelReply) -> Action:
    """The action of a reply that was checked."""
    return msgspec.convert(msgspec.to_builtins(reply), Action)


def describe_tools() -> Sequence[dict[str, Any]]:
    """The tools as OpenAI's interface has them."""
    text = {"type": "string"}
    parameters: dict[str, dict[str, Any]] = {
        "search": {"query": text},
        "open": {"source": text},
        "find": {"source": text, "words": text},
    }
    about = {
        "search": "Sources that were in force, with their best passage.",
        "open": "The text of a source.",
        "find": "The passages of an open source that hold some words.",
    }
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": about[name],
                "parameters": {
                    "type": "object",
                    "properties": properties,
                    "required": list(properties),
                },
            },
        }
        for name, properties in parameters.items()
    ]
