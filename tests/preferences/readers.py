# pyright: reportMissingImports=false
# not all of the libraries can be installed at once
"""Exports as trainers' own readers read them: `python readers.py LIBRARY FILE TOKENIZER` prints the
rows as JSON.

Exits with 77 where the library is not installed. The libraries exclude each other's versions of
Transformers, so each may need an environment of its own; see `test_readers.py`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
NOT_INSTALLED = 77


def trl(path: Path, base: str) -> list[str]:
    """RewardTrainer, KTOTrainer and SFTTrainer tokenise the file; by its name."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = Dataset.from_json(str(path), cache_dir=str(path.parent / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    common: dict[str, Any] = {
        "output_dir": str(path.parent / "out"),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "max_length": None,
    }
    if path.stem == "trl":
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        rewards: Any = RewardTrainer(
            model=model, args=RewardConfig(**common), train_dataset=rows, processing_class=tokenizer
        )
        return [
            tokenizer.decode(row[key])
            for row in rewards.train_dataset
            for key in ("chosen_ids", "rejected_ids")
        ]
    if path.stem == "kto":
        from trl.experimental.kto import KTOConfig, KTOTrainer

        trainer: Any = KTOTrainer(
            model=base,
            args=KTOConfig(**common, per_device_train_batch_size=2),
            train_dataset=rows,
            processing_class=tokenizer,
        )
        return [
            tokenizer.decode(
                row["prompt_input_ids"] if "prompt_input_ids" in row else row["prompt_ids"]
            )
            for row in trainer.train_dataset
        ] + [json.dumps(sorted(trainer.train_dataset.column_names))]
    model = AutoModelForCausalLM.from_pretrained(base)
    sft: Any = SFTTrainer(
        model=model, args=SFTConfig(**common), train_dataset=rows, processing_class=tokenizer
    )
    return [tokenizer.decode(row["input_ids"]) for row in sft.train_dataset]


def openrlhf(path: Path, base: str) -> list[str]:
    """`RewardDataset` with `--apply_chat_template`."""
    from datasets import load_dataset
    from openrlhf.datasets import RewardDataset
    from transformers import AutoTokenizer

    rows = load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(path.parent / "cache")
    )
    keys = SimpleNamespace(
        prompt_key=None,
        chosen_key="chosen",
        rejected_key="rejected",
        apply_chat_template=True,
        tokenizer_chat_template=None,
    )
    strategy = SimpleNamespace(args=SimpleNamespace(data=keys))
    dataset = RewardDataset(
        rows, AutoTokenizer.from_pretrained(base), 512, strategy, num_processors=1
    )
    dataset[0]
    return [
        text
        for i in range(len(dataset))
        for text in (
            dataset.prompts[i] + dataset.chosens[i],
            dataset.prompts[i] + dataset.rejects[i],
        )
    ] + [json.dumps(list(dataset.extras))]


def llamafactory(path: Path, base: str) -> list[str]:
    """`get_dataset` at the stage of reward models, from `dataset_info.json`."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    arguments = {
        "model_name_or_path": base,
        "dataset": path.stem,
        "dataset_dir": str(path.parent),
        "template": "qwen",
        "stage": "rm",
        "finetuning_type": "full",
        "do_train": True,
        "output_dir": str(path.parent / "out"),
        "use_cpu": True,
        "report_to": "none",
        "cutoff_len": 512,
    }
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    dataset = get_dataset(template, model_args, data_args, training_args, stage="rm", **module)[
        "train_dataset"
    ]
    return [
        module["tokenizer"].decode(row[key])
        for row in dataset
        for key in ("chosen_input_ids", "rejected_input_ids")
    ]


def verl(path: Path, base: str) -> list[str]:
    """`RLHFDataset`."""
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    config = OmegaConf.create(
        {
            "cache_dir": str(path.parent / "cache"),
            "max_prompt_length": 512,
            "return_raw_chat": True,
            "filter_overlong_prompts_workers": 1,
        }
    )
    dataset = RLHFDataset(str(path), AutoTokenizer.from_pretrained(base), config)
    return [
        json.dumps({key: str(value) for key, value in dataset[i].items()}, ensure_ascii=False)
        for i in range(len(dataset))
    ]


if __name__ == "__main__":
    name, file, tokenizer = sys.argv[1:]
    try:
        __import__(name)
    except ImportError:
        sys.exit(NOT_INSTALLED)
    print("\n" + json.dumps(globals()[name](Path(file), tokenizer)))
