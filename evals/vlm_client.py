"""One question about images to an OpenAI-compatible endpoint (`POST <base>/chat/completions`): yes or no, how probable?

Temperature 0; the log-probabilities of the answer's first token where the server gives them. The API's fields follow
https://platform.openai.com/docs/api-reference/chat as vLLM, SGLang, llama.cpp, Ollama and others serve them too.
"""

from __future__ import annotations

import base64
import json
import math
import os
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException
from typing import Any

from wfm_sim.errors import UserError

KEY_VARIABLE = "WFM_SIM_JUDGE_API_KEY"
OPENAI_KEY_VARIABLE, OPENAI_HOST = "OPENAI_API_KEY", "api.openai.com"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_ANSWER_BYTES = 1_000_000
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever a server asks for


@dataclass
class ChatClient:
    """An endpoint and a model behind it. Threads may share one.

    Attributes:
        url: Its base, e.g. http://127.0.0.1:8000/v1.
        model: As the endpoint calls it.
        timeout: Seconds for one attempt.
        attempts: How often a request is tried where the network or the server fails (429, 5xx).
        backoff: Seconds before the second attempt; doubled before each further one.
    """

    url: str
    model: str
    timeout: float = 60.0
    attempts: int = 5
    backoff: float = 0.5
    _leave_out: frozenset[str] = field(default=frozenset(), repr=False)  # optional fields that this server refused

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UserError(
                f"{_without_password(self.url)!r} is no address of an endpoint: http://HOST:PORT/v1 or https://...; "
                f"an API key goes into the environment variable {KEY_VARIABLE}"
            )
        self.url = self.url.rstrip("/")
        if self._key() and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise UserError(
                f"the API key in {KEY_VARIABLE} would travel to {parts.hostname} for all to read; use https, or a "
                "tunnel to localhost, or unset the variable if that server asks for no key"
            )

    def yes_or_no(self, system: str, text: str, images: Sequence[tuple[str, bytes]]) -> float:
        """Ask.

        Args:
            system, text: The prompt.
            images: (what it is, PNG bytes), in order; they come after the text.

        Returns:
            The probability of yes in [0, 1]: of the first token, where the server gives log-probabilities, else 0 or 1.

        Raises:
            UserError: no connection after all attempts, a refusal, or an answer that is neither yes nor no.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        for name, png in images:
            data = base64.b64encode(png).decode()
            content.append({"type": "text", "text": name})
            content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
        messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
        return read_answer(self._ask({"model": self.model, "messages": messages, "temperature": 0}), self.model)

    def _ask(self, fixed: Mapping[str, Any]) -> dict[str, Any]:
        optional = {"logprobs": True, "top_logprobs": 10, "max_tokens": 8}
        for _ in range(len(optional) + 1):
            body = {**fixed, **{k: v for k, v in optional.items() if k not in self._leave_out}}
            if "max_tokens" in self._leave_out:  # the newer name of the same thing
                body["max_completion_tokens"] = optional["max_tokens"]
            try:
                return self._send(body)
            except _RefusalError as refusal:
                # Not every server knows every field: the one that it complains of is left out from now on.
                named = [k for k in optional if k in refusal.said and k not in self._leave_out]
                if refusal.status not in (400, 422) or not named:
                    raise UserError(self._refusal(refusal)) from None
                self._leave_out |= {"logprobs", "top_logprobs"} if "logprobs" in named[0] else {named[0]}
        raise UserError(f"{self.url} refused every form of the request")  # pragma: no cover - a field is left out once

    def _send(self, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "User-Agent": "wfm-sim"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        data = json.dumps(body).encode()
        asked_for, reason = 0.0, ""
        for attempt in range(max(1, self.attempts)):
            if attempt:
                wait = max(self.backoff * 2 ** (attempt - 1), asked_for)
                time.sleep(min(wait, LONGEST_WAIT) * (1 + 0.1 * random.random()))
            request = urllib.request.Request(f"{self.url}/chat/completions", data, headers)
            try:
                with _opener(self.url).open(request, timeout=self.timeout) as response:
                    raw = response.read(MAX_ANSWER_BYTES + 1)
            except urllib.error.HTTPError as error:
                said = _said(error)
                if error.code != 429 and error.code < 500:
                    raise _RefusalError(error.code, said) from None
                reason, asked_for = f"{error.code} {said}", _retry_after(error.headers)
                continue
            except (urllib.error.URLError, HTTPException, TimeoutError, OSError) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
                continue
            return self._parse(raw)
        raise UserError(f"no answer from {self.url} after {max(1, self.attempts)} attempts: {reason.strip()}")

    def _parse(self, raw: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(raw) if len(raw) <= MAX_ANSWER_BYTES else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UserError(f"{self.url} answered with something else than JSON; is it an OpenAI-compatible endpoint?")
        return answer

    def _key(self) -> str:
        key = os.environ.get(KEY_VARIABLE, "")
        if not key and urllib.parse.urlsplit(self.url).hostname == OPENAI_HOST:
            key = os.environ.get(OPENAI_KEY_VARIABLE, "")
        return key.strip()

    def _refusal(self, refusal: _RefusalError) -> str:
        hint = ""
        if refusal.status in (401, 403):
            hint = f"; the API key is taken from the environment variable {KEY_VARIABLE}"
        elif refusal.status == 404:
            hint = f"; is {self.model!r} a model of this endpoint, and does its address end as in http://HOST:PORT/v1?"
        return f"{self.url} refused the request ({refusal.status} {refusal.said.strip()}){hint}"


def read_answer(answer: Mapping[str, Any], model: str) -> float:
    """The probability of yes in a chat completion.

    Raises:
        UserError: it says neither yes nor no.
    """
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        assert isinstance(text, str)
    except (KeyError, IndexError, TypeError, AssertionError):
        raise UserError(f"{model!r} answered without a text, where yes or no was asked") from None
    said = _yes(text)
    if said is None:
        raise UserError(f"{model!r} answered {text.strip()[:80]!r}, where yes or no was asked")
    probability = _first_token(choice)
    # The token and the text may differ, e.g. where the text is JSON: then the text counts.
    return float(said) if probability is None or (probability > 0.5) != said else probability


def _yes(text: str) -> bool | None:
    """Whether a text says yes, as its first word or as {"success": ...}; None where it says neither."""
    text = text.split("</think>")[-1].strip().strip("`")
    found = re.match(r"(?:json)?\s*(\{.*\})\s*$", text, re.DOTALL)
    if found:
        try:
            values = list(json.loads(found[1]).values())
        except ValueError:
            return None
        if len(values) != 1:
            return None
        text = {True: "yes", False: "no"}.get(values[0], "") if isinstance(values[0], bool) else str(values[0])
    word = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
    return None if word is None else word[1].lower() == "yes"


def _first_token(choice: Mapping[str, Any]) -> float | None:
    """P(yes) / (P(yes) + P(no)) of the first token; None where the server does not say."""
    try:
        candidates = choice["logprobs"]["content"][0]["top_logprobs"]
        mass = {"yes": 0.0, "no": 0.0}
        for candidate in candidates:
            word = str(candidate["token"]).strip(" \n\t\"'.▁Ġ").lower()
            if word in mass:
                mass[word] += math.exp(float(candidate["logprob"]))
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return None
    total = sum(mass.values())
    return mass["yes"] / total if total > 0 and math.isfinite(total) else None


class _RefusalError(Exception):
    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the API key to whomever it names."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """A server on this machine is reached directly, any other through the proxy that the environment names."""
    here = urllib.parse.urlsplit(url).hostname in LOOPBACK
    return urllib.request.build_opener(_NoRedirect, *([urllib.request.ProxyHandler({})] if here else []))


def _said(error: urllib.error.HTTPError) -> str:
    """What the server says of an error, in at most 200 characters."""
    try:
        text = error.read(20_000).decode(errors="replace")
    except OSError:
        return ""
    try:
        content = json.loads(text)
        found = content.get("error", content.get("message", content.get("detail", text)))
        text = str(found.get("message", found) if isinstance(found, dict) else found)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:200]


def _retry_after(headers: Message | None) -> float:
    try:
        return 0.0 if headers is None else max(0.0, float(headers.get("Retry-After") or 0))
    except ValueError:
        return 0.0


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", url)
