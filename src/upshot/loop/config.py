"""What a loop is: one TOML file.

```
lake = "lake"                      # where logs, verdicts and threads lie
folder = "loop"                    # rounds, models and what is in service
base = "Qwen/Qwen3-8B"             # the policy in service before the first round
seed = 0

[gather]                           # where a round's logs come from: files that are new, or
logs = ["logs/*.jsonl"]            # a command that writes them
command = "collect --model {policy} --out {out} --round {round} --seed {seed}"

[learn]
recent = 3                         # rounds whose verdicts teach a policy
splits = [0.7, 0.15, 0.15]         # users to learn from, to choose a candidate on, to test it on

[reward]                           # leave out where the policy's method learns from verdicts alone
recipe = "reward.toml"             # a transformer; without it the embedded model
keep = 1.0                         # share of the old evidence that still counts

[policy]                           # as in `upshot train policy --recipe`, without base
method = "kto"

[gate]                             # how strict: see `loop.gate.Rules`
alpha = 0.05

[serve]
shadow = 0.2                       # share of requests that a candidate also answers, unseen
canary = 0.5                       # share of users who get a candidate first, and whose outcomes
                                   # decide; 0: the gate's reward model decides
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from upshot.errors import ConfigError, NotFoundError
from upshot.loop.gate import Rules
from upshot.policy.recipe import Recipe


class Gather(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where logs come from."""

    logs: list[str] = []
    """Files or globs; each file is read once, and again when it has changed."""
    command: str = ""
    """Writes a log to {out}; may name {policy}, {round}, {seed}, and for trials {canary} and
    {share}: the log must name under `model` whose answer it is.
    """
    format: str | None = None


class Learn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a round learns from."""

    recent: int = 3
    splits: tuple[float, float, float] = (0.7, 0.15, 0.15)
    least_weight: float = 0.05
    """Confidence from which a verdict teaches."""
    agreement: bool = True
    """Whether each verdict is weighed against a model trained on other users (`policy.agreement`):
    against liars, and for those who say nothing. Costs as much again as imitating.
    """
    candidates: int = 1
    """Policies trained per round, with different seeds."""
    prompts: int = 300
    """Most frozen prompts of each split."""


class RewardPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the reward model is trained."""

    recipe: dict[str, Any] = {}
    """As in `upshot train reward --recipe`, without base: a transformer that begins with the policy
    in service and goes on from round to round. Empty: embedded.
    """
    keep: float = 1.0
    use: bool = True
    """Whether the policy is trained on it; else only the gate looks at it."""


class Gate(Rules, frozen=True):
    """The rules, and what else is looked at."""

    suites: dict[str, str] = {}
    """Files of prompts with tests, by name: a candidate may not pass fewer."""
    floors: dict[str, str] = {}
    """Reward models by objective (harmless): their mean may not fall below that of the base,
    however many rounds ago that was.
    """
    panel: list[str] = []
    """Reward models, two at least, that no policy is trained on: their mean less twice their
    variance may not fall.
    """
    tests: list[str] = []
    """Rewards that are facts (verify, module:function), compared like suites, on the frozen
    prompts.
    """
    kl: float = 30.0
    """Nats per answer that a candidate may be from the policy it was trained from."""
    audit: str = ""
    """A reward in [0, 1] that labels a random share of all policies' fresh answers (verify,
    module:function): a test, people, a strong judge.
    """
    audit_share: float = 0.05


class Serve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a candidate goes out: first in the shadow, then to a share of the users, then to all;
    each of the two may be left out.
    """

    shadow: float = 0.0
    """Share of the next round's requests that a candidate answers too, where no user sees it; the
    guards look at these answers beside those that users got.
    """
    canary: float = 0.0
    """Share of users, drawn at random, who get a candidate that passed its guards; the verdicts of
    the next round's log compare it with the policy in service, user by user. 0: there is no such
    trial, and the gate's reward model decides on fresh answers.
    """
    least_users: int = 20
    """Of each arm; with fewer a trial goes on."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole."""

    lake: str
    folder: str
    base: str
    policy: dict[str, Any]
    seed: int = 0
    gather: Gather = Gather()
    learn: Learn = Learn()
    reward: RewardPlan | None = None
    gate: Gate = Gate()
    serve: Serve = Serve()

    def __post_init__(self) -> None:
        if bool(self.gather.logs) == bool(self.gather.command):
            raise ConfigError("could not use [gather]: name logs, or a command that writes them")
        splits = self.learn.splits
        if abs(sum(splits) - 1) > 1e-9 or min(splits) <= 0:
            raise ConfigError(
                f"could not use learn.splits {splits}: three shares above 0 that add up to 1"
            )
        if not 0 <= self.serve.canary < 1 or not 0 <= self.serve.shadow <= 1:
            raise ConfigError(
                f"could not use [serve]: canary {self.serve.canary} is a share below 1, shadow"
                f" {self.serve.shadow} one up to 1"
            )
        self.recipe("unused")

    def recipe(self, base: str, seed: int = 0) -> Recipe:
        """The policy's recipe on a base."""
        try:
            return msgspec.convert({**self.policy, "base": base, "seed": self.seed + seed}, Recipe)
        except msgspec.ValidationError as error:
            raise ConfigError(f"could not use [policy]: {error}") from error


def load(path: str | Path) -> Config:
    """Read a loop's file; paths in it are relative to it.

    Raises:
        NotFoundError: the file is not there.
        ConfigError: a key is unknown or a value out of bounds.
    """
    try:
        config = msgspec.convert(tomllib.loads(Path(path).read_text("utf-8")), Config)
    except FileNotFoundError as error:
        raise NotFoundError(f"could not read the loop {path}: there is no such file") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"could not read the loop {path}: {error}") from error
    return msgspec.structs.replace(config, **_resolve_paths(config, Path(path).resolve().parent))


def _resolve_paths(config: Config, home: Path) -> Mapping[str, Any]:
    def at(name: str) -> str:
        return name if "://" in name else str(home / name)

    base = str(home / config.base) if (home / config.base).is_dir() else config.base
    gather = msgspec.structs.replace(config.gather, logs=[at(name) for name in config.gather.logs])
    gate = msgspec.structs.replace(
        config.gate,
        suites={k: at(v) for k, v in config.gate.suites.items()},
        floors={k: at(v) for k, v in config.gate.floors.items()},
        panel=[at(name) for name in config.gate.panel],
    )
    return {
        "lake": at(config.lake),
        "folder": at(config.folder),
        "base": base,
        "gather": gather,
        "gate": gate,
    }
