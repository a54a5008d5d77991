"""The endpoint of a language model, and its prices."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from upshot.errors import ConfigError


class Endpoint(msgspec.Struct, frozen=True):
    """An OpenAI-compatible server: hosted, vLLM, or on this machine."""

    base_url: str
    """Up to and including the version: `http://localhost:8000/v1`."""
    model: str
    key: str = ""
    """Sent as a bearer token if it is not empty."""
    concurrency: int = 16
    """Requests in flight."""
    timeout_s: float = 120.0
    """For one attempt, from sending to the last byte."""
    attempts: int = 6
    """Attempts of one request, the first one included."""
    backoff_s: float = 1.0
    """Wait before the second attempt; doubles each time, up to a minute, less a random part."""
    usd_in: float = 0.0
    """Price per million prompt tokens."""
    usd_cached: float | None = None
    """Price per million prompt tokens in the server's prefix cache; None: the full price."""
    usd_out: float = 0.0
    """Price per million completion tokens."""

    stream: bool = False
    """Receive answers as server-sent events, for gateways that close idle connections."""

    def url(self, path: str) -> str:
        """The address of a call, for instance `chat/completions`.

        >>> Endpoint("http://localhost/v1/chat/completions", "m").url("batches")
        'http://localhost/v1/batches'
        """
        base = self.base_url.strip().rstrip("/").removesuffix("/chat/completions")
        return f"{base}/{path}"

    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        key = self.key.strip()  # a file of a key ends in a newline
        bearer = {"Authorization": f"Bearer {key}"} if key else {}
        return {"Content-Type": "application/json", **bearer}

    def check(self) -> Endpoint:
        """This endpoint, if it is complete.

        >>> Endpoint("localhost:8000", "m").check()
        Traceback (most recent call last):
        ...
        upshot.errors.ConfigError: could not use the endpoint 'localhost:8000': write a whole
        address such as http://localhost:8000/v1
        """
        if not self.model or not self.base_url:
            raise ConfigError(
                "could not find the language model: name its endpoint and model with --base-url and"
                " --model, `[llm]` in the settings file, or UPSHOT_LLM__BASE_URL and"
                " UPSHOT_LLM__MODEL"
            )
        if not _is_address(self.base_url.strip()):
            raise ConfigError(
                f"could not use the endpoint {self.base_url!r}: write a whole address such as"
                " http://localhost:8000/v1"
            )
        if not self.key.strip().isprintable() or not self.key.isascii():
            raise ConfigError(
                "could not use the key of the endpoint: it holds characters that a key cannot have;"
                " set UPSHOT_LLM__KEY anew"
            )
        return self


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
