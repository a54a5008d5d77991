# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false
# for torch and transformers
"""A tiny policy that is mediocre at a world: Qwen3 in small, trained from nothing on what mediocre
assistants did there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    get_cosine_schedule_with_warmup,
    set_seed,
)

from upshot.hub.loss_masks import Tokens, weigh_turns
from upshot.hub.trainers import quiet
from upshot.records import Turn
from upshot.worlds.people import Dials, Person
from upshot.worlds.phrases import Phrases
from upshot.worlds.world import Task, World

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if"
    " add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
_RETRY_SHARE = 0.35
"""Share of the answers that something followed, to which the same request is put again with what
followed: so a policy learns to read feedback.
"""
_BATCH = 64
_WORDS = [
    "please",
    "can",
    "you",
    "I",
    "need",
    "something",
    "for",
    "my",
    "work",
    "today",
    "and",
    "it",
    "should",
    "be",
    "quick",
    "hi",
    "there",
    "thanks",
    "in",
    "advance",
    "so",
    "that",
    "we",
    "have",
    "it",
    "here",
    "now",
]


def demonstrations(
    world: World, phrases: Phrases, count: int, skill: float, seed: int = 0
) -> list[list[Turn]]:
    """Conversations of a mediocre assistant with people; told what was wrong, it does better."""
    crowd = [_make_learner(world, phrases, f"{seed}/{number}") for number in range(count)]
    retries: list[list[Turn]] = []
    while waiting := [person for person in crowd if person.waiting]:
        for person in waiting:
            _attempt(world, person, skill)
        for person, attempt in zip(
            waiting, world.judge([(person.task, person.moves) for person in waiting]), strict=True
        ):
            before, moves, task, session = (
                person.prompt,
                list(person.moves),
                person.task,
                len(person.sessions) - 1,
            )
            person.react(attempt)
            if (
                reaction := _reaction_to(person, session, len(before))
            ) and person.random.random() < _RETRY_SHARE:
                second_attempt = (
                    moves
                    if attempt.ok
                    else _different_attempt(world, task, moves, person.random, skill)
                )
                request = next(
                    turn.content
                    for turn in reversed(before[: len(before) - len(moves)])
                    if turn.role == "user"
                )
                retries.append([*before, Turn("user", f"{reaction}\n\n{request}"), *second_attempt])
    out = [
        [Turn(m.role, m.text) for m in session]
        for person in crowd
        for session in person.sessions
        if any(m.role == "assistant" for m in session)
    ]
    return [
        _pad_request(turns, Random(f"loose/{seed}/{number}"))
        for number, turns in enumerate(out[: count - len(retries)])
    ] + retries


def _attempt(world: World, person: Person, skill: float) -> None:
    for turn in world.demonstrate(
        person.task, person.random, _improved_skill(skill, person.attempts)
    ):
        person.hear("tool" if turn.role == "tool" else "assistant", turn.content)


def _improved_skill(skill: float, attempts: int) -> float:
    return 1 - (1 - skill) * 0.45**attempts


def _reaction_to(person: Person, session: int, place: int) -> str:
    """What the person wrote next in that session."""
    messages = person.sessions[session]
    return messages[place].text if place < len(messages) and messages[place].role == "user" else ""


def _different_attempt(
    world: World, task: Task, moves: list[Turn], random: Random, skill: float
) -> list[Turn]:
    """Asked once more after a failure, nobody gives the same answer."""
    attempt = moves
    for _ in range(20):
        attempt = world.demonstrate(task, random, _improved_skill(skill, 1))
        if [turn.content for turn in attempt] != [turn.content for turn in moves]:
            break
    return attempt


def _make_learner(world: World, phrases: Phrases, name: str) -> Person:
    random = Random(f"demonstrations/{name}")
    return Person(
        name,
        world,
        phrases,
        Dials(typos=random.choice([0, 0, 0.01, 0.02]), silence=0.1),
        random=random,
    )


def _pad_request(turns: list[Turn], random: Random) -> list[Turn]:
    """Now and then other words around the first request, so that no phrasing is needed to
    understand it.
    """
    if random.random() < 0.5 or turns[0].role != "user":
        return turns
    some = [" ".join(random.sample(_WORDS, random.randrange(5))) for _ in range(2)]
    return [Turn("user", f"{some[0]} {turns[0].content} {some[1]}".strip()), *turns[1:]]


def train_tokenizer(texts: Sequence[str], size: int = 700) -> Any:
    """A byte-level tokenizer trained on the spot."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_SPECIAL[0],
        pad_token=_SPECIAL[0],
        chat_template=TEMPLATE,
    )


def make(
    world: World,
    phrases: Phrases,
    folder: Path,
    skill: float = 0.4,
    *,
    conversations: int = 12_000,
    steps: int = 400,
    hidden: int = 128,
    layers: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train the policy and write it to a folder, as any Hugging Face model."""
    conversations_shown = demonstrations(world, phrases, conversations, skill, seed)
    tokenizer = train_tokenizer(
        [turn.content for turns in conversations_shown[:2_000] for turn in turns]
    )
    set_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=hidden // 4,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    rows = [weigh_turns(tokenizer, turns, [1.0] * len(turns), 384) for turns in conversations_shown]
    _train_steps(model, rows, tokenizer.pad_token_id, steps=steps, seed=seed, progress=progress)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _train_steps(
    model: Any,
    rows: Sequence[Tokens],
    pad: int,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> None:
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    order = np.argsort([len(row.ids) for row in rows], kind="stable")
    for step in range(steps):
        start = int(rng.integers(max(1, len(rows) - _BATCH)))  # rows of like length share a batch
        batch = [rows[i] for i in order[start : start + _BATCH]]
        width = max(len(row.ids) for row in batch)
        ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in batch])
        attended = torch.tensor(
            [[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in batch]
        )
        weights = torch.tensor([row.weight + [0.0] * (width - len(row.ids)) for row in batch])
        logits = model(input_ids=ids, attention_mask=attended, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, 1:], reduction="none"
        )
        loss = (loss * weights[:, 1:]).sum() / weights[:, 1:].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress(step + 1, steps)
    model.eval()
