"""The model card that is written with a reward model."""

from __future__ import annotations

from upshot.reward.features import GROUPS
from upshot.reward.model import Head, RewardModel

_STRONGEST = 8


def card(model: RewardModel) -> str:
    """Markdown: data, accuracy by slice, calibration, what it attends to, known failures, whose data it holds."""
    parts = [
        "# Reward model card", "",
        f"An embedded Bradley-Terry or ordinal model over {len(model.names):,} features"
        f"{', MiniLM embeddings among them' if model.embed else ''}. Figures are cross-fitted: no user, thread or prompt is on both sides.", "",
    ]  # fmt: skip
    for head in model.heads:
        parts += _head(model, head)
    parts += [
        "## Domain", "",
        f"Inputs less familiar than {model.domain.threshold:.2f} are flagged; {model.domain.false_alarms:.0%} of inputs of the training kind are.", "",
        "## Known failures", "",
        "- It reads words and form, not truth: a fluent wrong answer scores like a right one.",
        "- Length, layout and marks are left out of the reward; what correlates with them is not.",
        "- A policy that is trained against it will find what it overrates: watch true outcomes, not the reward.",
        "- Outside its domain the reward means nothing; the flag misses texts that use the domain's words.", "",
        "## Whose data", "",
        f"{len(model.users):,} users (pseudonyms in `model.json`). Erasing one of them means training this model again." if model.users
        else "The rows name no users.", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _head(model: RewardModel, head: Head) -> list[str]:
    rows = "pairs" if head.kind == "pairs" else "scored responses"
    out = [
        f"## Head `{head.name}`", "", f"{head.rows:,} {rows}; calibration error {head.calibration.error:.3f}; estimated label noise {head.calibration.noise:.0%}.",
        "", "| slice | accuracy |", "|---|---|", *(f"| {name} | {share:.3f} |" for name, share in head.accuracy.items()), "",
        "| predicted | was right | rows |", "|---|---|---|", *(f"| {p:.2f} | {share:.2f} | {count} |" for p, share, count in head.calibration.bins), "",
    ]  # fmt: skip
    weight = head.posterior.mean
    narrow = [i for i in range(len(weight)) if GROUPS[model.group[i]] in ("form", "relation", "words")]
    strongest = sorted(narrow, key=lambda i: -abs(float(weight[i])))[:_STRONGEST]
    told = ", ".join(f"{model.names[i]} {weight[i]:+.2f}" for i in strongest)
    return [*out, f"Strongest named features, in logits a standard deviation (`form` is left out of the reward): {told}.", ""]
