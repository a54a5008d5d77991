# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# re2
"""Which agent an author, a trailer, a line of a message or a tool's name means.

`agents.toml` lists the agents and how each signs. People are told from agents by what they are
called *and* by their address: Claude Dupont is a person, and so is anybody at a vendor's domain
whose address is not the tool's own. A model is not an agent: `aider (claude-opus-4)` is aider,
`Assisted-by: GitHub Copilot (GPT-5)` Copilot, and a model on its own an agent without a name.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import re2

UNNAMED = "unnamed"
"""An agent whose name nothing says."""
_GITHUB = "@users.noreply.github.com"
_MAX_NAME_WORDS = 4
"""Words of the longest name in agents.toml."""
_MODEL = re.compile(
    r"""\b(?:gpt-?\d|o[134](?:-mini|-pro)?\b|claude[- ](?:opus|sonnet|haiku|fable|\d)
        |(?:opus|sonnet|haiku)[ -]?\d|gemini[- ]?\d|codestral|devstral
        |(?:llama|codellama|qwen|deepseek|mistral|mixtral|grok|kimi|glm|minimax|gemma|phi|starcoder)
         [- ]?[a-z]{0,6}[- ]?\d)""",
    re.IGNORECASE | re.VERBOSE,
)
_AI = re.compile(
    r"^(?:an? )?(?:ai|a\.i\.|artificial intelligence|genai|generative ai|llms?"
    r"|(?:large )?language models?)(?:[ -](?:agent|assistant|assistance|model|tool)s?)?\b",
    re.IGNORECASE,
)
_KERNEL = re.compile(r"^[\w.+-]+:[\w./+-]+(?:\s|$)")
"""AGENT:MODEL, as Linux writes after `Assisted-by:`."""
_NOTHING = re.compile(r"^(?:no|none|false|n/?a|nil|0|human|-*)$", re.IGNORECASE)
_KEY = re.compile(r"^([A-Za-z][A-Za-z _-]{1,40}?)\s*:\s*(\S.*)$")
_AUTHOR_KEY = re.compile(
    r"""^(?:(?:co-?\s?)?author(?:ed)?(?:\ by)?
        |(?:written|coded|code|implemented|developed|co\ ?developed|committed|contributed|drafted
          |edited|modified|refactored|created|made|built|produced|signed\ off)\ by
        |(?:paired|pair\ programmed|pair\ programming)\ with)$""",
    re.VERBOSE,
)
"""Keys of trailers that name an author, person or agent; reviewers and testers write nothing."""
_TOOL_KEY = re.compile(
    r"""^(?:code\ |commit\ )?(?:ai\ )?(?:(?P<generated>generated)|(?P<assisted>assisted)
        |made|built|created|coded|written|developed|co\ ?authored)\ (?:by|with|using|via)$""",
    re.VERBOSE,
)
"""Keys of trailers that name a tool."""
_AGENT_KEY = re.compile(
    r"^(?:ai )?(?:(?:entire |coding )?agent|tool|(?:coding )?assistant|assisted|generated)$"
)
_SENTENCE = re.compile(
    r"""^(?:ai[- ])?
        (?:this\ (?:commit|change|code|patch|pr|pull\ request|work|file)\ (?:was|is|has\ been)\ )?
        (?:code\ |commit\ )?(?:(?:partially|partly|mostly|entirely|fully|auto)[- ]?)?
        (?P<verb>generated|assisted|co-?authored|created|made|built|written|authored|coded
          |developed|implemented|produced|drafted)\ (?:in\ part\ )?(?P<link>with|by|using|via)[ ]
        (?:the\ (?:help|assistance|aid)\ of\ |(?:help|assistance)\ from\ )?
        (?P<who>\S.*)$""",
    re.IGNORECASE | re.VERBOSE,
)
_SIGN = re.compile(r"^[^\w\[(]*")
"""Bullets, quotes and emoji before a line."""
_ROBOT = "🤖"
_END_OF_NAME = re.compile(r"\s*(?:[(<,;]|\.(?:\s|$)|:|\s-\s|https?://).*$")
_SEPARATOR = re.compile(r"\s*[,;|+&]\s*|\s+(?:/|and|via|using)\s+", re.IGNORECASE)
_JOINED = re.compile(r"\s+\+\s+|\s+(?:via|using)\s+", re.IGNORECASE)
_LINE = re2.compile(
    r"(?im)^.*(?:[\w)](?:[ -](?:by|with))?\s*:\s*\S"
    r"|\b(?:generated|assisted|authored|created|made|built|written|coded|developed|implemented"
    r"|produced|drafted)\b).*$"
)
"""Lines that may name an agent, to skip all others fast."""


class _Agents(NamedTuple):
    """`agents.toml`, by what is looked up."""

    names: dict[str, str]
    first_names: dict[str, str]
    words: dict[str, str]
    addresses: dict[str, str]
    logins: dict[str, str]
    suffixes: dict[str, str]
    lines: list[tuple[str, Any]]
    subjects: list[tuple[str, Any]]
    tool_words: frozenset[str]
    model_words: frozenset[str]
    model_families: frozenset[str]
    impersonal: frozenset[str]


class _Who(NamedTuple):
    """A name, and what it leaves open."""

    agent: str
    kind: str
    """names, first_names or words."""


@cache
def _load_agents() -> _Agents:
    table = tomllib.loads(files("upshot.retention").joinpath("agents.toml").read_text("utf-8"))
    rows = table["agent"]

    def by(field: str) -> dict[str, str]:
        squash = field not in ("addresses", "logins")
        return {
            _squash(text) if squash else text.lower(): row["name"]
            for row in rows
            for text in row.get(field, ())
        }

    def patterns(field: str) -> list[tuple[str, Any]]:
        return [
            (row["name"], re2.compile("(?i)" + "|".join(f"(?:{part})" for part in row[field])))
            for row in rows
            if field in row
        ]

    return _Agents(
        names=by("names"),
        first_names=by("first_names"),
        words=by("words"),
        addresses=by("addresses"),
        logins=by("logins"),
        suffixes=by("suffixes"),
        lines=patterns("lines"),
        subjects=patterns("subjects"),
        **{name: frozenset(words) for name, words in table["words"].items()},
    )


def name_agent(tool: str) -> str:
    """The agent that a tool's own name means, in lower case; an unknown tool is called as it is.

    >>> [name_agent(tool) for tool in ("claude-code", "GitHub Copilot", "NewTool", "")]
    ['claude', 'copilot', 'newtool', 'unnamed']
    """
    return find_agent(tool) or tool.strip().lower() or UNNAMED


def find_agent(tool: str) -> str:
    """The agent of `agents.toml` that a tool's own name means; empty for any other."""
    who = _match_name(tool)
    return who.agent if who else ""


@cache
def agent_of_identity(identity: str) -> str:
    """The agent behind "Name <address>" (of an author or a co-author); empty for a person.

    >>> agent_of_identity("Claude Opus 4.5 <noreply@anthropic.com>")
    'claude'
    >>> agent_of_identity("Claude Dupont <claude@example.org>")
    ''
    """
    name, _, rest = identity.partition("<")
    address, _, remainder = rest.partition(">")
    name, address = name.strip(" \"'"), address.strip().lower()
    if not rest and "@" in name and " " not in name:
        name, address = "", name.lower()
    if re.search(r"\w", remainder):  # a sentence that quotes an author
        return ""
    parts = _JOINED.split(name)
    who = _match_name(parts[0])
    if who and (who.kind == "names" or name.lower().endswith("[bot]") or _MODEL.search(name)):
        return who.agent
    if agent := _agent_of_address(address):
        return who.agent if who and who.kind == "words" else agent
    if who and (_is_impersonal(address) or _is_at_vendor(who, name, address)):
        return who.agent
    if suffix := re.search(r"\(([^()]+)\)$", name):
        return _load_agents().suffixes.get(_squash(suffix[1]), "")
    joined = [other.agent for part in parts[1:] if (other := _match_name(part))]
    if joined:
        return joined[0]
    return UNNAMED if _MODEL.match(name) and _is_impersonal(address) else ""


def agent_of_message(message: str) -> str:
    """The agent that a commit message names; empty if it names none.

    Where trailers name several, the one that most of them name (a squash lists one for each of its
    commits), else the first.
    """
    subject, _, body = message.partition("\n")
    agents = [name for name, pattern in _load_agents().subjects if pattern.search(subject)]
    authors = Counter[str]()
    for match in _LINE.finditer(body):
        line = match.group().strip()
        sign = _SIGN.match(line)
        text = line[sign.end() if sign else 0 :].strip(" *_`")
        agent, is_author = _agent_of_line(text, _ROBOT in line)
        if agent:
            agents.append(agent)
            authors[agent] += is_author
    named = [agent for agent in agents if agent != UNNAMED]
    [*_, most] = authors.most_common(1) or [("", 0)]
    if most[1] > 1 and most[0] in named:
        return most[0]
    return next(iter(named or agents), "")


def _agent_of_line(text: str, is_signed: bool) -> tuple[str, bool]:
    """The agent that one line names, and whether it names an author. `is_signed`: by a robot."""
    for name, pattern in _load_agents().lines:
        if pattern.search(text):
            return name, False
    if row := _KEY.match(text):
        key, value = re.sub(r"[-_ ]+", " ", row[1].lower()), row[2].strip()
        if _AUTHOR_KEY.match(key):
            return agent_of_identity(value), True
        if key == "ai model":
            return UNNAMED if _MODEL.search(value) else "", False
        if tool := _TOOL_KEY.match(key) or _AGENT_KEY.match(key):
            return _agent_of_tool(tool, value), False
    return _agent_of_sentence(text, is_signed), False


def _agent_of_tool(key: re.Match[str], value: str) -> str:
    """The agent behind `Generated-by: …` and its like."""
    if _NOTHING.match(value):
        return ""
    if "<" in value:
        return agent_of_identity(value) or (UNNAMED if _MODEL.search(value) else "")
    for part in _SEPARATOR.split(value):
        name = re.sub(r":\S.*$", "", part).strip(" []")
        if agent := agent_of_identity(name) or (_brand(name) if key.re is _TOOL_KEY else ""):
            return agent
    kinds = key.groupdict()
    if (
        _MODEL.search(value)
        or _AI.match(value)
        or key.string.startswith("ai ")
        or kinds.get("generated")
        or (kinds.get("assisted") and _KERNEL.match(value))
    ):
        return UNNAMED
    return ""


def _brand(text: str) -> str:
    """The agent whose name, beyond doubt, begins a text."""
    tokens = _tokens(text)
    names = _load_agents().names
    for count in range(min(_MAX_NAME_WORDS, len(tokens)), 0, -1):
        if agent := names.get("".join(tokens[:count])):
            return agent
    return ""


def _agent_of_sentence(text: str, is_signed: bool) -> str:
    """The agent behind a line like "Generated with [Claude Code](…)"."""
    row = _SENTENCE.match(text.removeprefix("["))
    if row is None:
        return ""
    verb, link, rest = row["verb"].lower(), row["link"].lower(), row["who"].strip()
    is_linked = rest.startswith("[")
    name = rest[1:].partition("]")[0] if is_linked else _END_OF_NAME.sub("", rest)
    name = name.strip(" *_`\"')]!.")
    who = _match_name(name)
    is_made_by_machine = verb in ("generated", "assisted", "co-authored", "coauthored")
    signed = is_signed or is_linked
    if who and (
        who.kind == "names"
        or signed
        or (who.kind == "first_names" and (is_made_by_machine or link != "by"))
        or (who.kind == "words" and verb == "generated" and name[:1].isupper())
    ):
        return who.agent
    if _AI.fullmatch(name) or (is_made_by_machine and _MODEL.match(name)):
        return UNNAMED
    return UNNAMED if is_signed and verb == "generated" else ""


def _agent_of_address(address: str) -> str:
    agents = _load_agents()
    if not address.endswith(_GITHUB):
        return agents.addresses.get(address, "")
    login = re.sub(r"^\d+\+", "", address.removesuffix(_GITHUB))
    stem = login.removesuffix("[bot]")
    if agent := agents.logins.get(stem):
        return agent
    if stem == login:  # a person may be called so
        return ""
    who = _match_name(stem)
    return who.agent if who else _brand(stem)


def _is_at_vendor(who: _Who, name: str, address: str) -> bool:
    """Whether an address is the agent's bare name at a domain of its own."""
    local, _, domain = address.partition("@")
    domains = {
        other.partition("@")[2]
        for other, agent in _load_agents().addresses.items()
        if agent == who.agent
    }
    return domain in domains and local == _squash(name)


def _is_impersonal(address: str) -> bool:
    """Whether an address is missing, or nobody's own."""
    local, _, domain = address.partition("@")
    if not address or domain == "localhost":
        return True
    has_login = "@" + domain == _GITHUB
    return not has_login and (local in _load_agents().impersonal or "noreply" in domain)


def _match_name(text: str) -> _Who | None:
    """The agent that a whole name means, if nothing but a model or a word for a tool follows."""
    agents = _load_agents()
    tokens = _tokens(text)
    for count in range(min(_MAX_NAME_WORDS, len(tokens)), 0, -1):
        key, tail = "".join(tokens[:count]), tokens[count:]
        if not _means_tool(tail):
            continue
        if key in agents.names:
            return _Who(agents.names[key], "names")
        if key in agents.first_names:
            return _Who(agents.first_names[key], "names" if tail else "first_names")
        if key in agents.words:
            has_word = any(token in agents.tool_words for token in tail)
            return _Who(agents.words[key], "names" if has_word else "words")
    return None


def _means_tool(tail: Sequence[str]) -> bool:
    """Whether the words after a name say no more than which tool, model or version it is."""
    agents = _load_agents()
    has_version = any(any(c.isdigit() for c in token) for token in tail)
    return all(
        token in agents.tool_words
        or token in agents.model_words
        or any(c.isdigit() for c in token)
        or (has_version and (token in agents.model_families or len(token) == 1))
        for token in tail
    )


def _tokens(text: str) -> list[str]:
    """Words of a name, without what stands in parentheses or brackets."""
    text = re.sub(r"\([^()]*\)|\[[^\[\]]*\]|<[^<>]*>", " ", text.lower())
    return [token for token in re.split(r"[^\w]+|_", text) if token]


def _squash(text: str) -> str:
    return "".join(_tokens(text))
