"""Projector, aligner, splice and routing features, against the papers' code."""

from __future__ import annotations

import pytest
import torch
from _golden import Golden
from _stack import close, media, metadata, papers_stack
from avtasks.avlm import FrameMeanProjector, QueryAligner, collate, convert_avlm, splice


def test_the_projector_averages_as_published():
    golden = Golden("avqacl", "video_projector")
    frames = getattr(golden, "in")["frame_features"]
    projector = FrameMeanProjector(24, 32)
    projector.load_state_dict(golden.weight)
    published = torch.nn.Sequential(*projector)(frames).mean(1)
    close(projector(frames), golden.out["video_tokens"], 4.9e-7)
    close(projector(frames), published, 4.9e-7)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_projector_of_another_depth_averages_as_published(depth):
    projector, frames = FrameMeanProjector(6, 8, depth).double(), torch.randn(2, 3, 4, 6).double()
    torch.testing.assert_close(projector(frames), torch.nn.Sequential(*projector)(frames).mean(1))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        FrameMeanProjector(6, 8, 0)


def test_the_aligner_is_the_papers():
    golden, sizes = Golden("avqacl", "audio_aligner"), metadata("audio_aligner")
    aligner = QueryAligner(
        24, 32, queries=sizes["num_queries"], layers=sizes["layers"], heads=sizes["heads"], hidden=24, mlp=40
    ).eval()
    aligner.load_state_dict(
        {key.replace("qformer.qformer.", "qformer."): value for key, value in golden.weight.items()}
    )
    given = getattr(golden, "in")
    sound = given["features"].clone().requires_grad_()
    tokens = aligner(sound)
    tokens.backward(given["grad_y"])
    close(tokens, golden.out["tokens"], 1.5e-6)
    close(sound.grad, golden.grad["features"], 1.5e-6)
    close(aligner.query_tokens.grad, golden.grad["query_tokens"], 1.5e-6)
    close(aligner.projector.weight.grad, golden.grad["projector.weight"], 1.5e-6)


def test_the_aligner_reads_padding_unless_told_not_to():
    sizes = {"queries": 2, "layers": 2, "heads": 2, "hidden": 8, "mlp": 16}
    sound, valid = torch.randn(1, 6, 4), torch.tensor([[True] * 4 + [False] * 2])
    published, masked = (QueryAligner(4, 8, **sizes, mask_padding=mask).eval() for mask in (False, True))
    masked.load_state_dict(published.state_dict())
    assert torch.equal(published(sound, valid), published(sound))
    torch.testing.assert_close(masked(sound, valid), published(sound[:, :4]))
    assert not torch.allclose(masked(sound, valid), published(sound))


def test_prompts_are_spliced_and_answered_as_in_the_papers_code():
    golden = Golden("avqacl", "multimodal_splice")
    given, model = getattr(golden, "in"), papers_stack("multimodal_splice")
    perceived = model.perceive(media(given))
    rows = model.splice(given["input_ids"], given["attention_mask"], perceived, given["labels"])
    close(rows.embeds, golden.out["inputs_embeds"], 7.2e-6)
    assert torch.equal(rows.mask, golden.out["attention_mask"])
    assert torch.equal(rows.labels, golden.out["labels"])
    with torch.no_grad():
        out = model(given | media(given))
    close(out.logits, golden.out["logits"], 7.2e-6)
    close(out.loss, golden.out["loss"], 7.2e-6)


def test_routing_features_are_the_papers():
    golden = Golden("avqacl", "anchor_features")
    model = papers_stack("multimodal_splice")
    assert not model.load_state_dict(convert_avlm(golden.base), strict=False).unexpected_keys
    given = getattr(golden, "in")
    sensed = model.sense(media(given))
    for mode in ("train", "eval"):
        close(sensed["video hidden"].mean((0, 1)), golden.out[f"{mode}.video"], 7.2e-7)
        close(sensed["audio hidden"].mean((0, 1)), golden.out[f"{mode}.audio"], 7.2e-7)
        close(sensed["video feature"].mean(0), golden.out[f"{mode}.video"].mean(0), 7.2e-7)
        close(sensed["audio feature"].mean(0), golden.out[f"{mode}.audio"].mean(0), 7.2e-7)
        # as published, filling counts
        text = model.text_feature(given["input_ids"], count_pad=True)
        close(text.mean(0), golden.out[f"{mode}.text"], 7.2e-7)


def test_a_text_feature_leaves_out_what_it_is_told_to():
    model = papers_stack("multimodal_splice")
    table = model.language.get_input_embeddings().weight
    ids = torch.tensor([[1, 7, -400, 8, 9, 2, 0]])
    mask, labels = torch.tensor([[1, 1, 1, 1, 1, 1, 0]]), torch.tensor([[-100] * 4 + [9, 2, -100]])
    torch.testing.assert_close(model.text_feature(ids, mask)[0], table[[1, 7, 8, 9, 2]].mean(0))
    torch.testing.assert_close(model.text_feature(ids, mask, count_pad=True)[0], table[[1, 7, 8, 9, 2, 0]].mean(0))
    torch.testing.assert_close(model.text_feature(ids, mask, labels=labels, text_span="question")[0], table[8])
    with pytest.raises(ValueError, match="'all' or 'question', got 'answer'"):
        model.text_feature(ids, text_span="answer")


def test_rows_may_differ_in_media_sounds_and_length():
    embeds = torch.arange(10.0).view(2, 5, 1)
    ids = torch.tensor([[1, -300, 5, -300, 6], [1, -400, 7, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    perceived = {
        "video tokens": torch.full((2, 2, 1), 100.0),
        "video mask": torch.tensor([False, True]),
        "audio tokens": torch.tensor([[200.0, 201, 202, 203], [0, 0, 0, 0]])[..., None],
        "audio chunks": torch.tensor([[1, 2], [0, 0]]),
    }
    rows = splice(embeds, ids, mask, perceived, ids.clamp(min=0))
    assert rows.embeds[0, :, 0].tolist() == [0, 200, 201, 2, 202, 203, 4]
    assert rows.embeds[1, :4, 0].tolist() == [5, 100, 100, 7]
    assert rows.mask.tolist() == [[1] * 7, [1] * 4 + [0] * 3]
    assert rows.labels[1].tolist() == [1, -100, -100, 7, 0, 0, -100]
    without = splice(embeds, ids, mask, perceived)
    assert without.labels is None
    assert torch.equal(without.embeds, rows.embeds)


def test_columns_that_are_filling_everywhere_are_cut_off():
    ids = torch.tensor([[1, 5, 0, 0], [1, 0, 0, 0]])
    assert splice(torch.zeros(2, 4, 3), ids, (ids > 0).long(), {}, ids).labels.shape == (2, 2)


@pytest.mark.parametrize(
    ("ids", "perceived", "message"),
    [
        ([1, -400, 5], {}, "row 0: the prompt has 1 <video>, the media 0"),
        ([1, 5, 6], {"video tokens": torch.zeros(1, 2, 3)}, "row 0: the prompt has 0 <video>, the media 1"),
        ([1, -300, 5], {"audio tokens": torch.zeros(1, 2, 3), "audio chunks": torch.tensor([[1, 2]])}, "1 <audio>"),
        ([1, -500, 5], {}, "row 0: -500 is no id and no marker"),
    ],
)
def test_media_and_markers_belong_together(ids, perceived, message):
    with pytest.raises(ValueError, match=message):
        splice(torch.zeros(1, 3, 3), torch.tensor([ids]), torch.ones(1, 3), perceived)


def test_items_of_different_lengths_become_a_batch():
    def sound(chunks: int) -> dict[str, torch.Tensor]:
        return {"audio": torch.ones(chunks, 4), "audio chunks": torch.ones(chunks, dtype=torch.long)}

    ids = torch.tensor
    batch = collate(
        [
            {"input_ids": ids([1, 5]), "labels": ids([-100, 5]), "video": torch.ones(2, 3)},
            {
                "input_ids": ids([1, 5, 6]),
                "labels": ids([-100, 5, 6]),
                "audio": torch.ones(2, 4),
                "audio chunks": ids([1, 1]),
            },
            {"input_ids": ids([1]), "labels": ids([1]), "audio": torch.ones(1, 4), "audio chunks": ids([1])},
        ],
        pad=9,
    )
    assert batch["input_ids"].tolist() == [[1, 5, 9], [1, 5, 6], [1, 9, 9]]
    assert batch["labels"].tolist() == [[-100, 5, -100], [-100, 5, 6], [1, -100, -100]]
    assert batch["attention_mask"].sum(1).tolist() == [2, 3, 1]
    assert batch["video mask"].tolist() == [True, False, False]
    assert batch["audio chunks"].tolist() == [[0, 0], [1, 1], [1, 0]]
    assert batch["audio"].sum((1, 2)).tolist() == [0, 8, 4]


def test_a_batch_needs_items_that_agree():
    with pytest.raises(ValueError, match="at least one item"):
        collate([])
    with pytest.raises(ValueError, match="item 1 of the batch has no 'labels'"):
        collate([{"labels": torch.ones(1)}, {"video": torch.ones(1)}])
