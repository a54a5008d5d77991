"""Write the generated parts of the documentation: `python docs/make_reference.py [--check]`.

The tree in `architecture.md` (a line for each file, its docstring's first sentence), the table of
log formats in `logs.md`, those of signal kinds, exporters and training methods in `extending.md`.
`--check` writes nothing and exits with 1 where a page is not what it would write.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from upshot.policy.methods import METHODS
from upshot.preferences.exporters import EXPORTERS
from upshot.records import RawConversation
from upshot.records.signals import SIGNALS
from upshot.sources.formats import FORMATS
from upshot.sources.reading import read
from upshot.sources.speakers import words_of

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "upshot"
SAMPLES = DOCS.parent / "tests" / "sources" / "files"
_ORDER = [
    *("records", "stats", "io", "lake", "engine", "llm", "privacy", "sources", "threads"),
    *("hindsight", "verifiers", "retention", "credit", "preferences", "hub", "reward", "policy"),
    *("loop", "artifacts", "report", "serve", "worlds", "api", "cli"),
]
"""Folders in the order in which they may import each other."""


def first_sentence(path: Path) -> str:
    """What a module is, by its docstring.

    >>> first_sentence(SOURCE / "errors.py")
    'Every error that Upshot raises on purpose'
    """
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    sentence = re.split(r"(?<=[.:;])\s", " ".join(docstring.split()), maxsplit=1)[0]
    return sentence.rstrip(".:;")


def tree() -> Iterator[str]:
    """Lines of the tree."""
    yield "```text"
    yield "src/upshot/"
    for path in sorted(SOURCE.glob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            yield f"  {path.name}  {first_sentence(path)}"
    for folder in _ORDER:
        for init in sorted((SOURCE / folder).rglob("__init__.py")):
            depth = len(init.parent.relative_to(SOURCE).parts)
            indent = "  " * depth
            yield f"{indent}{init.parent.name}/  {first_sentence(init)}"
            for path in sorted(init.parent.glob("*.py")):
                if path.name != "__init__.py":
                    yield f"{indent}  {path.name}  {first_sentence(path)}"
    yield "```"


def signals() -> Iterator[str]:
    """The table of signal kinds."""
    yield "| kind | news | from | label | meaning |"
    yield "|---|---|---|---|---|"
    for name, kind in SIGNALS.items():
        sign = {1: "good", -1: "bad", 0: "neither"}[kind.polarity]
        emitters = ", ".join(sorted(kind.emitters))
        yield f"| `{name}` | {sign} | {emitters} | {kind.label} | {kind.meaning} |"


def names(registry: tuple[str, ...]) -> Callable[[], Iterator[str]]:
    """A line of names."""
    return lambda: iter([", ".join(f"`{name}`" for name in registry) + "."])


MAX_SHOWN, MAX_WORDS = 5, 28
"""Messages of a sample, and characters of each, that the table of formats shows."""


def formats() -> Iterator[str]:
    """The table of log formats: what each reads, and what comes out of a small sample."""
    samples: dict[str, list[str]] = {}
    for path in sorted(SAMPLES.iterdir()):
        items = [item for item in read(path) if isinstance(item, RawConversation)]
        for item in sorted(items, key=lambda item: -len(item.messages))[:1]:
            branches = sum(bool(other.branch_of) for other in items)
            more = [f"{len(items) - branches} conversations"] if len(items) - branches > 1 else []
            more += [f"{branches} branch" + "es" * (branches > 1)] if branches else []
            shown = describe_messages(item)
            text = shown + (f" ({', '.join(more)})" if more else "")
            samples.setdefault(item.source, []).append(f"`{path.name}`: {text}")
    yield "| format | in | out of a small sample |"
    yield "|---|---|---|"
    for name in FORMATS.names:
        module = SOURCE / "sources" / f"{FORMATS.load(name).__name__.rpartition('.')[2]}.py"
        yield f"| `{name}` | {describe_input(module)} | {'; '.join(samples.get(name, []))} |"


def describe_input(path: Path) -> str:
    """What the docstring of a format's module says that it reads, up to the first full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    sentence = re.split(r"\.(?:\s|$)", " ".join(docstring.split()), maxsplit=1)[0]
    return sentence.replace("|", "\\|")


def describe_messages(conversation: RawConversation) -> str:
    """The first messages of a conversation: who wrote each, its first words, calls and signals."""
    parts: list[str] = []
    for message in conversation.messages[:MAX_SHOWN]:
        is_person = message.written_by == "person"
        words = " ".join((words_of(message) if is_person else message.content).split())
        words = words if len(words) <= MAX_WORDS else f"{words[: MAX_WORDS - 1]}…"
        words = re.sub(r"[<>|*_]", lambda mark: f"\\{mark.group()}", words)
        things = [f"“{words}”"] if words else []
        things += [f"calls `{call.name}`" for call in message.tool_calls]
        things += [f"signal `{signal.kind}`" for signal in message.signals]
        parts.append(f"{message.written_by} {', '.join(things)}")
    if (rest := len(conversation.messages) - MAX_SHOWN) > 0:
        parts.append(f"{rest} more")
    return "; ".join(parts)


PARTS: dict[str, dict[str, Callable[[], Iterator[str]]]] = {
    "architecture.md": {"tree": tree},
    "logs.md": {"formats table": formats},
    "extending.md": {
        "signals": signals,
        "formats": names(FORMATS.names),
        "exporters": names(EXPORTERS.names),
        "methods": names(tuple(METHODS)),
    },
}


def render(page: str) -> str:
    """A page with its generated parts, between `<!-- begin NAME -->` and `<!-- end NAME -->`."""
    text = (DOCS / page).read_text("utf-8")
    for name, make in PARTS[page].items():
        block = f"<!-- begin {name} -->\n" + "\n".join(make()) + f"\n<!-- end {name} -->"
        pattern = rf"<!-- begin {name} -->.*?<!-- end {name} -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def main() -> int:
    """Write the pages, or check them."""
    stale = [page for page in PARTS if render(page) != (DOCS / page).read_text("utf-8")]
    if "--check" in sys.argv:
        for page in stale:
            sys.stderr.write(f"docs/{page} is out of date: run python docs/make_reference.py\n")
        return 1 if stale else 0
    for page in stale:
        (DOCS / page).write_text(render(page), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
