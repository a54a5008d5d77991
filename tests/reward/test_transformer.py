"""Transformer reward models, trained for real on the CPU: pairs, ordinal heads, adapters,
ensembles, interruption, recipes.
"""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from transformers import Qwen3Config

import upshot
from upshot import reward
from upshot.errors import ConfigError, InputError, NotFoundError
from upshot.records import Example, Preference, Source, Turn
from upshot.reward import transformer
from upshot.reward.model import LEVELS
from upshot.reward.private import Privacy
from upshot.reward.recipe import Recipe, check, load_recipe, training_arguments
from upshot.reward.restyle import listed

pytestmark = pytest.mark.xdist_group("transformer reward")
RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
WORDS = [
    "sun",
    "moon",
    "tree",
    "river",
    "stone",
    "glass",
    "paper",
    "cloud",
    "bird",
    "road",
    "table",
    "music",
]
TRAINER = {
    "num_train_epochs": 4,
    "per_device_train_batch_size": 16,
    "learning_rate": 3e-3,
    "max_length": 96,
}


def _tiny_model() -> object:
    spec = importlib.util.spec_from_file_location(
        "tiny_model", Path(__file__).parents[1] / "llm" / "tiny_model.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(_tiny_model().save(tmp_path_factory.mktemp("base") / "tiny"))  # type: ignore[attr-defined]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=6)).capitalize() + "."


def answer(good: bool, rng: random.Random) -> tuple[Turn, ...]:
    """Good responses are about gardens, bad ones about numbers; their form is alike."""
    return (Turn("assistant", f"{sentence(rng)} The {'garden' if good else 'number'} is here."),)


def pairs(
    count: int, seed: int = 0, wrong: float = 0.0, wrong_weight: float = 1.0
) -> list[Preference]:
    rng = random.Random(seed)
    rows: list[Preference] = []
    for i in range(count):
        good, bad = answer(True, rng), answer(False, rng)
        turned = rng.random() < wrong
        prompt = (Turn("user", f"tell me about {rng.choice(WORDS)}"),)
        chosen, rejected = (bad, good) if turned else (good, bad)
        rows.append(
            Preference(
                prompt,
                chosen,
                rejected,
                0.0,
                wrong_weight if turned else 1.0,
                Source("test", (f"u{i % 20}",)),
            )
        )
    return rows


def scored(count: int, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    rows: list[Example] = []
    for i in range(count):
        good = rng.random() < 0.5
        score = rng.choice([0.7, 0.9, 1.0]) if good else rng.choice([0.0, 0.1, 0.3])
        rows.append(
            Example(
                (Turn("user", "tell me"),),
                answer(good, rng),
                score,
                1.0,
                Source("test", (f"u{i % 20}",)),
            )
        )
    return rows


def right(model: transformer.Transformer, head: str, rows: int = 60) -> float:
    """Share of new pairs ordered rightly."""
    rng = random.Random(99)
    prompts = [(Turn("user", "tell me about glass"),)] * rows
    good, bad = (
        model.score(prompts, [answer(side, rng) for _ in range(rows)]) for side in (True, False)
    )
    return float(np.mean([a.heads[head] > b.heads[head] for a, b in zip(good, bad, strict=True)]))


def write(rows: list[Preference] | list[Example], path: Path) -> Path:
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def ensemble(
    tiny: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, transformer.Transformer]:
    """Two members of bootstrapped users, two heads: pairs and scores."""
    folder = tmp_path_factory.mktemp("ensemble")
    data = {
        "helpful": write(pairs(160), folder / "pairs.jsonl"),
        "graded": write(scored(160), folder / "scored.jsonl"),
    }
    model = upshot.train_reward(
        data, folder / "model", recipe=Recipe(tiny, members=2, held_out=0.2, trainer=TRAINER)
    )
    assert isinstance(model, transformer.Transformer)
    return folder / "model", model


@pytest.mark.parametrize("head", ["helpful", "graded"])
def test_pairs_and_ordinal_heads_are_learned_together(
    ensemble: tuple[Path, transformer.Transformer], head: str
) -> None:
    _, model = ensemble
    assert right(model, head) > 0.9
    assert next(h for h in model.heads if h.name == head).accuracy["all"] > 0.9
    assert [h.columns for h in model.heads] == [(0,), tuple(range(1, 1 + len(LEVELS)))]


def test_a_saved_model_scores_the_same_and_names_whom_it_learned_from(
    ensemble: tuple[Path, transformer.Transformer], tmp_path: Path
) -> None:
    folder, model = ensemble
    again = reward.load(folder)
    asked, said = [(Turn("user", "tell me about glass"),)], [answer(True, random.Random(1))]
    (one,), (two,) = model.score(asked, said), again.score(asked, said)
    assert one.reward == pytest.approx(two.reward, abs=1e-4)
    assert one.uncertainty is not None
    assert one.uncertainty > 0
    assert one.in_domain is True
    assert again.users == tuple(sorted(f"u{i}" for i in range(20)))
    assert (
        again.score(asked, [(Turn("assistant", "```sql\nDROP TABLE users;\n-- 12345\n```"),)])[
            0
        ].in_domain
        is False
    )
    assert "ensemble of 2" in (folder / "card.md").read_text()
    assert not list(folder.rglob("*.bin"))  # no pickles
    items = tmp_path / "items.jsonl"
    items.write_text(
        json.dumps({"id": 7, "prompt": "tell me", "completion": "The garden is here."})
    )
    assert (
        next(iter(upshot.score(folder, items, weights={"helpful": 1.0, "graded": 0.0})))["id"] == 7
    )


def test_an_adapter_is_trained_and_loaded_on_its_base(tiny: str, tmp_path: Path) -> None:
    recipe = Recipe(tiny, held_out=0.2, trainer=TRAINER, lora={"r": 8, "lora_alpha": 16})
    model = upshot.train_reward(
        {"helpful": write(pairs(160), tmp_path / "p.jsonl")}, tmp_path / "m", recipe=recipe
    )
    assert (tmp_path / "m" / "member-0" / "adapter_config.json").is_file()
    assert right(reward.load(tmp_path / "m"), "helpful") > 0.9  # type: ignore[arg-type]
    assert (
        model.score([(Turn("user", "x"),)], [answer(True, random.Random(0))])[0].uncertainty is None
    )  # one member


def test_a_folder_with_a_configuration_only_is_trained_from_nothing(
    tiny: str, tmp_path: Path
) -> None:
    for path in Path(tiny).iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    model = upshot.train_reward(
        {"helpful": write(pairs(160), tmp_path / "p.jsonl")},
        tmp_path / "m",
        recipe=Recipe(str(tmp_path), held_out=0.2, trainer=TRAINER),
    )
    assert right(model, "helpful") > 0.9  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no weights"):
        check(Recipe(str(tmp_path), lora={}))


def test_rows_without_weight_teach_nothing(tiny: str, tmp_path: Path) -> None:
    rows = pairs(200, wrong=0.6, wrong_weight=1e-6)
    model = upshot.train_reward(
        {"helpful": write(rows, tmp_path / "p.jsonl")},
        tmp_path / "m",
        recipe=Recipe(tiny, held_out=0.2, trainer=TRAINER),
    )
    assert right(model, "helpful") > 0.9  # type: ignore[arg-type]


def test_losses_are_those_of_the_textbook() -> None:
    found = torch.tensor([[1.0, 0.0, 0, 0, 0], [0.0, 2.0, 1.0, -1.0, -2.0], [0.5, 0, 0, 0, 0]])
    batch = {
        "second": torch.tensor([2, -1]),
        "margin": torch.tensor([0.3, 0.5]),
        "head": torch.tensor([0, 1]),
    }
    loss, correct = transformer.row_losses(found, batch, [(0,), (1, 2, 3, 4)])
    assert loss[0].item() == pytest.approx(np.log1p(np.exp(-(1.0 - 0.5 - 0.3))), abs=1e-6)
    above = [1, 1, 0, 0]  # of .2 .4 .6 .8
    expected = np.mean(
        [
            np.log1p(np.exp(-z if y else z))
            for z, y in zip([2.0, 1.0, -1.0, -2.0], above, strict=True)
        ]
    )
    assert loss[1].item() == pytest.approx(expected, abs=1e-6)
    assert correct.tolist() == [1.0, 1.0]


def test_a_taste_for_form_is_taken_out_of_the_reward(tiny: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    text = [" ".join(sentence(rng) for _ in range(3)) for _ in range(160)]
    prompt = (Turn("user", "tell me"),)
    rows = [
        Preference(
            prompt,
            (Turn("assistant", listed(t)),),
            (Turn("assistant", t),),
            0.0,
            1.0,
            Source("test", (f"u{i % 20}",)),
        )
        for i, t in enumerate(text)
    ]
    model = upshot.train_reward(
        {"helpful": write(rows, tmp_path / "p.jsonl")},
        tmp_path / "m",
        recipe=Recipe(tiny, held_out=0.2, trainer=TRAINER),
    )
    assert isinstance(model, transformer.Transformer)
    asked = [prompt] * 40
    as_lists, as_text = [row.chosen for row in rows[:40]], [row.rejected for row in rows[:40]]
    raw = (model.rewards(asked, as_lists) - model.rewards(asked, as_text)).mean()
    assert raw > 1.0
    left = np.mean(
        [
            a.reward - b.reward
            for a, b in zip(model.score(asked, as_lists), model.score(asked, as_text), strict=True)
        ]
    )
    assert abs(left) < 0.2 * raw


def test_a_killed_training_goes_on_and_other_data_is_not_mixed_in(
    tiny: str, tmp_path: Path
) -> None:
    data, out, recipe = write(pairs(120), tmp_path / "p.jsonl"), tmp_path / "m", tmp_path / "r.toml"
    table = "".join(f"{name} = {value}\n" for name, value in TRAINER.items())
    recipe.write_text(f'base = "{tiny}"\nmembers = 2\nheld_out = 0.2\n[trainer]\n{table}')
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "upshot",
            "train",
            "reward",
            str(data),
            "-o",
            str(out),
            "--recipe",
            str(recipe),
        ]
    )
    while not (out / "member-0").is_dir():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "model.json").exists()
    made = (out / "member-0" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(InputError, match="another training was interrupted there"):
        upshot.train_reward({"helpful": data}, out, recipe=Recipe(tiny, held_out=0.3))
    model = upshot.train_reward({"helpful": data}, out, recipe=load_recipe(recipe))
    assert (out / "member-0" / "model.safetensors").stat().st_mtime_ns == made
    assert right(model, "helpful") > 0.9  # type: ignore[arg-type]
    assert not (out / "training").exists()


def test_members_of_a_bootstrap_see_whole_users() -> None:
    items = [transformer.Item(([1],), 0.0, 1.0, 0, f"u{i // 3}") for i in range(30)]
    for seed in range(5):
        seen = [item.owner for item in transformer.resample_owners(items, seed)]
        assert all(seen.count(name) % 3 == 0 for name in set(seen))
        assert len(seen) == 30


@pytest.fixture
def eight_billion(tiny: str, tmp_path: Path) -> str:
    """The shape of an 8 B model, without weights."""
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=4096,
        intermediate_size=12_288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        pad_token_id=0,
    )
    config.save_pretrained(tmp_path / "8b")
    (tmp_path / "8b" / "model.safetensors").touch()  # a base with weights, which are not read
    return str(tmp_path / "8b")


@pytest.mark.parametrize(
    ("name", "trained", "gigabytes"), [("reward-8b-lora", 9e7, 18), ("reward-8b-fsdp", 7.5e9, 106)]
)
def test_shipped_recipes_for_8_b_models_are_valid_without_a_gpu(
    eight_billion: str, name: str, trained: float, gigabytes: float
) -> None:
    size = check(load_recipe(RECIPES / f"{name}.toml", eight_billion))
    assert size.parameters == pytest.approx(7.6e9, rel=0.05)  # without the language model's head
    assert size.trained == pytest.approx(trained, rel=0.2)
    assert size.gigabytes == pytest.approx(gigabytes, rel=0.1)


def test_deepspeed_is_passed_through(tiny: str, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "reward-8b-deepspeed.toml", tiny)
    if importlib.util.find_spec("deepspeed") is None:
        with pytest.raises(ConfigError, match="deepspeed"):
            training_arguments(recipe, tmp_path, 0, use_cpu=True)
    else:
        assert (
            training_arguments(recipe, tmp_path, 0, use_cpu=True).deepspeed["zero_optimization"][
                "stage"
            ]
            == 3
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = 3", "Expected `str`"),
        ('base = "x"\nlayers = 3', "unknown field"),
        ('base = "x"\nmembers = 0', "at least 1"),
        ("base", "Expected '='"),
        ("members = 2", "missing required field"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_reason(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_recipe(tmp_path / "r.toml")


def test_what_libraries_refuse_is_said(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rat"):
        check(Recipe(tiny, trainer={"learning_rat": 1.0}))
    with pytest.raises(ConfigError, match="rank"):
        check(Recipe(tiny, lora={"rank": 8}))
    with pytest.raises(NotFoundError, match="no-such-model"):
        check(Recipe("no-such-model"))
    with pytest.raises(NotFoundError, match="no such file"):
        load_recipe(tmp_path / "none.toml")


def test_a_transformer_is_trained_privately_by_user(tiny: str, tmp_path: Path) -> None:
    rows = [
        msgspec.structs.replace(row, source=Source("test", (f"u{i % 150}",)))
        for i, row in enumerate(pairs(600))
    ]
    trainer = {
        "num_train_epochs": 15,
        "per_device_train_batch_size": 40,
        "learning_rate": 5e-3,
        "max_length": 96,
    }
    model = upshot.train_reward(
        {"helpful": write(rows, tmp_path / "p.jsonl")},
        tmp_path / "m",
        recipe=Recipe(tiny, held_out=0.2, trainer=trainer),
        privacy=Privacy(20.0, 1e-4),
    )
    assert (model.epsilon, model.delta, model.domain) == (20.0, 1e-4, None)
    assert right(reward.load(tmp_path / "m"), "helpful") > 0.7  # type: ignore[arg-type]


def test_a_private_adapter_is_kept_as_it_was_trained(tiny: str, tmp_path: Path) -> None:
    rows = [
        msgspec.structs.replace(row, source=Source("test", (f"u{i % 60}",)))
        for i, row in enumerate(pairs(120))
    ]
    recipe = Recipe(
        tiny, held_out=0.2, trainer={"num_train_epochs": 1, "max_length": 96}, lora={"r": 4}
    )
    made = upshot.train_reward(
        {"helpful": write(rows, tmp_path / "p.jsonl")},
        tmp_path / "m",
        recipe=recipe,
        privacy=Privacy(20.0, 1e-4),
    )
    assert (tmp_path / "m" / "member-0" / "adapter_config.json").is_file()
    asked, said = [(Turn("user", "tell me"),)], [answer(True, random.Random(1))]
    assert reward.load(tmp_path / "m").score(asked, said)[0].reward == pytest.approx(
        made.score(asked, said)[0].reward, abs=1e-4
    )
