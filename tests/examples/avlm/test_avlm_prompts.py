"""Templates, ids with markers, labels, tokenizers."""

from __future__ import annotations

import re

import pytest
from _golden import Golden
from _stack import metadata
from avtasks.avlm import (
    ChatTemplate,
    Template,
    check_turns,
    encode_conversation,
    encode_question,
    open_language_model,
    tiny_language_model,
    word_tokenizer,
)

QWEN = (  # the form of Qwen's
    "{% for m in messages %}{{ '<|im_start|> ' + m.role + '\n' + m.content + ' <|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant\n' }}{% endif %}"
)
FORGETFUL = "{% for m in messages %}{{ loop.length }} {{ m.content }}{% endfor %}"


class Toy:
    """The stored case's word tokenizer: words, line breaks and trailing blanks are tokens."""

    bos_token_id = 1

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary | {"</s>": 2}

    def __call__(self, text: str, **_: bool) -> dict:
        found = list(re.finditer(r"</s>|\n|[^\s<]+|<| +$", text))
        ids = [
            self.vocabulary["_" if word.group().isspace() and word.group() != "\n" else word.group()] for word in found
        ]
        return {"input_ids": ids, "offset_mapping": [word.span() for word in found]}


@pytest.mark.parametrize("number", [0, 1])
def test_prompts_ids_and_labels_are_the_papers(number):
    said = metadata("prompt_and_labels")
    case, out = said["cases"][number], Golden("avqacl", "prompt_and_labels").out
    tokenizer = Toy(said["vocabulary"])
    assert Template().render(case["conversation"]).text == case["prompt"]
    assert Template().render(case["conversation"][:1]).text == case["eval_prompt"]
    ids, labels = encode_conversation(tokenizer, case["conversation"])
    question = encode_question(tokenizer, case["conversation"][0]["value"])
    assert ids.tolist() == out[f"{number}.input_ids"].tolist()
    assert labels.tolist() == out[f"{number}.labels"].tolist()
    assert question.tolist() == out[f"{number}.eval_input_ids"].tolist()


def talk(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[at % 2], "value": value} for at, value in enumerate(values)]


def learnt(tokenizer, template, turns) -> list[str]:
    _, labels = encode_conversation(tokenizer, turns, template)
    return tokenizer.convert_ids_to_tokens(labels[labels >= 0].tolist())


def test_every_answer_of_a_conversation_is_learnt():
    turns = talk("<video> <audio> Who barks?", "a dog", "Where?", "left")
    tokenizer = word_tokenizer([turn["value"] for turn in turns])
    assert learnt(tokenizer, Template(system=""), turns) == ["a", "dog", "</s>", "left", "</s>"]


def test_a_tokenizers_own_template_serves():
    turns = talk("<video> Who barks?", "a dog", "Where?", "left")
    tokenizer = word_tokenizer(["<|im_start|> <|im_end|> user assistant system listen", *(t["value"] for t in turns)])
    tokenizer.chat_template = QWEN
    assert learnt(tokenizer, ChatTemplate(), turns) == ["a", "dog", "<|im_end|>", "left", "<|im_end|>"]
    ids = encode_question(tokenizer, "<video> Who barks?", ChatTemplate(system="listen"))
    words = ["VIDEO" if token < 0 else tokenizer.convert_ids_to_tokens(token) for token in ids.tolist()]
    start, end = "<|im_start|>", "<|im_end|>"
    assert words == [start, "system", "listen", end, start, "user", "VIDEO", "Who", "barks?", end, start, "assistant"]


def test_a_template_that_cannot_serve_is_refused():
    tokenizer = word_tokenizer(["a"])
    with pytest.raises(ValueError, match="no chat template"):
        encode_question(tokenizer, "a", ChatTemplate())
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(ValueError, match="anew once it is answered"):
        encode_conversation(tokenizer, talk("a", "a"), ChatTemplate())


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "at least one question"),
        (talk(" "), r"turn 1 \(human\): an empty question"),
        (talk("Who?", ""), r"turn 2 \(gpt\): an empty answer cannot be learnt"),
        ([{"from": "gpt", "value": "a"}], "turn 1 is of 'human', got 'gpt'"),
        ([{"from": "human"}], r"turn 1 \(human\)"),
    ],
)
def test_turns_that_say_nothing_are_refused(turns, message):
    with pytest.raises(ValueError, match=message):
        check_turns(turns)


def test_a_conversation_to_train_on_holds_an_answer():
    tokenizer = word_tokenizer(["Who? dog"])
    with pytest.raises(ValueError, match="the last turn of a conversation to train on is the answer"):
        encode_conversation(tokenizer, talk("Who?"))
    with pytest.raises(ValueError, match="no answer is left within 3 tokens"):
        encode_conversation(tokenizer, talk("Who?", "dog"), Template(system=""), max_length=3)
    with pytest.raises(ValueError, match="empty question"):
        encode_question(tokenizer, "")


def test_the_end_of_an_answer_may_be_cut_off():
    ids, labels = encode_conversation(word_tokenizer(["Who? dog"]), talk("Who?", "dog"), Template(system=""), 5)
    assert labels.tolist() == [-100] * 4 + [ids[4]]


def test_words_outside_of_the_texts_are_unknown():
    tokenizer = word_tokenizer(["<video>\na dog"], Template())
    assert tokenizer("a cat")["input_ids"] == [tokenizer.convert_tokens_to_ids("a"), tokenizer.unk_token_id]
    assert tokenizer.convert_tokens_to_ids("artificial") > 3
    assert tokenizer.convert_tokens_to_ids("<video>") == tokenizer.unk_token_id


def test_a_saved_language_model_opens_again(tmp_path):
    tokenizer = word_tokenizer(["Who? dog"])
    language = tiny_language_model(tokenizer, width=24, layers=1)
    language.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, reader = open_language_model(str(tmp_path))
    assert reader("Who? dog")["input_ids"] == tokenizer("Who? dog")["input_ids"]
    assert (again.lm_head.weight == language.lm_head.weight).all()
    assert not again.training


def test_tiny_language_models_are_drawn_by_their_seed():
    tokenizer = word_tokenizer(["dog"])
    heads = [tiny_language_model(tokenizer, width=24, layers=1, seed=seed).lm_head.weight for seed in (0, 0, 1)]
    assert (heads[0] == heads[1]).all()
    assert (heads[0] != heads[2]).any()
    with pytest.raises(ValueError, match="llama, qwen2, qwen3, got 'gpt'"):
        tiny_language_model(tokenizer, family="gpt")
    with pytest.raises(ValueError, match="multiple of 8, got 20"):
        tiny_language_model(tokenizer, width=20)
