from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from .exact_judge import ExactJudge
from .read_reply import verdict_in
from .verdict import Answered, Verdict

RUBRIC = (
    "You grade short answers to questions about a video with sound. Compare the predicted answer with the true one by "
    "meaning, not by wording. It is right if both name the same thing: a synonym, a more general or a more special "
    "term, a part for the whole or the whole for a part, or a shorter form that keeps the point. It is wrong if it "
    "contradicts the true answer, names something else or does not answer. Reply with one JSON object and nothing "
    'else: {"score": whole number from 1 (wrong) to 5 (the same), "pred": "yes" or "no", "reason": one short sentence}.'
)


class EndpointJudge:
    """A language model behind an OpenAI-compatible endpoint judges; equal answers are right without asking it.

    Args:
        url: Base address, e.g. ``http://localhost:8000/v1``; ``/chat/completions`` is added.
        model: Name of the model there.
        key: Name of the environment variable that holds the key; nothing is sent where it is not set.
        cache: File of verdicts, one JSON object a line, so that nothing is asked twice; none by default.
        temperature: Of the model.
        tries: Calls for one answer before giving up on it.
        pause: Seconds before a further try.
        timeout: Seconds to wait for a reply.

    Raises:
        ValueError: The address is none.

    Example:
        >>> EndpointJudge("http://localhost:8000/v1", "judge")(Answered("7", "Where?", "street", "Street")).reason
        'equal'
        >>> EndpointJudge("localhost:8000", "judge")
        Traceback (most recent call last):
        ...
        ValueError: the judge's address must begin with http:// or https://, got 'localhost:8000'
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str = "AVQACL_JUDGE_KEY",
        cache: str | Path | None = None,
        temperature: float = 0.01,
        tries: int = 3,
        pause: float = 1.0,
        timeout: float = 60.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the judge's address must begin with http:// or https://, got {url!r}")
        self.url, self.model, self.key = f"{url.rstrip('/')}/chat/completions", model, key
        self.temperature, self.tries, self.pause, self.timeout = temperature, tries, pause, timeout
        self.cache = Path(cache) if cache else None
        self.known = dict(_lines(self.cache)) if self.cache else {}

    def __call__(self, answered: Answered) -> Verdict | None:
        """Judge one answer; ``None`` where the endpoint gave no verdict."""
        equal = ExactJudge()(answered)
        if equal.pred == "yes":
            return equal
        asked = (self.model, answered.question, answered.answer, answered.predicted)
        if asked not in self.known and (verdict := self._ask(answered)):
            self.known[asked] = verdict
            self._keep(asked, verdict)
        return self.known.get(asked)

    def _ask(self, answered: Answered) -> Verdict | None:
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.pause)
            try:
                if verdict := verdict_in(self._reply(answered)):
                    return verdict
            except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404):
                    raise ValueError(f"{self.url}: HTTP {error.code}; check address, model and ${self.key}") from None
        return None

    def _reply(self, answered: Answered) -> str:
        told = f"Question: {answered.question}\nTrue answer: {answered.answer}\nPredicted answer: {answered.predicted}"
        messages = [{"role": "system", "content": RUBRIC}, {"role": "user", "content": told}]
        content = {"model": self.model, "temperature": self.temperature, "messages": messages}
        headers = {"Content-Type": "application/json"}
        if secret := os.environ.get(self.key):
            headers["Authorization"] = f"Bearer {secret}"
        request = urllib.request.Request(self.url, json.dumps(content).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as reply:
            return json.load(reply)["choices"][0]["message"]["content"]

    def _keep(self, asked: tuple[str, ...], verdict: Verdict) -> None:
        if self.cache:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with self.cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps([asked, verdict]) + "\n")


def _lines(path: Path) -> list[tuple[tuple[str, ...], Verdict]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            asked, verdict = json.loads(line)
            found.append((tuple(asked), Verdict(*verdict)))
        except (ValueError, TypeError):  # a killed run leaves half a line
            continue
    return found
