"""Routing by words of the real questions, by anchors of clips, and the published ways to gather them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import _figures
import pytest
import torch
from _close import assert_close
from avtasks.avlm import open_avlm, tiny_language_model, word_tokenizer
from avtasks.avqacl import AnchorHook, AnchorSettings, RouteTable, question_routing
from avtasks.avqacl.evaluate_method import combination_of
from avtasks.forge import TASKS
from torch import nn

import avexperts as ax

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data" / "split_avqa"


class Model(nn.Module):
    """Words have fixed embeddings, and every batch the loss 1."""

    def __init__(self) -> None:
        super().__init__()
        tokenizer = word_tokenizer(["Where is it?"])
        language = tiny_language_model(tokenizer, width=8, layers=1)
        self.inner = open_avlm(language, vision=None, audio=None)

    def text_feature(self, *args, **kwargs):
        return self.inner.text_feature(*args, **kwargs)

    def forward(self, batch):
        return type("Output", (), {"loss": torch.ones(())})()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the papers' annotation files are not here")
def test_real_questions_are_routed_by_words_as_often_as_the_papers_files_allow():
    anchors, known, most = question_routing(SHARED, TASKS)
    _figures.record("real questions: % routed rightly by text anchors of random word vectors", anchors["routing"])
    _figures.record("real questions: % routed rightly by looking them up", most["routing"])
    assert anchors["questions"] == 5918
    assert 91 < anchors["routing"] < 95
    assert most["routing"] == pytest.approx(97.01, abs=0.005)
    assert anchors["routing"] < known["routing"] < most["routing"]


def test_stages_use_the_first_tasks_only():
    similarity = torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.5, 0.1]])
    table = RouteTable(("a", "b", "c"), torch.tensor([2, 0]), {"all": similarity}, {})
    assert [table.choose("all", limit).tolist() for limit in (1, 2, 3)] == [[0, 0], [1, 0], [2, 0]]
    assert table.choose("oracle").tolist() == [2, 0]
    for limit in (1, 2, 3):
        assert table.choose("random", limit, seed=3).max() < limit
        assert torch.equal(table.choose("random", limit, seed=3), table.choose("random", limit, seed=3))


def test_a_combination_is_found_in_any_order_and_an_unknown_modality_named():
    cosines = {name: torch.zeros(1, 1) for name in ("text", "video", "audio")}
    table = RouteTable(("a",), torch.zeros(1), {"video_audio": torch.zeros(1, 1)}, cosines)
    assert combination_of("audio_video", table) == "video_audio"
    assert combination_of("video_text_audio", table) == "all"
    with pytest.raises(ValueError, match="the modalities are text, video, audio"):
        combination_of("text_smell", table)


def batches() -> list[dict[str, torch.Tensor]]:
    """Two batches of 2 and 1 questions with video and audio features; the last question has no sound."""
    words = {
        "input_ids": torch.tensor([[1, -400, 4, 5, 6], [1, -400, 5, 6, 0], [1, -400, 6, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]),
        "labels": torch.tensor([[-100, -100, -100, -100, 6], [-100, -100, -100, 6, -100], [-100] * 5]),
    }
    features = {"video feature": torch.eye(3), "audio feature": torch.eye(3, 2), "video tokens": torch.zeros(3, 1, 8)}
    everything = words | features | {"audio chunks": torch.tensor([[1], [1], [0]])}
    return [{name: value[part] for name, value in everything.items()} for part in (slice(0, 2), slice(2, 3))]


def gathered(passes: int = 1, **settings: object) -> tuple[ax.AnchorBank, Model]:
    found, torch_model = AnchorSettings(**settings), Model()
    bank = ax.AnchorBank({"audio": 2, "text": 8, "video": 3}, counter=found.counter, weighting=found.weighting)
    bank.begin("a")
    hook = AnchorHook(torch_model, bank, found)
    for epoch in range(passes):
        hook.start_epoch(epoch)
        for batch in batches():
            assert hook.loss(torch_model, batch)["answer"] == 1
    bank.end()
    return bank, torch_model


def test_anchors_are_means_over_samples_that_have_the_modality():
    bank, model = gathered()
    assert_close(bank.anchors("video")[0], torch.full((3,), 1 / 3))
    assert_close(bank.anchors("audio")[0], torch.tensor([0.5, 0.5]))
    table = model.inner.language.get_input_embeddings().weight
    # words after the marker that are not learnt, each question alike
    own = [[4, 5], [5], [6]]
    assert_close(bank.anchors("text")[0], torch.stack([table[ids].mean(0) for ids in own]).mean(0).detach())


def test_the_first_epoch_alone_counts_unless_all_are_asked_for():
    once, thrice = gathered(1)[0], gathered(3)[0]
    assert all(torch.equal(value, thrice.state_dict()[name]) for name, value in once.state_dict().items())
    every = gathered(3, epochs="all")[0]
    assert_close(every.anchors("video"), once.anchors("video"))
    assert not all(torch.equal(value, every.state_dict()[name]) for name, value in once.state_dict().items())


def test_published_weights_are_by_batch():
    assert_close(gathered(weighting="batch")[0].anchors("video")[0], torch.tensor([0.25, 0.25, 0.5]))


def test_published_text_anchors_hold_answers_and_padding():
    bank, model = gathered(text_span="all", count_pad=True)
    table = model.inner.language.get_input_embeddings().weight
    ids = [[1, 4, 5, 6], [1, 5, 6, 0], [1, 6, 0, 0]]
    assert_close(bank.anchors("text")[0], torch.stack([table[row].mean(0) for row in ids]).mean(0).detach())


def test_anchors_survive_an_interruption():
    bank, model = gathered()
    hook = AnchorHook(model, bank, AnchorSettings())
    other = ax.AnchorBank(bank.dims)
    AnchorHook(model, other, AnchorSettings()).load_state_dict(hook.state_dict())
    assert other.names == ("a",)
    assert torch.equal(other.anchors("audio"), bank.anchors("audio"))


def test_anchors_are_not_gathered_where_no_method_routes_by_them():
    bank = ax.AnchorBank({"text": 8})
    hook = AnchorHook(Model(), bank, replace(AnchorSettings(), epochs="all"), counts=False)
    assert hook.loss(hook.model, batches()[0])["answer"] == 1
    assert not len(bank)
