"""The verbs of Upshot as functions; the command line calls nothing else.

>>> from upshot import RawConversation, RawMessage
>>> chat = RawConversation((RawMessage("user", "fix it"), RawMessage("assistant", "done"), RawMessage("user", "that worked, thanks!")))
>>> [(v.index, v.score > 0.8, v.evidence[0].quote) for v in judge([chat])]
[(1, True, 'that worked')]
"""

from upshot.api.judging import (
    RunReport,
    ask_lake,
    curve_of,
    erase,
    ingest,
    judge,
    judge_lake,
    link,
    link_lake,
    linked,
    make_report,
    memory_tables,
    plan,
    plan_lake,
    run,
    verdicts,
)
from upshot.api.loops import (
    hotfix,
    loop_approve,
    loop_config,
    loop_forget,
    loop_rerun,
    loop_roll_back,
    loop_run,
    loop_status,
    skills,
)
from upshot.api.opening import Paths, Progress, cleaning, endpoint_of, open_lake, quiet
from upshot.api.policies import check_policy, explain, policy_recipe, train_policy
from upshot.api.training import (
    Exported,
    Objective,
    audit_leaks,
    check_recipe,
    examples,
    export,
    pairs,
    score,
    train_reward,
    update_reward,
)
from upshot.api.trust import audit, calibrate, compare, label, learn_rubric
from upshot.api.world import Credited, attempt, credit, ingest_events, retention, verify
from upshot.api.worlds import make_world_policy, measure_policy, talk
from upshot.config import load
from upshot.sources import read

__all__ = [
    "Credited",
    "Exported",
    "Objective",
    "Paths",
    "Progress",
    "RunReport",
    "ask_lake",
    "attempt",
    "audit",
    "audit_leaks",
    "calibrate",
    "check_policy",
    "check_recipe",
    "cleaning",
    "compare",
    "credit",
    "curve_of",
    "endpoint_of",
    "erase",
    "examples",
    "explain",
    "export",
    "hotfix",
    "ingest",
    "ingest_events",
    "judge",
    "judge_lake",
    "label",
    "learn_rubric",
    "link",
    "link_lake",
    "linked",
    "load",
    "loop_approve",
    "loop_config",
    "loop_forget",
    "loop_rerun",
    "loop_roll_back",
    "loop_run",
    "loop_status",
    "make_report",
    "make_world_policy",
    "measure_policy",
    "memory_tables",
    "open_lake",
    "pairs",
    "plan",
    "plan_lake",
    "policy_recipe",
    "quiet",
    "read",
    "retention",
    "run",
    "score",
    "skills",
    "talk",
    "train_policy",
    "train_reward",
    "update_reward",
    "verdicts",
    "verify",
]
