from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .rendered import Rendered
from .turns import check_turns

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Template:
    """Vicuna's way to write a conversation, version 1.1: ``SYSTEM USER: ... ASSISTANT: ...</s>USER: ...``.

    Attributes:
        system: What stands at the beginning; empty for models that never saw it.
        user: Who asks.
        assistant: Who answers.
        end: Behind each answer.

    Example:
        >>> turns = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "a dog"}]
        >>> Template(system="").render(turns).text
        'USER: Who? ASSISTANT: a dog</s>'
    """

    system: str = _SYSTEM
    user: str = "USER"
    assistant: str = "ASSISTANT"
    end: str = "</s>"

    def render(self, turns: Sequence[Mapping[str, str]], tokenizer: Any = None) -> Rendered:
        """Write a conversation.

        Args:
            turns: Of ``"human"`` and ``"gpt"`` by turns; where a question is last, its answer is to be generated.
            tokenizer: Not needed.

        Returns:
            The text, with answers and their ends to be learnt.

        Raises:
            ValueError: The turns are out of order, or one says nothing.
        """
        check_turns(turns)
        text, learnt = f"{self.system} " if self.system else "", []
        for turn in turns:
            if turn["from"] == "human":
                text += f"{self.user}: {turn['value']} {self.assistant}:"
            else:
                said = f" {turn['value']}{self.end}"
                learnt.append((len(text) + 1, len(text) + len(said)))
                text += said
        return Rendered(text, learnt, starts=True)
