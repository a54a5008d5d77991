"""Tasks on a Ray cluster: inputs are read and outputs committed inside the task, so that a bucket's
number and a count of rows are all that travels.

Whoever reaches the ports of a cluster without authentication can run code on it (CVE-2023-48022,
CVE-2026-27482), and Ray listens on every address. So nothing is sent to one that does not ask for a
token, or that is older than the version that asks everywhere.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false
# Ray's functions are typed in part.

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import ray
import ray.exceptions

from upshot.engine.executor import Result, Task
from upshot.errors import ConfigError, UpshotError
from upshot.io.arrow import system_memory

MIN_VERSION = (2, 54)
"""The first in which every service of a cluster asks for the token."""
_WAITING = 2
"""Tasks handed out for each processor, so that none waits for the next one."""
_RETRIES = 3
"""Of a task whose worker or machine died. Its commit carries a transaction, so what it had written
is not written again."""
_PROBE_S = 30
"""Until a cluster that gives no answer to someone without a token counts as closed; one that is
open answers in two seconds."""
_PROBE = """
import sys
from ray._raylet import GcsClient
print("open", len(GcsClient(address=sys.argv[1]).get_all_node_info()))
"""


class Ray:
    """Runs tasks on the Ray cluster at an address (`host:port`; `auto`: the one of this machine).

    `token_file` holds the cluster's token; None: where Ray looks for it by itself. The lake must be
    in the same place for all machines, and Upshot of the same version on each.

    Raises:
        ConfigError: Ray is too old or `RAY_AUTH_MODE` is not `token`; the cluster cannot be
            reached, or lets in who has no token.
    """

    def __init__(self, address: str, token_file: Path | None = None) -> None:
        _check_version(ray.__version__)
        _check_token(token_file)
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise ConfigError(
                    f"could not reach the Ray cluster at {address}: {_shorten(error)}; check"
                    " engine.address and the token, and that it runs (`ray status`)"
                ) from error
        _check_closed(ray.get_runtime_context().gcs_address)
        self._version = version("upshot-ai")
        self._call: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results as they come; no more tasks are taken than the cluster can begin soon.

        Raises:
            UpshotError: a task failed, or its worker died again and again.
        """
        flying: list[Any] = []
        rest = iter(tasks)
        try:
            while True:
                limit = _WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
                for task in rest:
                    flying.append(self._call.remote(self._version, function, task))
                    if len(flying) >= limit:
                        break
                if not flying:
                    return
                finished, flying = ray.wait(flying)
                yield from map(_read_result, finished)
        finally:
            if flying:  # what is in flight ends; nothing new begins
                ray.wait(flying, num_returns=len(flying))


def _call(wanted: str, function: Callable[[Any], Any], task: Any) -> Any:
    installed = version("upshot-ai")
    if installed != wanted:
        raise ConfigError(
            f"could not run on a worker of the cluster: it has Upshot {installed}, and this machine"
            f" {wanted}; install the same version on all"
        )
    with system_memory():
        return function(task)


def _read_result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = cast(BaseException, error.cause)
        raise cause from error
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    ) as error:
        raise UpshotError(
            f"workers of the cluster died, {1 + _RETRIES} times on one task:"
            f" {_shorten(error)}; what they had not committed is not done; run it again"
        ) from error


def _check_version(installed: str) -> None:
    """
    >>> _check_version("2.9.3")
    Traceback (most recent call last):
    ...
    upshot.errors.ConfigError: could not use Ray 2.9.3: it is older than 2.54, the first version in
    which a whole cluster asks for a token; pip install 'upshot-ai[ray]'
    """
    parts = installed.split(".")
    if (int(parts[0]), int(parts[1])) < MIN_VERSION:
        raise ConfigError(
            f"could not use Ray {installed}: it is older than {'.'.join(map(str, MIN_VERSION))},"
            " the first version in which a whole cluster asks for a token;"
            " pip install 'upshot-ai[ray]'"
        )


def _check_token(token_file: Path | None) -> None:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise ConfigError(
            "could not use a Ray cluster without authentication, since anyone who reaches its ports"
            " could run code on it: set RAY_AUTH_MODE=token here and on every machine of the"
            " cluster"
        )
    if token_file is None:
        return
    if not token_file.is_file():
        raise ConfigError(
            f"could not read the token of the Ray cluster: engine.token_file, {token_file}, is not"
            " a file"
        )
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file.resolve())


def _check_closed(address: str) -> None:
    """Knock without a token, from another process, since one process has one way in."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")
    }
    command = [sys.executable, "-c", _PROBE, address]
    try:
        probe = subprocess.run(  # noqa: S603  # our own program
            command,
            env={**environment, "RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return
    if probe.returncode == 0 and "open" in probe.stdout:
        ray.shutdown()
        raise ConfigError(
            f"could not use the Ray cluster at {address}: it lets in who has no token; start every"
            " machine of it with RAY_AUTH_MODE=token"
        )


def _shorten(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
