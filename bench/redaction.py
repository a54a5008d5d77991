# pyright: reportMissingImports=false
# for spacy and presidio, which are optional
"""Redaction: recall by type on planted values, rewritten values, false alarms, and speed beside
Presidio's patterns.

Values are generated (seeded; `--seed` draws others), planted in sentences and code. A value is
found when none of its characters that identify it is left. Rewrites: spaced, joined, full-width,
zero-width, spelled out, split by a line break, URL- or JSON-encoded. Presidio runs its default
English recognisers on a blank spaCy tokenizer, in the same run.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from upshot.privacy.redact import find_personal_data

_CHECKED = ("EMAIL", "CARD", "IBAN", "KEY", "PRIVATE_KEY", "CREDENTIALS", "IP")
_FRAMES = (
    "Please use {} for that.",
    "It is {}, thanks.",
    "{}",
    "my data: {} and nothing else",
    "I wrote {} into the form, is that ok?",
    "Here is the row:\n- {}\n- done",
    "a = 1\n# {}\nb = 2",
)


def _digits(rng: random.Random, size: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(size))


def _token(
    rng: random.Random, size: int, letters: str = string.ascii_letters + string.digits
) -> str:
    return "".join(rng.choice(letters) for _ in range(size))


def email(rng: random.Random) -> str:
    name = rng.choice(("jane", "omar", "li.wei", "k_novak", "a-b")) + rng.choice(
        ("", str(rng.randint(1, 99)), ".berg")
    )
    host = rng.choice(("example", "mail", "uni-test", "shop"))
    return f"{name}@{host}.{rng.choice(('org', 'com', 'co.uk', 'de', 'io'))}"


def card(rng: random.Random) -> str:
    body = rng.choice(("4", "51", "55", "37", "6011")) + _digits(rng, 14)
    body = body[: 14 if body.startswith("37") else 15]
    total = 0
    for position, digit in enumerate(reversed(body)):
        value = int(digit) * (2 - position % 2)
        total += value - 9 if value > 9 else value
    number = body + str(-total % 10)
    mark = rng.choice(("", " ", "-"))
    return mark.join(number[i : i + 4] for i in range(0, len(number), 4))


def iban(rng: random.Random) -> str:
    country, size = rng.choice((("DE", 18), ("AT", 16), ("ES", 20), ("BE", 12)))
    body = _digits(rng, size)
    check = 98 - int(body + "".join(str(int(c, 36)) for c in country) + "00") % 97
    number = f"{country}{check:02d}{body}"
    return (
        number
        if rng.random() < 0.5
        else " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    )


def key(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: "AKIA" + _token(rng, 16, string.ascii_uppercase + string.digits),
            lambda: "ghp_" + _token(rng, 36),
            lambda: "sk-proj-" + _token(rng, 40),
            lambda: "sk-ant-api03-" + _token(rng, 60),
            lambda: "xoxb-" + _digits(rng, 11) + "-" + _token(rng, 24),
            lambda: "AIza" + _token(rng, 35),
            lambda: "hf_" + _token(rng, 34),
            lambda: "sk_live_" + _token(rng, 24),
            lambda: "glpat-" + _token(rng, 20),
            lambda: "npm_" + _token(rng, 36),
        )
    )()


def private_key(rng: random.Random) -> str:
    kind = rng.choice(("RSA ", "EC ", "OPENSSH ", ""))
    body = "\n".join(_token(rng, 64) for _ in range(6))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"


def credentials(rng: random.Random) -> str:
    scheme = rng.choice(("postgres", "https", "redis", "mongodb+srv", "amqp"))
    return f"{scheme}://{_token(rng, 6)}:{_token(rng, 10)}@db.internal/x"


def ip(rng: random.Random) -> str:
    if rng.random() < 0.7:
        parts = (
            rng.randint(11, 223),
            rng.randint(0, 255),
            rng.randint(0, 255),
            rng.randint(1, 254),
        )
        return ".".join(map(str, parts))
    return ":".join(f"{rng.randint(0x1000, 0xFFFF):x}" for _ in range(8))


def phone(rng: random.Random) -> str:
    a, b, c = (
        f"{rng.randint(2, 9)}{_digits(rng, 2)}",
        f"{rng.randint(2, 9)}{_digits(rng, 2)}",
        _digits(rng, 4),
    )
    return rng.choice(
        (
            f"+1 {a} {b} {c}",
            f"({a}) {b}-{c}",
            f"{a}-{b}-{c}",
            f"{a}.{b}.{c}",
            f"+44 20 7{b} {c}",
            f"+49 30 {b}{c}",
            f"+33 1 {_digits(rng, 2)} {_digits(rng, 2)} {_digits(rng, 2)} {_digits(rng, 2)}",
        )
    )


def national_id(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"
    if rng.random() < 0.5:
        number = _digits(rng, 8)
        return number + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]
    return (
        f"{rng.choice('ABCEGH')}{rng.choice('ABCEGH')} {_digits(rng, 2)} {_digits(rng, 2)}"
        f" {_digits(rng, 2)} {rng.choice('ABCD')}"
    )


def address(rng: random.Random) -> str:
    name = rng.choice(("Main", "Oak", "Church", "North Park", "King's", "Elm"))
    return (
        f"{rng.randint(1, 9999)} {name}"
        f" {rng.choice(('Street', 'St', 'Avenue', 'Road', 'Lane', 'Drive', 'Blvd'))}"
        + rng.choice(("", f", Apt {rng.randint(1, 40)}"))
    )


def name(rng: random.Random) -> str:
    return rng.choice(("Maria Lopez", "John Smith", "Aylin Kaya", "Peter O'Neill", "Chen Wei"))


_MAKERS: dict[str, Callable[[random.Random], str]] = {
    "EMAIL": email,
    "CARD": card,
    "IBAN": iban,
    "KEY": key,
    "PRIVATE_KEY": private_key,
    "CREDENTIALS": credentials,
    "IP": ip,
    "PHONE": phone,
    "NATIONAL_ID": national_id,
    "ADDRESS": address,
    "NAME": name,
}


def rewrite(rng: random.Random, kind: str, value: str) -> str:
    """One value as a person would write it to evade a filter, or as a program would encode it."""
    ways: list[Callable[[], str]] = [
        lambda: _full_width(value),
        lambda: _zero_width(rng, value),
        lambda: _split(rng, value),
    ]
    if kind == "EMAIL":
        at, dot = rng.choice(
            ((" at ", " dot "), (" [at] ", " [dot] "), ("(at)", "(dot)"), (" AT ", " DOT "))
        )
        ways += [
            lambda: value.replace("@", at).replace(".", dot),
            lambda: value.replace("@", "%40"),
            lambda: value.replace("@", "\\u0040"),
            lambda: " ".join(value),
        ]
    else:
        plain = value.replace(" ", "").replace("-", "")
        mark = rng.choice((" ", "-", "."))
        ways += [
            lambda: mark.join(plain) if kind != "IBAN" else " ".join(plain),
            lambda: plain,
            lambda: value.replace(" ", "%20").replace("+", "%2B"),
        ]
    return rng.choice(ways)()


def _full_width(value: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)


def _zero_width(rng: random.Random, value: str) -> str:
    at = rng.randint(2, len(value) - 2)
    return value[:at] + rng.choice("\u200b\u200c\u2060\ufeff") + value[at:]


def _split(rng: random.Random, value: str) -> str:
    at = rng.randint(3, len(value) - 3)
    return value[:at] + "\n" + value[at:]


def hidden(text: str, value: str) -> bool:
    """Whether at most 40 % of the value's characters lie outside the redacted spans."""
    start = text.index(value)
    covered = [False] * len(value)
    for span in find_personal_data([text])[0]:
        for i in range(max(span.start, start), min(span.end, start + len(value))):
            covered[i - start] = True
    return sum(covered) >= 0.6 * len(value)


def recalls(rng: random.Random, count: int) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for kind, make in _MAKERS.items():
        found = 0
        for _ in range(count):
            value = make(rng)
            frame = rng.choice(_FRAMES)
            if kind == "NAME":
                frame = rng.choice(
                    (
                        "Hi, my name is {}.",
                        "Best regards,\n{}",
                        "Please ask Dr. {} about it.",
                        "I am called {} by friends",
                    )
                )
            if kind == "CREDENTIALS":
                inner = value.split("://")[1].split("@")[0]
                found += hidden(frame.format(value), inner)
            else:
                found += hidden(frame.format(value), value)
        metrics[f"recall.{kind}"] = round(found / count, 4)
    metrics["recall.checked"] = min(metrics[f"recall.{kind}"] for kind in _CHECKED)
    metrics["recall.rest"] = min(
        metrics[f"recall.{kind}"] for kind in _MAKERS if kind not in _CHECKED
    )
    by_way: dict[str, list[bool]] = defaultdict(list)
    for _ in range(count * 4):
        kind = rng.choice(("EMAIL", "CARD", "IBAN", "PHONE"))
        value = rewrite(rng, kind, _MAKERS[kind](rng))
        by_way[kind].append(hidden(rng.choice(_FRAMES[:5]).format(value), value))
    for kind, results in by_way.items():
        metrics[f"rewritten.{kind}"] = round(sum(results) / len(results), 4)
    metrics["recall.rewritten"] = round(
        sum(map(sum, by_way.values())) / sum(map(len, by_way.values())), 4
    )
    return metrics


def ordinary_text(folder: Path) -> list[str]:
    """Text with hardly any personal data: talk about films, chatbots and code; booking dialogues
    hold real addresses.
    """
    texts: list[str] = []
    for path in sorted((folder / "satisfaction").glob("CCPE*.txt")):
        texts += [
            line.split("\t")[1]
            for line in path.read_text(errors="replace").splitlines()
            if line.count("\t") >= 2
        ]
    path = folder / "coding-chats" / "realhumaneval-chat.csv"
    if path.exists():
        content = path.read_text(errors="replace")
        texts += [content[i : i + 1500] for i in range(0, len(content), 1500)]
    return texts


def speed(texts: list[str]) -> dict[str, float]:
    size = sum(len(text) for text in texts) / 1e6
    find_personal_data(texts[:2000])
    started = time.perf_counter()
    spans = sum(len(found) for found in find_personal_data(texts, names=False))
    ours = size / (time.perf_counter() - started)
    metrics = {"mb_per_s": round(ours, 2), "false_alarms_per_mb": round(spans / size, 2)}
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError:
        print(
            "presidio-analyzer is not installed: no presidio_ratio (pip install presidio-analyzer)",
            file=sys.stderr,
        )
        return metrics
    del spacy, NlpEngineProvider
    engine: Any = _blank_engine(AnalyzerEngine)
    sample, taken = [], 0
    for text in texts[:: max(1, len(texts) // 400)]:
        sample.append(text)
        taken += len(text)
    engine.analyze(text=sample[0], language="en")
    started = time.perf_counter()
    for text in sample:
        engine.analyze(text=text, language="en")
    theirs = taken / 1e6 / (time.perf_counter() - started)
    return {
        **metrics,
        "presidio_mb_per_s": round(theirs, 3),
        "presidio_ratio": round(ours / theirs, 1),
    }


def _blank_engine(analyzer: Callable[..., object]):
    import spacy
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__(
                models=[{"lang_code": "en", "model_name": "blank"}],
                ner_model_configuration=NerModelConfiguration(),
            )
            self.nlp = {"en": spacy.blank("en")}

        def load(self) -> None:
            pass

    return analyzer(nlp_engine=Blank(), supported_languages=["en"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=None, help="drawn anew if left out")
    arguments = parser.parse_args()
    started = time.perf_counter()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    metrics = recalls(random.Random(seed), 300)
    metrics.update(speed(ordinary_text(arguments.data)))
    print(
        json.dumps(
            {
                "bench": "redaction",
                "metrics": {**metrics, "seed": seed},
                "data": str(arguments.data),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
