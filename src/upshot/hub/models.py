# transformers has no full types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
"""Opening base models: configuration, tokenizer, weights.

`trust_remote_code` is always passed on, so that a model's own code runs only where the caller says
so, and Transformers never asks on the terminal.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from upshot.errors import ConfigError, NotFoundError
from upshot.hub.trainers import quiet


@contextmanager
def explain_failure(attempt: str, kind: type[ConfigError | NotFoundError]) -> Generator[None]:
    """Turn what Transformers raises while loading into one of our errors.

    Raises:
        ConfigError: the model holds code of its own, which nobody allowed to run.
    """
    try:
        yield
    except (ConfigError, NotFoundError):
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise ConfigError(
                f"could not {attempt}: it holds code of its own; read that code and pass"
                " --trust-remote-code to run it"
            ) from error
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise kind(f"could not {attempt}: {reason}") from error


def open_config(base: str, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a base.

    Raises:
        NotFoundError: it does not exist or cannot be read.
        ConfigError: it holds code of its own, which may not run.
    """
    with explain_failure(f"find the base model {base!r}", NotFoundError):
        return AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)


def open_tokenizer(
    base: str, *, needs_template: bool = True, trust_remote_code: bool = False
) -> Any:
    """A tokenizer with a padding token and, unless `needs_template` is off, a chat template.

    Raises:
        ConfigError: it cannot be opened, or has no chat template.
    """
    with explain_failure(f"open the tokenizer of {base!r}", ConfigError):
        tokenizer: Any = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if needs_template and tokenizer.chat_template is None:
        raise ConfigError(
            f"could not use {base!r} as a policy: its tokenizer has no chat template; name an"
            " instruction-tuned model"
        )
    return tokenizer


@quiet()
def open_policy(base: str, *, trust_remote_code: bool = False, **init: Any) -> Any:
    """A causal language model, whole or an adapter on its base, in evaluation mode.

    Raises:
        NotFoundError: the folder does not exist.
        ConfigError: it cannot be loaded.
    """
    if not Path(base).is_dir() and Path(base).is_absolute():
        raise NotFoundError(f"could not open the policy {base}: there is no such folder")
    options = {"dtype": "float32", **init, "trust_remote_code": trust_remote_code}
    with explain_failure(f"open the policy {base}", ConfigError):
        model: Any = AutoModelForCausalLM.from_pretrained(base, **options)
    return to_device(model).eval()


def to_device(model: Any) -> Any:
    """A model on the GPU where there is one."""
    return model.to("cuda" if torch.cuda.is_available() else "cpu")
