"""A model's own code runs only where the caller allows it: a recipe or a folder never can."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from upshot import reward
from upshot.errors import ConfigError
from upshot.hub.models import open_config, open_policy, open_tokenizer
from upshot.hub.sampling import Drawing, open_sampler
from upshot.policy.data import make_data
from upshot.policy.recipe import Draw, Recipe, load_recipe
from upshot.policy.train import check, train
from upshot.records import Example, Preference, Source, Turn
from upshot.reward import recipe as reward_recipe
from upshot.reward import transformer
from upshot.reward.files import save_transformer

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries deprecate each other's arguments
ASK, SAY = (Turn("user", "how did it go?"),), (Turn("assistant", "that worked"),)
QUICK = {"max_steps": 1, "save_strategy": "no"}


def add_code(base: str, folder: Path, model_type: str) -> Path:
    """A copy of a base with code of its own, which writes a file beside the copy when it runs."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = model_type
    config["auto_map"] = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnModel",
        "AutoModelForSequenceClassification": "modeling_own.OwnScorer",
    }
    (folder / "config.json").write_text(json.dumps(config))
    mark = f"import pathlib\npathlib.Path({str(mark_of(folder))!r}).write_text('it ran')\n"
    (folder / "configuration_own.py").write_text(
        f"{mark}from transformers import Qwen3Config\n"
        f"class OwnConfig(Qwen3Config):\n    model_type = {model_type!r}\n"
    )
    (folder / "modeling_own.py").write_text(
        f"{mark}from transformers import Qwen3ForCausalLM, Qwen3Model\n"
        "from torch.nn import Linear\n"
        "from transformers import Qwen3ForSequenceClassification, Qwen3PreTrainedModel\n"
        "from .configuration_own import OwnConfig\n"
        "class OwnModel(Qwen3ForCausalLM):\n    config_class = OwnConfig\n"
        "class OwnScorer(Qwen3ForSequenceClassification):\n"
        "    config_class = OwnConfig\n"
        "    def __init__(self, config):\n"
        "        Qwen3PreTrainedModel.__init__(self, config)\n"
        "        self.num_labels = config.num_labels\n"
        "        self.model = Qwen3Model(config)\n"
        "        self.score = Linear(config.hidden_size, config.num_labels, bias=False)\n"
        "        self.post_init()\n"
    )
    return folder


def mark_of(folder: Path) -> Path:
    return folder.with_suffix(".ran")


def examples() -> list[Example]:
    return [Example(ASK, SAY, 1.0, 1.0, Source("test", (f"u{n}",))) for n in range(8)]


def pairs() -> list[Preference]:
    bad = (Turn("assistant", "it still crashes"),)
    return [Preference(ASK, SAY, bad, 0.0, 1.0, Source("test", (f"u{n}",))) for n in range(24)]


def test_code_of_a_base_does_not_run_unasked(base: str, tmp_path: Path) -> None:
    folder = add_code(base, tmp_path / "own", "own")
    recipe = Recipe(str(folder), "sft", trainer=QUICK, draw=Draw(4))
    scorer = reward_recipe.Recipe(str(folder), trainer={"max_steps": 1, "max_length": 32})
    for refused in (
        lambda: open_config(str(folder)),
        lambda: open_policy(str(folder)),
        lambda: open_sampler(str(folder)),
        lambda: check(recipe),
        lambda: train(recipe, make_data(examples()), tmp_path / "policy"),
        lambda: reward_recipe.check(scorer),
        lambda: transformer.train({"helpful": pairs()}, scorer, tmp_path / "reward"),
    ):
        with pytest.raises(ConfigError, match="--trust-remote-code"):
            refused()
    assert not mark_of(folder).exists()


def test_code_of_a_base_runs_where_the_caller_allows_it(base: str, tmp_path: Path) -> None:
    folder = add_code(base, tmp_path / "own", "own")
    recipe = Recipe(str(folder), "sft", trainer=QUICK, draw=Draw(4))
    data = make_data(examples())
    trained = train(recipe, data, tmp_path / "policy", trust_remote_code=True)
    assert trained.steps == 1
    assert mark_of(folder).exists()
    assert "trust_remote_code" not in (tmp_path / "policy" / "policy.json").read_text()
    sampler = open_sampler(str(tmp_path / "policy"), trust_remote_code=True)
    assert len(sampler([ASK], Drawing(2))) == 1
    with pytest.raises(ConfigError, match="--trust-remote-code"):
        open_policy(str(tmp_path / "policy"))


def test_a_base_that_transformers_knows_is_opened_without_its_code(
    base: str, tmp_path: Path
) -> None:
    folder = add_code(base, tmp_path / "known", "qwen3")
    open_policy(str(folder))
    open_tokenizer(str(folder))
    assert not mark_of(folder).exists()


def test_a_reward_model_with_code_is_loaded_only_where_the_caller_allows_it(
    base: str, tmp_path: Path
) -> None:
    folder, out = add_code(base, tmp_path / "own", "own"), tmp_path / "reward"
    recipe = reward_recipe.Recipe(str(folder), trainer={"max_steps": 1, "max_length": 32})
    model = transformer.train({"helpful": pairs()}, recipe, out, trust_remote_code=True)
    save_transformer(model, recipe, out)
    mark_of(folder).unlink()
    with pytest.raises(ConfigError, match="--trust-remote-code"):
        reward.load(out)
    assert not mark_of(folder).exists()
    assert reward.load(out, trust_remote_code=True).score([ASK], [SAY])


@pytest.mark.parametrize("table", ["[init]", "[trainer]", "[lora]", "[trainer.model_init_kwargs]"])
def test_a_recipe_cannot_allow_code(tmp_path: Path, table: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'base = "x"\nmethod = "sft"\n{table}\ntrust_remote_code = true\n')
    with pytest.raises(ConfigError, match="--trust-remote-code"):
        load_recipe(path)
    path.write_text(f'base = "x"\n{table}\ntrust_remote_code = true\n')
    with pytest.raises(ConfigError, match="--trust-remote-code"):
        reward_recipe.load_recipe(path)


def test_a_stored_recipe_cannot_allow_code(base: str, tmp_path: Path) -> None:
    recipe = reward_recipe.Recipe(base, trainer={"max_steps": 1, "max_length": 32})
    model = transformer.train({"helpful": pairs()}, recipe, tmp_path / "m")
    save_transformer(model, recipe, tmp_path / "m")
    stored = json.loads((tmp_path / "m" / "model.json").read_text())
    assert "trust_remote_code" not in stored["recipe"]["init"]
    stored["recipe"]["init"]["trust_remote_code"] = True
    (tmp_path / "m" / "model.json").write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match="--trust-remote-code"):
        reward.load(tmp_path / "m")
