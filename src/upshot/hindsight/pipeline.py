"""Link and judge: on a lake, where what is learned from everybody is kept and only what is new is
worked on; and on tables in memory, which are a lake of one bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from upshot.engine import (
    Executor,
    Fit,
    StepReport,
    Tables,
    learn,
    learn_from_tables,
    run_step,
)
from upshot.hindsight.embedded import adapt
from upshot.hindsight.embedded import corpus as corpora
from upshot.hindsight.embedded.judge import (
    judge_tables,
    make_corpus_fit,
    make_judge_step,
    make_suspects_fit,
)
from upshot.lake import Lake, load_model, tend_lake
from upshot.records import CleanTable
from upshot.threads import background, make_background_fit, make_link_step
from upshot.threads.link import link_tables

Progress = Callable[[str, int, int], None]
"""Called with what is done, and how many buckets of how many."""
_GROWTH = 2
"""How many times larger a lake becomes before what it learned is learned anew."""


class Linking(NamedTuple):
    """How sessions are linked."""

    threshold: float = 0.5
    """P(continues) from which a session is joined."""
    window: int = 64
    """Sessions back that are compared."""
    embeddings: bool = False
    """Also compare sentence embeddings (extra `embeddings`)."""


class Work(NamedTuple):
    """A lake, and how work on it is done."""

    lake: Lake
    executor: Executor | None = None
    progress: Progress = lambda stage, done, total: None

    def watch(self, stage: str) -> Callable[[int, int], None]:
        """The progress of one stage."""
        return lambda done, total: self.progress(stage, done, total)


def link(work: Work, linking: Linking = Linking(), *, renew: bool = False) -> StepReport:
    """Join the sessions of a lake into threads; users without anything new are left as they are.

    `renew`: learn the words that everybody uses anew, and link every session by them.
    """
    rows = work.lake.count_rows("conversations")
    if renew or _is_due(work.lake, background.NAME, rows, background.MIN_SESSIONS):
        _learn(work, make_background_fit(), {"rows": rows})
    return run_step(work.lake, make_link_step(*linking), work.executor, work.watch("link"))


def judge(work: Work, horizon: int = 20, *, renew: bool = False) -> StepReport:
    """Judge every response of a lake; users without anything new are left as they are.

    `renew`: learn anew how this corpus says that things went well, and judge everything by it.
    """
    rows = work.lake.count_rows("messages")
    if renew or _is_due(work.lake, corpora.NAME, rows, 2 * adapt.MIN_RESPONSES):
        _learn_corpus(lambda fit: _learn(work, fit, {"rows": rows}), horizon)
    report = run_step(work.lake, make_judge_step(horizon), work.executor, work.watch("judge"))
    tend_lake(work.lake)
    return report


def _learn_corpus(learn_fit: Callable[[Fit], str], horizon: int) -> str:
    """Both passes over the corpus; returns the content of the model."""
    suspects = corpora.read_suspects(learn_fit(make_suspects_fit(horizon)))
    return learn_fit(make_corpus_fit(horizon, suspects))


def _is_due(lake: Lake, name: str, rows: int, minimum: int) -> bool:
    """Whether there is enough to learn from, and much more than when it was last learned."""
    if rows < minimum:
        return False
    model = load_model(lake, name)
    return model is None or rows >= _GROWTH * msgspec.json.decode(model.content, type=_Size).rows


class _Size(msgspec.Struct):
    rows: int = 0


def _learn(work: Work, fit: Fit, options: Mapping[str, Any]) -> str:
    fit = fit._replace(options={**fit.options, **options})
    return learn(work.lake, fit, work.executor, work.watch(f"learn {fit.name}")).content


def link_in_memory(
    tables: Tables, linking: Linking = Linking()
) -> tuple[dict[str, CleanTable], dict[str, str]]:
    """The tables with their threads, and what was learned from everybody in them."""
    models: dict[str, str] = {}
    rows = tables["conversations"].num_rows
    if rows >= background.MIN_SESSIONS:
        models[background.NAME] = learn_from_tables(make_background_fit(), tables, models)
    threads = link_tables(tables, {**linking._asdict(), "bucket": 0}, models)
    return {**tables, "threads": threads}, models


def learn_corpus_in_memory(
    tables: Tables, models: Mapping[str, str], horizon: int = 20
) -> dict[str, str]:
    """The models with what these tables say of the ways of this corpus."""
    if tables["messages"].num_rows < 2 * adapt.MIN_RESPONSES:
        return dict(models)
    learned = _learn_corpus(lambda fit: learn_from_tables(fit, tables, models), horizon)
    return {**models, corpora.NAME: learned}


def judge_in_memory(tables: Tables, models: Mapping[str, str], horizon: int = 20) -> CleanTable:
    """Verdicts on linked tables."""
    learned = learn_corpus_in_memory(tables, models, horizon)
    return judge_tables(tables, {"horizon": horizon, "bucket": 0}, learned)
