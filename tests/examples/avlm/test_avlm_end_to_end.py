"""Two tasks trained one after the other from the same base, then routed and answered, against the papers' code."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from _figures import record
from _golden import Golden
from _stack import close, media, metadata, papers_stack
from avtasks.avlm import AudioVisualLM
from torch import Tensor

from avexperts.experts import ExpertRouted, attach_experts
from avexperts.routing import AnchorBank, CosineAnchorRouter

CASE, TASKS, OBSERVED = "end_to_end_two_tasks", ("task_0", "task_1"), 2.6e-5


class Trained(NamedTuple):
    golden: Golden
    model: AudioVisualLM
    routed: ExpertRouted
    anchors: AnchorBank
    losses: dict[str, Tensor]
    heads: dict[str, Tensor]


def batch_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"input_ids": tensors["input_ids"], "labels": tensors["labels"], **media(tensors)}


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Follow the published recipe: SGD on the experts and, as published, on the head, which is then thrown away."""
    golden, said = Golden("avqacl", CASE), metadata(CASE)
    model = papers_stack(CASE).requires_grad_(False)
    routed = attach_experts(model.language)
    anchors = AnchorBank({"video": 24, "audio": 24, "text": 32}, counter="shared", weighting="batch")
    head = model.language.lm_head.weight
    base_head, losses, heads = head.detach().clone(), {}, {}
    for task, name in enumerate(TASKS):
        routed.add_task(name)
        optimizer = torch.optim.SGD([*routed.train_task(name), head.requires_grad_()], lr=float(said["lr"]))
        anchors.begin(name)
        for step in range(int(said["steps"])):
            batch = batch_of(under(golden.tensors, f"train.task{task}.step{step}."))
            perceived = model.perceive(batch)
            text = model.text_feature(batch["input_ids"], count_pad=True)
            anchors.update({"video": perceived["video feature"], "audio": perceived["audio feature"], "text": text})
            with routed.route(name):
                loss = model({**batch, **perceived}).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[f"task{task}.step{step}"] = loss.detach()
        anchors.end()
        heads[f"task{task}"] = head.detach().clone()
        head.data.copy_(base_head)
        head.requires_grad_(False)
    return Trained(golden, model.eval(), routed, anchors, losses, heads)


def test_training_two_tasks_takes_the_papers_course(trained: Trained) -> None:
    out = trained.golden.out
    for step, loss in trained.losses.items():
        close(loss, out[f"{step}.loss"], OBSERVED, f"loss {step}")
    for task, head in trained.heads.items():
        close(head, out[f"{task}.lm_head_after_training"], OBSERVED, f"head {task}")


@pytest.mark.parametrize("task", TASKS)
def test_experts_and_anchors_are_the_papers_files(trained: Trained, task: str) -> None:
    stored = under(trained.golden.tensors, f"expert_{task}/")
    ours = trained.routed.state_dict_for(task)
    assert ours.keys() == stored.keys()
    for key, value in stored.items():
        close(ours[key], value, OBSERVED, key)
    position = trained.anchors.names.index(task)
    for modality in ("video", "audio", "text"):
        anchor = trained.golden.tensors[f"anchor_{task}/{modality}"]
        pooled = anchor.mean(0) if anchor.dim() == 2 else anchor
        close(trained.anchors.anchors(modality)[position], pooled, OBSERVED, modality)


@pytest.mark.parametrize("task", [0, 1])
def test_answers_are_routed_and_generated_as_in_the_papers_code(trained: Trained, task: int) -> None:
    golden, model = trained.golden, trained.model
    out = under(golden.out, f"test.task{task}.")
    tensors = under(golden.tensors, f"test.task{task}.")
    prompt = int(metadata(CASE)["prompt_length"])
    batch = {"input_ids": tensors["input_ids"][:, :prompt], **media(tensors)}
    perceived = model.perceive(batch)
    features = {"video": perceived["video feature"], "audio": perceived["audio feature"]}
    features["text"] = model.text_feature(batch["input_ids"])
    routing = CosineAnchorRouter()(features, trained.anchors)
    with trained.routed.route(routing), torch.no_grad():
        logits = model({**batch, **perceived}).logits[:, -1]
        answers = model.generate({**batch, **perceived}, max_new_tokens=4)
    wrong = 0
    for row in range(2):
        expected = under(out, f"row{row}.")
        assert routing.index[row] == expected["selected"]
        close(routing.similarity[row], expected["similarity"], OBSERVED, "similarity")
        for place, modality in enumerate(routing.modalities):
            close(routing.per_modality[row, :, place], expected[f"per_modality.{modality}"], OBSERVED, modality)
        close(logits[row], expected["last_logits"][0], OBSERVED, "logits")
        wrong += answers[row] != expected["generated"][0].tolist()
    record("AVQACL end to end: answers whose ids differ from the papers'", wrong)
    assert wrong == 0


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_with_several_routes_is_answered_as_each_row_alone(trained: Trained, beams: int) -> None:
    model, routed = trained.model, trained.routed
    tests = [under(trained.golden.tensors, f"test.task{task}.") for task in (0, 1)]
    batches = [{"input_ids": one["input_ids"][:, :10], **model.perceive(media(one))} for one in tests]
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    shorter = torch.ones_like(whole["input_ids"])
    shorter[1, 9] = shorter[3, 8:] = 0  # rows of different lengths
    whole["attention_mask"] = shorter
    route = torch.tensor([0, 1, 1, 0])
    with routed.route(route):
        together = model.generate(whole, max_new_tokens=4, num_beams=beams)
    for row in range(4):
        length = int(shorter[row].sum())
        alone = {name: value[row : row + 1] for name, value in whole.items()}
        alone |= {name: alone[name][:, :length] for name in ("input_ids", "attention_mask")}
        with routed.route(route[row : row + 1]):
            assert model.generate(alone, max_new_tokens=4, num_beams=beams) == together[row : row + 1]
