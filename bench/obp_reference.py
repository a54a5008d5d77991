# pyright: reportMissingImports=false
# for obp
"""Makes `tests/loop/obp.json`: estimates by Open Bandit Pipeline on made-up decisions.

Run it by hand where `obp` is installed; the tests only read the file.
"""

import json
from pathlib import Path

import numpy as np
from obp.ope import (
    DirectMethod,
    DoublyRobust,
    InverseProbabilityWeighting,
    SelfNormalizedInverseProbabilityWeighting,
)

rng = np.random.default_rng(12)
count, actions = 200, 4
behaviour = rng.dirichlet(np.ones(actions) * 2, count) * 0.9 + 0.1 / actions
action = np.array([rng.choice(actions, p=row / row.sum()) for row in behaviour])
reward = rng.random(count).round(3)
policy = rng.dirichlet(np.ones(actions), count)
expected = rng.random((count, actions)).round(3)
given = {
    "reward": reward,
    "action": action,
    "pscore": behaviour[np.arange(count), action],
    "action_dist": policy[:, :, None],
    "position": np.zeros(count, int),
}
model = {"estimated_rewards_by_reg_model": expected[:, :, None]}
kinds = {
    "ips": InverseProbabilityWeighting(),
    "snips": SelfNormalizedInverseProbabilityWeighting(),
    "dr": DoublyRobust(),
    "dm": DirectMethod(),
}
value, by_round = {}, {}
for name, one in kinds.items():
    more = model if name in ("dr", "dm") else {}
    value[name] = float(one.estimate_policy_value(**given, **more))
    by_round[name] = one._estimate_round_rewards(**given, **more).tolist()
(Path(__file__).parents[1] / "tests" / "loop" / "obp.json").write_text(
    json.dumps(
        {
            "action": action.tolist(),
            "reward": reward.tolist(),
            "propensity": given["pscore"].tolist(),
            "policy": policy.tolist(),
            "expected": expected.tolist(),
            "value": value,
            "by_round": by_round,
        }
    )
)
