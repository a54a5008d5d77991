"""The model card that is written with a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from upshot.reward.features import GROUPS
from upshot.reward.model import Head, RewardModel

if TYPE_CHECKING:
    from upshot.reward.transformer import Transformer

_STRONGEST = 8


def card(model: RewardModel | Transformer) -> str:
    """Markdown: data, accuracy by slice, calibration, what it attends to, known failures, whose data it holds."""
    embedded = isinstance(model, RewardModel)
    parts = ["# Reward model card", "", _embedded(model) if isinstance(model, RewardModel) else _transformer(model), ""]
    for head in model.heads:
        parts += [*_head(head), *(_strongest(model, head) if isinstance(model, RewardModel) and isinstance(head, Head) else [])]
    parts += ["## Domain", ""]
    parts += [
        f"Inputs less familiar than {model.domain.threshold:.2f} are flagged; {model.domain.false_alarms:.0%} of inputs of the training kind are."
        if model.domain is not None else "None is kept: a picture of what it was trained on would tell whose texts those were.", "",
    ]  # fmt: skip
    if model.epsilon is not None:
        parts += [
            "## Privacy", "",
            f"Differentially private by user: ε = {model.epsilon:g}, δ = {model.delta:g}, for everything in `model.json` and in the weights; the number of users, "
            "rounded, is taken to be public. `users.json` is for erasure and is not covered: do not give it away.", "",
        ]  # fmt: skip
    parts += [
        "## Known failures", "",
        "- It reads words and form, not truth: a fluent wrong answer scores like a right one." if embedded
        else "- It knows what its base knows: a fluent wrong answer on what that does not know scores like a right one.",
        "- Length, layout and marks are left out of the reward; what correlates with them is not.",
        "- A policy that is trained against it will find what it overrates: watch true outcomes, not the reward.",
        "- Outside its domain the reward means nothing; the flag misses texts that use the domain's words.", "",
        "## Whose data", "",
        f"{len(model.users):,} users (pseudonyms in `users.json`). Erasing one of them means training this model again." if model.users
        else "The rows name no users.", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _embedded(model: RewardModel) -> str:
    figures = "Figures are of users who were held out, with noise." if model.epsilon is not None else "Figures are cross-fitted: no user, thread or prompt is on both sides."
    return f"An embedded Bradley-Terry or ordinal model over {len(model.names):,} features{', MiniLM embeddings among them' if model.embed else ''}. {figures}"


def _transformer(model: Transformer) -> str:
    members = f"an ensemble of {len(model.members)}" if len(model.members) > 1 else "one model, which does not know its own uncertainty"
    return f"A transformer from `{model.base}`, {members}. Figures are of users who were held out."


def _head(head: Any) -> Sequence[str]:
    rows = "pairs" if head.kind == "pairs" else "scored responses"
    return [
        f"## Head `{head.name}`", "", f"{head.rows:,} {rows}; calibration error {head.calibration.error:.3f}; estimated label noise {head.calibration.noise:.0%}.",
        "", "| slice | accuracy |", "|---|---|", *(f"| {name} | {share:.3f} |" for name, share in head.accuracy.items()), "",
        "| predicted | was right | rows |", "|---|---|---|", *(f"| {p:.2f} | {share:.2f} | {count} |" for p, share, count in head.calibration.bins), "",
    ]  # fmt: skip


def _strongest(model: RewardModel, head: Head) -> Sequence[str]:
    weight = head.posterior.mean
    narrow = [i for i in range(len(weight)) if GROUPS[model.group[i]] in ("form", "relation", "words")]
    strongest = sorted(narrow, key=lambda i: -abs(float(weight[i])))[:_STRONGEST]
    told = ", ".join(f"{model.names[i]} {weight[i]:+.2f}" for i in strongest)
    return [f"Strongest named features, in logits a standard deviation (`form` is left out of the reward): {told}.", ""]
