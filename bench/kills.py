"""Kill a verb at a random moment, again and again, then let the same command finish.

Each verb runs by the command line's own entry in a child process that is killed (-9) at a moment
drawn evenly from its length; a third of the time what resumes it is killed too. Then the command
runs to its end, and what it left is compared with what an undisturbed run leaves: `lost` rows are
missing, `doubled` rows are there more often, `different` rows say something else (a model that is
half old and half new counts, also before the command is run again). `orphans` are processes of the
killed one that live five seconds later. A quarter of the ingests and judgings have two workers.
The baseline is what a reader would see without any of this: `torn` is the share of kills after
which the result was not there yet or not whole, so that there was something to finish.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "UPSHOT_KEY": "a key that is long enough",
    "UPSHOT_LAKE__BUCKETS": "4",
    "UPSHOT_LAKE__CHUNK_MB": "0.004",
}


from upshot.cli.app import run_app
from upshot.errors import UpshotError
from upshot.lake import Lake
from upshot.privacy import Pseudonyms
from upshot.reward.files import load as load_reward

ROOT = Path(__file__).parents[1]
GOOD, BAD = "that worked, thank you", "it still crashes"
PLACES = ("kitchen", "garage", "attic", "cellar", "garden", "hall", "office", "studio", "tower")
_ORPHAN_S = 5.0
Rows = Mapping[str, Counter[str]]
"""The values that each key has, and how often."""


class Verb(NamedTuple):
    """A command, what it starts from, and what it leaves."""

    name: str
    share: int
    """Of the kills, in relation to the other verbs."""
    prepare: Callable[[Path], None]
    commands: Sequence[Sequence[str]]
    """The command, in variants, with `{}` for the folder."""
    read: Callable[[Path], Rows]
    is_whole: Callable[[Path], bool] = lambda folder: True
    """Whether nothing is half old and half new, right after a kill."""


def write_log(path: Path, users: int, sessions: int, seed: int = 0) -> Path:
    """Conversations of which half worked."""
    rng = random.Random(seed)
    lines: list[str] = []
    for user in range(users):
        for session in range(sessions):
            good = rng.random() < 0.5
            where = f"in the {PLACES[(user + session) % len(PLACES)]}"
            reaction = (
                f"Perfect, that worked {where}, thank you!"
                if good
                else f"No, that is wrong. It still crashes {where} with ValueError: nothing there"
            )
            turns = [
                ("user", f"how do I fix my build number {rng.randrange(999)}?"),
                ("assistant", GOOD if good else BAD),
                ("user", reaction),
            ]
            messages = [{"role": role, "content": text} for role, text in turns]
            row = {"id": f"{seed}-{user}-{session}", "user": f"user-{user}", "messages": messages}
            lines.append(json.dumps({**row, "started_at": 1.75e9 + 86_400 * session + user}))
    path.write_text("\n".join(lines))
    return path


def call(*arguments: str) -> None:
    """Run a verb to its end, which must be good."""
    code = wait_for(start(arguments))
    assert code == 0, (arguments, code, Path(os.environ["KILLS_LOG"]).read_text()[-2000:])


def start(arguments: Sequence[str]) -> int:
    """A verb in a forked child that leads a session; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        sys.modules["__main__"] = types.ModuleType("__main__")  # workers load what the command does
        log = os.open(os.environ["KILLS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = run_app(arguments)
    finally:
        os._exit(code)


def read_in_child(read: Callable[[Path], Rows], folder: Path) -> Rows | None:
    """What a verb left; None: it cannot be read. In a child, since the library of the lake starts
    threads, and a process with threads is not forked.
    """
    out = folder.with_name("rows.pickle")
    out.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        try:
            with contextlib.suppress(UpshotError, OSError, ValueError):
                out.write_bytes(pickle.dumps(read(folder)))
        finally:
            os._exit(0)
    wait_for(pid)
    return pickle.loads(out.read_bytes()) if out.is_file() else None


def wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def session_of(leader: int) -> list[int]:
    """The living processes of a session."""
    members: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rsplit(")", 1)[1].split()[:4]
            if int(session) == leader and state != "Z":
                members.append(int(stat.parent.name))
    return members


def count_orphans(leader: int) -> int:
    """Processes that outlive the leader of their session; they are ended."""
    deadline = time.monotonic() + _ORPHAN_S
    while (members := session_of(leader)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(members)


def read_tables(lake: Lake, keys: Mapping[str, Sequence[str]], values: Sequence[str]) -> Rows:
    """Stored rows of tables, superseded ones included, by their keys."""
    rows: dict[str, Counter[str]] = {}
    for table, key in keys.items():
        for row in lake.read_all_versions(table, None).to_pylist():
            name = f"{table} {[row[column] for column in key]}"
            value = str([row.get(column) for column in values])
            rows.setdefault(name, Counter())[value] += 1
    return rows


BASE = {"conversations": ["user", "id"], "messages": ["user", "id", "index"]}
DERIVED = {"verdicts": ["id", "index"], "threads": ["id"]}
VALUES = ("text", "digest", "messages", "score", "confidence", "label", "thread", "parent")


def read_lake(folder: Path) -> Rows:
    return read_tables(Lake(folder / "lake"), {**BASE, **DERIVED}, VALUES)


def read_ingested(folder: Path) -> Rows:
    return read_tables(Lake(folder / "lake"), BASE, VALUES)


def read_judged(folder: Path) -> Rows:
    """The lake, and the file that was written from it."""
    rows = dict(read_lake(folder))
    for line in (folder / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        value = str([row["score"], row["label"], len(row["evidence"])])
        rows.setdefault(f"out {row['id']} {row['index']}", Counter())[value] += 1
    return rows


def prepare_log(folder: Path) -> None:
    write_log(folder / "log.jsonl", 60, 2)


def prepare_ingested(folder: Path) -> None:
    call("ingest", str(write_log(folder / "log.jsonl", 60, 2)), "--lake", str(folder / "lake"))


def prepare_judged(folder: Path) -> None:
    call("run", str(write_log(folder / "log.jsonl", 40, 2)), "--lake", str(folder / "lake"))


def prepare_examples(folder: Path) -> None:
    """A reward model of other data, which is to be replaced."""
    rng = random.Random(3)
    for name, flip in (("old", True), ("new", False)):
        lines: list[str] = []
        for number in range(120):
            good, bad = (BAD, GOOD) if flip else (GOOD, BAD)
            ask = {"role": "user", "content": f"how do I fix build {number} {rng.choice(PLACES)}?"}
            for score, text in ((1.0, good), (0.0, bad)):
                answer = {"role": "assistant", "content": f"{text} {rng.choice(PLACES)}"}
                row = {"prompt": [ask], "completion": [answer], "score": score}
                lines.append(json.dumps({**row, "source": {"users": [f"u_{name}{number % 9}"]}}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    call("train", "reward", str(folder / "old.jsonl"), "-o", str(folder / "model"))
    shutil.copytree(folder / "model", folder / "before")


def read_model(folder: Path) -> Rows:
    """The files of the reward model, but for the card's date; nothing else is beside it."""
    names = ("weights.npz", "users.json", "model.json")
    rows = {name: Counter([digest_of(folder / "model" / name)]) for name in names}
    rows["beside"] = Counter(sorted(path.name for path in folder.glob(".*")))
    return rows


def is_model_whole(folder: Path) -> bool:
    """All files of the old one, or none; and it can be loaded."""
    try:
        load_reward(folder / "model")
    except UpshotError:
        return False
    old = [
        digest_of(folder / "model" / name) == digest_of(folder / "before" / name)
        for name in ("weights.npz", "users.json", "model.json")
    ]
    return all(old) or not any(old)


def digest_of(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else ""


def read_erased(folder: Path) -> Rows:
    """The lake; a trace of the erased user is a row too many."""
    rows = dict(read_lake(folder))
    user = Pseudonyms(os.environ["UPSHOT_KEY"]).user("user-7").encode()
    for path in (folder / "lake").rglob("*"):
        if path.is_file() and user in path.read_bytes():
            rows[f"trace {path}"] = Counter(["left"])
    return rows


def prepare_loop(folder: Path) -> None:
    """A loop before its first round."""
    path = ROOT / "tests" / "llm" / "tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    base = folder / "base"
    module.save(base)
    (folder / "logs").mkdir()
    write_log(folder / "logs" / "1.jsonl", 60, 1)
    margins = ("length", "flattery", "refusals", "questions", "broken", "unjudged", "cvar")
    (folder / "loop.toml").write_text(
        f"""
        lake = "{folder}/lake"
        folder = "{folder}/loop"
        base = "{base}"
        [gather]
        logs = ["{folder}/logs/*.jsonl"]
        [reward]
        use = false
        [learn]
        splits = [0.6, 0.2, 0.2]
        agreement = false
        [policy]
        method = "sft"
        [policy.trainer]
        learning_rate = 3e-3
        max_steps = 2
        save_strategy = "no"
        [policy.draw]
        max_tokens = 4
        [policy.kl]
        prompts = 4
        [gate]
        least_gain = -1e9
        kl = 1e9
        [gate.margins]
        "out of domain" = 1e9
        """
        + "\n".join(f"{name} = 1e9" for name in margins)
    )


def prepare_forget(folder: Path) -> None:
    prepare_loop(folder)
    call("loop", "run", "--config", str(folder / "loop.toml"))


def read_loop(folder: Path) -> Rows:
    """The lake, what each round learned from and made, and what serves."""
    rows = dict(read_lake(folder))
    for round in sorted((folder / "loop").glob("round-*")):
        for name in ("judged.jsonl", "examples.jsonl", "pairs.jsonl", "test.jsonl"):
            path = round / name
            lines = path.read_text().splitlines() if path.is_file() else []
            for line, count in Counter(lines).items():
                rows[f"{round.name}/{name} {digest_text(line)}"] = Counter({"": count})
        for name in ("policy-0/model.safetensors", "policy-0/users.json", "users.json"):
            rows[f"{round.name}/{name}"] = Counter([digest_of(round / name)])
        steps = sorted(path.name for path in round.glob("*.json"))
        rows[f"{round.name} steps"] = Counter(steps)
    state = json.loads((folder / "loop" / "state.json").read_text())
    history = [(entry["policy"], entry["why"]) for entry in state["history"]]
    rows["state"] = Counter([str((history, state.get("tests"), state.get("waiting")))])
    rows["journal"] = Counter(path.name for path in (folder / "loop").glob("forgetting*"))
    return rows


def digest_text(text: str) -> str:
    """Of a row without the time at which it was judged."""
    row = json.loads(text)
    row.pop("as_of", None)
    return hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=8).hexdigest()


_LAKE = ("--lake", "{}/lake")
VERBS = (
    Verb(
        "ingest",
        6,
        prepare_log,
        [["ingest", "{}/log.jsonl", *_LAKE]] * 3
        + [["ingest", "{}/log.jsonl", *_LAKE, "--workers", "2"]],
        read_ingested,
    ),
    Verb(
        "judge",
        5,
        prepare_ingested,
        [["judge", *_LAKE, "-o", "{}/out.jsonl"]] * 3
        + [["judge", *_LAKE, "-o", "{}/out.jsonl", "--workers", "2"]],
        read_judged,
    ),
    Verb(
        "reward",
        4,
        prepare_examples,
        [["train", "reward", "{}/new.jsonl", "-o", "{}/model"]],
        read_model,
        is_model_whole,
    ),
    Verb("erase", 5, prepare_judged, [["erase", "--user", "user-7", *_LAKE]], read_erased),
    Verb("loop", 2, prepare_loop, [["loop", "run", "--config", "{}/loop.toml"]], read_loop),
    Verb(
        "forget",
        2,
        prepare_forget,
        [["loop", "forget", "--user", "user-7", "--config", "{}/loop.toml"]],
        read_loop,
    ),
)


def compare(expected: Rows, actual: Rows) -> tuple[int, int, int]:
    """Rows that are lost, doubled, different."""
    lost = doubled = different = 0
    for key in {*expected, *actual}:
        want, have = expected.get(key, Counter()), actual.get(key, Counter())
        extra = have.total() - want.total()
        lost += max(0, -extra)
        doubled += max(0, extra)
        different += extra == 0 and want != have
    return lost, doubled, different


def harass(verb: Verb, room: Path, kills: int, rng: random.Random) -> Counter[str]:
    """Kill one verb this many times."""
    template, work = room / verb.name, room / "work"
    work.mkdir()
    verb.prepare(work)
    copy_tree(work, template)
    commands = [[part.replace("{}", str(work)) for part in command] for command in verb.commands]
    lengths: dict[str, float] = {}
    for command in commands:
        if str(command) not in lengths:
            copy_tree(template, work)
            began = time.perf_counter()
            call(*command)
            lengths[str(command)] = time.perf_counter() - began
    expected = read_in_child(verb.read, work)
    assert expected is not None
    result = Counter[str]()
    while result["kills"] < kills:
        copy_tree(template, work)
        command = rng.choice(commands)
        while True:
            pid = start(command)
            time.sleep(rng.random() * lengths[str(command)])
            os.kill(pid, signal.SIGKILL)
            is_killed = wait_for(pid) == -signal.SIGKILL
            result["kills"] += is_killed
            result["orphans"] += count_orphans(pid)
            result["different"] += not verb.is_whole(work)
            if not is_killed or rng.random() > 1 / 3:
                break
        left = read_in_child(verb.read, work)
        result["torn"] += left is None or compare(expected, left) != (0, 0, 0)
        call(*command)
        lost, doubled, different = compare(expected, read_in_child(verb.read, work) or {})
        result += Counter(lost=lost, doubled=doubled, different=different)
        if lost or doubled or different:
            print(f"{verb.name}: {lost} lost, {doubled} doubled, {different} different", flush=True)
    shutil.rmtree(work)
    return result


def copy_tree(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="not used; every bench takes it")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--verbs", default=",".join(verb.name for verb in VERBS))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.perf_counter()
    rng = random.Random(arguments.seed)
    verbs = [verb for verb in VERBS if verb.name in arguments.verbs.split(",")]
    metrics = Counter[str](kills=0, lost=0, doubled=0, different=0, orphans=0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KILLS_LOG"] = str(Path(folder) / "log.txt")
        for verb in verbs:
            kills = round(arguments.kills * verb.share / sum(one.share for one in verbs))
            result = harass(verb, Path(folder), max(1, kills), rng)
            print(verb.name, dict(result), f"{time.perf_counter() - started:.0f} s", flush=True)
            metrics += result
            metrics[f"{verb.name}.kills"] = result["kills"]
        for name in ("kills", "lost", "doubled", "different", "orphans"):
            metrics[name] += 0
    shares = {"torn": round(metrics["torn"] / max(1, metrics["kills"]), 3)}
    line: dict[str, Any] = {"bench": "kills", "metrics": {**metrics, **shares}, "data": ""}
    print(json.dumps({**line, "seconds": round(time.perf_counter() - started, 1)}))


if __name__ == "__main__":
    main()
