from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .rendered import Rendered
from .turns import check_turns


@dataclass(frozen=True)
class ChatTemplate:
    """The way to write a conversation that a tokenizer brings along, such as Qwen's.

    Attributes:
        system: What stands at the beginning; by default what the tokenizer's own template says.
        options: More for the tokenizer's template, such as ``{"enable_thinking": False}``.

    Example:
        >>> from avtasks.avlm import word_tokenizer
        >>> tokenizer = word_tokenizer(["Who? a dog"])
        >>> tokenizer.chat_template = (
        ...     "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}"
        ...     "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
        ... )
        >>> ChatTemplate().render([{"from": "human", "value": "Who?"}], tokenizer).text
        '[user] Who?[assistant] '
    """

    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def render(self, turns: Sequence[Mapping[str, str]], tokenizer: Any) -> Rendered:
        """Write a conversation.

        Args:
            turns: Of ``"human"`` and ``"gpt"`` by turns; where a question is last, its answer is to be generated.
            tokenizer: With a chat template.

        Returns:
            The text, with answers and their ends to be learnt.

        Raises:
            ValueError: The turns are out of order, one says nothing, or the tokenizer has no usable template.
        """
        check_turns(turns)
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError("the tokenizer has no chat template; use Template")
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        text, learnt = "", []
        for turn in turns:
            answer = turn["from"] == "gpt"
            messages.append({"role": "assistant" if answer else "user", "content": turn["value"]})
            longer = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=not answer, **self.options
            )
            if answer and not longer.startswith(text):
                raise ValueError("the tokenizer's template writes a question anew once it is answered; use Template")
            if answer:
                learnt.append((len(text), len(longer.rstrip())))
            text = longer
        return Rendered(text, learnt, starts=False)
