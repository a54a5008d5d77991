"""Upshot learns from what happened next.

Every verb of the command line is a function here under the same name (`upshot train reward` is
`train_reward`); each is loaded when it is first used, so that `import upshot` costs next to
nothing.

>>> import upshot
>>> chat = upshot.RawConversation(
...     (
...         upshot.RawMessage("user", "fix it"),
...         upshot.RawMessage("assistant", "done"),
...         upshot.RawMessage("user", "that worked, thanks!"),
...     )
... )
>>> [(v.index, v.score > 0.8, v.evidence[0].quote) for v in upshot.judge([chat])]
[(1, True, 'that worked')]
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from upshot.extras import explain_missing
from upshot.processors import cap_threads

if TYPE_CHECKING:
    from upshot.api.artifacts import (
        Reconstruction,
        ReplayReport,
        reconstruct,
        replay,
        report_trails,
        trails_export,
    )
    from upshot.api.crediting import CreditReport, credit
    from upshot.api.events import ingest_events
    from upshot.api.judging import (
        RunReport,
        ThreadMember,
        erase,
        ingest,
        judge,
        link,
        plan,
        report,
        run,
        verdicts,
    )
    from upshot.api.lakes import lake_check, lake_compact, lake_rebucket, lake_renew, lake_stats
    from upshot.api.loop_state import loop_approve, loop_config, loop_rollback, loop_status, skills
    from upshot.api.loops import hotfix, loop_forget, loop_rerun, loop_run
    from upshot.api.pairs import Exported, examples, export_pairs, pairs
    from upshot.api.policies import check_policy_recipe, train_policy
    from upshot.api.policy_methods import explain_method, policy_recipe
    from upshot.api.pushing import PushReport, push
    from upshot.api.readings import Reading, read
    from upshot.api.repositories import retention
    from upshot.api.reward_models import (
        Objective,
        check_reward_recipe,
        reward_recipe,
        score,
        train_audit,
        train_reward,
        update_reward,
    )
    from upshot.api.trust import (
        audit,
        calibrate,
        compare,
        evaluate,
        label,
        rubric_learn,
        rubric_show,
    )
    from upshot.api.verifying import attempt, verify
    from upshot.api.worlds import world_measure, world_policy, world_talk
    from upshot.config import Settings, load
    from upshot.errors import UpshotError
    from upshot.io.rows import Rows
    from upshot.records import (
        BadRecord,
        Evidence,
        Example,
        Preference,
        RawConversation,
        RawMessage,
        Signal,
        Turn,
        Verdict,
    )
    from upshot.reward.private import Privacy

__version__ = "0.2.0"

_EXPORTS = {
    "upshot.api.artifacts": (
        "ReplayReport",
        "Reconstruction",
        "reconstruct",
        "replay",
        "report_trails",
        "trails_export",
    ),
    "upshot.api.crediting": ("CreditReport", "credit"),
    "upshot.api.events": ("ingest_events",),
    "upshot.api.judging": (
        "plan",
        "RunReport",
        "ThreadMember",
        "erase",
        "ingest",
        "judge",
        "link",
        "report",
        "run",
        "verdicts",
    ),
    "upshot.api.lakes": ("lake_check", "lake_compact", "lake_rebucket", "lake_renew", "lake_stats"),
    "upshot.api.loop_state": (
        "loop_approve",
        "loop_config",
        "loop_rollback",
        "loop_status",
        "skills",
    ),
    "upshot.api.loops": ("hotfix", "loop_forget", "loop_rerun", "loop_run"),
    "upshot.api.pairs": ("Exported", "examples", "export_pairs", "pairs"),
    "upshot.api.policies": ("check_policy_recipe", "train_policy"),
    "upshot.api.policy_methods": ("explain_method", "policy_recipe"),
    "upshot.api.pushing": ("PushReport", "push"),
    "upshot.api.readings": ("Reading", "read"),
    "upshot.api.repositories": ("retention",),
    "upshot.api.reward_models": (
        "Objective",
        "check_reward_recipe",
        "reward_recipe",
        "score",
        "train_audit",
        "train_reward",
        "update_reward",
    ),
    "upshot.api.trust": (
        "rubric_show",
        "audit",
        "calibrate",
        "compare",
        "evaluate",
        "label",
        "rubric_learn",
    ),
    "upshot.api.verifying": ("attempt", "verify"),
    "upshot.api.worlds": ("world_measure", "world_policy", "world_talk"),
    "upshot.config": ("Settings", "load"),
    "upshot.errors": ("UpshotError",),
    "upshot.io.rows": ("Rows",),
    "upshot.reward.private": ("Privacy",),
    "upshot.records": (
        "BadRecord",
        "Evidence",
        "Example",
        "Preference",
        "RawConversation",
        "RawMessage",
        "Signal",
        "Turn",
        "Verdict",
    ),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "BadRecord",
    "CreditReport",
    "Evidence",
    "Example",
    "Exported",
    "Objective",
    "Preference",
    "Privacy",
    "PushReport",
    "RawConversation",
    "RawMessage",
    "Reading",
    "Reconstruction",
    "ReplayReport",
    "Rows",
    "RunReport",
    "Settings",
    "Signal",
    "ThreadMember",
    "Turn",
    "UpshotError",
    "Verdict",
    "attempt",
    "audit",
    "calibrate",
    "check_policy_recipe",
    "check_reward_recipe",
    "compare",
    "credit",
    "erase",
    "evaluate",
    "examples",
    "explain_method",
    "export_pairs",
    "hotfix",
    "ingest",
    "ingest_events",
    "judge",
    "label",
    "lake_check",
    "lake_compact",
    "lake_rebucket",
    "lake_renew",
    "lake_stats",
    "link",
    "load",
    "loop_approve",
    "loop_config",
    "loop_forget",
    "loop_rerun",
    "loop_rollback",
    "loop_run",
    "loop_status",
    "pairs",
    "plan",
    "policy_recipe",
    "push",
    "read",
    "reconstruct",
    "replay",
    "report",
    "report_trails",
    "retention",
    "reward_recipe",
    "rubric_learn",
    "rubric_show",
    "run",
    "score",
    "skills",
    "trails_export",
    "train_audit",
    "train_policy",
    "train_reward",
    "update_reward",
    "verdicts",
    "verify",
    "world_measure",
    "world_policy",
    "world_talk",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'upshot' has no attribute {name!r}")
    cap_threads()
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise explain_missing(error) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])


class _Package(ModuleType):
    """Three verbs (`credit`, `report`, `retention`) share their name with a folder of the package.

    Importing a submodule binds it on its package; for these names the verb stays what
    `upshot.NAME` means, and `from upshot.credit import …` works as ever.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
