"""PHP, L2P, DualPrompt and CODA-Prompt as whole models: where their prompts sit, tasks, one graph, files, errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from _close import assert_close
from _towers import FAMILIES, toy_pair
from torch import Tensor

import avexperts as ax

SMALL = {"num_latents": 3, "reduction": 4, "memory_size": 6, "mid_heads": 2, "mid_dim_head": 4, "mid_depth": 2}
BLOCKS = {
    "php": {"shallow": (0,), "mid": (0,), "deep": (1,), "mid_length": 4, "deep_length": 2, "pull_weight": 0.1, **SMALL},
    "l2p": {"blocks": (0,), "prompt_length": 2, "top_k": 2},
    "dual_prompt": {"general": (0,), "expert": (1,), "general_length": 3, "expert_length": 2},
    "coda_prompt": {
        "blocks": (0, 1), "num_components": 4, "prompt_length": 4, "num_tasks": 2, "ortho_weight": 0.1,
    },
}  # fmt: skip
PAIRS = {"sequences": ("clip-vision", "ast"), "windows": ("timm-swinv2", "clap-audio")}
EVERY = pytest.mark.parametrize(("method", "pair"), [(method, pair) for method in BLOCKS for pair in PAIRS])
SOME = pytest.mark.parametrize(
    ("method", "pair"), [("php", "windows"), ("php", "sequences"), ("l2p", "sequences"), ("coda_prompt", "windows")]
)


def build(method: str, pair: str, **options) -> tuple[ax.LockStep, dict[str, Tensor]]:
    torch.manual_seed(0)
    vision, audio = (FAMILIES[name] for name in PAIRS[pair])
    if method == "php" and pair == "sequences":
        options = {"mid": ()} | options  # a spectrogram transformer's tokens are no square grid
    model = getattr(ax.methods, method)(
        vision.build(), audio.build(), frame_size=vision.size, audio_size=audio.size, **(BLOCKS[method] | options)
    )
    for parameter in model.towers.parameters():  # timm's Swin-V2 starts with zero post-norms, which hide its branches
        torch.nn.init.normal_(parameter, std=0.2)
    return model, {"vision": torch.randn(4, *vision.size), "audio": torch.randn(4, *audio.size)}


def loss_of(out: ax.LockStepOutput) -> Tensor:
    return sum(tokens.square().mean() for tokens in out.tokens.values()) + out.aux_loss


@EVERY
def test_tasks_train_store_and_come_back(method: str, pair: str) -> None:
    model, inputs = build(method, pair)
    stack = model.prompts
    stack.add_task("one")
    with torch.no_grad(), model.disable_adapters():
        bare = model(inputs)
    out = model.train()(inputs)
    assert all(out.tokens[name].shape == bare.tokens[name].shape for name in inputs)
    assert not torch.equal(out.vision, bare.vision)
    loss_of(out).backward()
    assert not [name for name, p in stack.named_parameters() if p.requires_grad and p.grad is None]
    before = {key: value.clone() for key, value in stack.task_state("one").items()}
    said = model.eval()(inputs).vision

    stack.add_task("two")
    assert (stack.tasks, stack.task) == (("one", "two"), "two")
    for _ in range(2):
        optimizer = torch.optim.SGD([p for p in model.adapter_parameters() if p.requires_grad], lr=0.5)
        optimizer.zero_grad()
        loss_of(model.train()(inputs)).backward()
        optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in stack.task_state("one").items())
    stack.set_task("one")
    changed = model.eval()(inputs).vision

    again, _ = build(method, pair, tasks=["one", "two"], task="one")
    again.towers.load_state_dict(model.towers.state_dict())
    again.prompts.load_shared_state(stack.shared_state())
    for task in stack.tasks:
        again.prompts.load_task_state(task, stack.task_state(task))
    assert torch.equal(again.eval()(inputs).vision, changed)
    if method == "php":
        assert before
        shared = [f"{key}" for key in stack.shared_state() if key.startswith("plastic")]
        assert shared == []
    assert said.shape == changed.shape


def step(model: ax.LockStep, inputs: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    loss = loss_of(model(inputs))
    return loss.detach(), torch.autograd.grad(loss, [p for p in model.adapter_parameters() if p.requires_grad])


@SOME
def test_recomputation_and_mixed_precision(method: str, pair: str) -> None:
    model, inputs = build(method, pair, tasks=["one"])
    loss, gradients = step(model, inputs)
    for checkpoint in ("towers", "all"):
        model.checkpoint = checkpoint
        for recomputed, kept in zip(step(model, inputs)[1], gradients, strict=True):
            assert_close(recomputed, kept, gradient=True)
    with torch.autocast("cpu", torch.bfloat16):
        rough, finite = step(model, inputs)
    torch.testing.assert_close(rough.float(), loss, rtol=0.05, atol=0.05)  # of bfloat16 through four blocks
    assert all(gradient.isfinite().all() for gradient in finite)


@pytest.mark.parametrize(("method", "pair"), [("php", "windows"), ("l2p", "sequences")])
def test_one_graph(method: str, pair: str) -> None:
    model, inputs = build(method, pair, tasks=["one"])
    loss, gradients = step(model, inputs)
    torch._dynamo.reset()
    model.compile(backend="eager")
    compiled_loss, compiled = step(model, inputs)
    assert_close(compiled_loss, loss)
    for ours, eager in zip(compiled, gradients, strict=True):
        assert_close(ours, eager, gradient=True)


@SOME
def test_files_bring_back_the_tasks(method: str, pair: str, tmp_path) -> None:
    model, inputs = build(method, pair, tasks=["one"])
    model.prompts.add_task("two")
    model.prompts.set_task("one")
    model.eval().save_pretrained(tmp_path)
    back = ax.LockStep.from_pretrained(tmp_path, **dict(model.towers.items()))
    assert (back.prompts.tasks, back.prompts.task) == (("one", "two"), "one")
    assert torch.equal(back(inputs).vision, model(inputs).vision)
    back.prompts.set_task("two")
    model.prompts.set_task("two")
    assert torch.equal(back(inputs).audio, model(inputs).audio)


@SOME
def test_the_frozen_prefix_serves_prompts(method: str, pair: str) -> None:
    model, inputs = build(method, pair, tasks=["one"])
    assert torch.equal(model(inputs, entry=model.entry_tokens(inputs)).vision, model(inputs).vision)


@SOME
def test_a_stream_may_be_absent(method: str, pair: str) -> None:
    model, inputs = build(method, pair, tasks=["one"])
    for name in inputs:
        out = model({name: inputs[name]})
        assert list(out.tokens) == [name]
        loss_of(out).backward()


def test_a_fresh_shallow_depth_changes_nothing() -> None:
    for pair in PAIRS:
        model, inputs = build("php", pair, mid=(), deep=(), tasks=["one"])
        with model.disable_adapters():
            bare = model(inputs)
        out = model(inputs)
        assert all(torch.equal(out.tokens[name], bare.tokens[name]) for name in inputs)


def test_only_an_updated_sound_changes_with_training() -> None:
    for update in (False, True):
        model, inputs = build("php", "windows", mid=(), deep=(), tasks=["one"], update_audio=update)
        before = model(inputs)
        for name, parameter in model.prompts.named_parameters():
            if name.endswith(("bottleneck.gate", "up.weight")):
                torch.nn.init.constant_(parameter, 0.3)
        after = model(inputs)
        assert not torch.equal(after.vision, before.vision)
        assert torch.equal(after.audio, before.audio) != update


def test_each_depth_alone_and_sound_of_its_own() -> None:
    off = {"shallow": (), "mid": (), "deep": ()}
    for depth in off:
        model, inputs = build("php", "windows", **(off | {depth: (1,)}), tasks=["one"])
        assert set(model.prompts.roles) == {depth}
        model(inputs)
    model, inputs = build("php", "windows", **off, audio_deep=(0, 1, 2, 3), tasks=["one"])
    assert model.prompts.roles == ("audio_deep",) * 4
    assert {key.partition(".")[0] for key in model.prompts.task_state("one")} == {"audio_deep_16", "audio_deep_32"}
    with model.disable_adapters():
        bare = model(inputs)
    out = model(inputs)
    assert torch.equal(out.vision, bare.vision)
    assert not torch.equal(out.audio, bare.audio)


def test_a_summary_counts_prompts() -> None:
    model, _ = build("php", "windows", tasks=["one"])
    summary = model.summary()
    assert summary.notes == ()
    assert summary.adapters[0].size.parameters == sum(p.numel() for p in model.prompts.parameters())


def test_a_block_that_is_mid_and_deep_is_mid() -> None:
    model, _ = build("php", "windows", mid=(0, 1), deep=(1, 2), shallow=(1,))
    assert model.prompts.roles == ("mid", "mid", "shallow", "deep")


@pytest.mark.parametrize("init_from", ["previous", "fresh"])
def test_where_a_new_task_starts(init_from: str) -> None:
    model, _ = build("php", "windows", tasks=["one", "two"], init_from=init_from)
    one, two = (model.prompts.task_state(name) for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one) == (init_from == "previous")


def test_prompts_stay_among_the_tokens_of_a_plain_transformer() -> None:
    model, inputs = build("l2p", "sequences", tasks=["one"])
    out = model(inputs)
    (prompts,) = (x for name, x in out.readings["prompt_tokens"].items() if name.startswith("vision"))
    assert prompts.shape == (4, 4, 32)
    assert out.readings["prompt_indices"]["vision.blocks.0.attn"].shape == (4, 2)
    with pytest.raises(ValueError, match="among the tokens are put in once"):
        build("l2p", "sequences", blocks=(0, 1))


def test_what_was_chosen_is_read_once_a_pool() -> None:
    model, inputs = build("php", "windows", mid=(), deep=(2, 3), tasks=["one"])
    assert model.prompts.roles == ("shallow", "deep", "deep")
    out = model.train()(inputs)
    assert list(out.readings["prompt_indices"]) == ["vision.stages.1.blocks.0.attn"]
    assert out.aux_loss.abs() > 0
    assert model.eval()(inputs).aux_loss == 0


def test_parameters_of_the_papers_model() -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig())
        clap = transformers.ClapAudioModel(transformers.ClapAudioConfig(patch_embeds_hidden_size=96))
        model = ax.methods.php(clip, clap, frame_size=(3, 224, 224), audio_size=(1, 1001, 64), tasks=["ave"])
    stack = model.prompts

    def millions(part: torch.nn.Module) -> float:
        return sum(p.numel() for p in part.parameters()) / 1e6

    shallow = sum(millions(part) for part, role in zip(stack.couplings, stack.roles, strict=True) if role == "shallow")
    captions = 8 * 192 * 513 / 1e6  # in every adapter of the paper's program, of no use; two of eight adapters are dead
    assert captions == pytest.approx(0.79, abs=0.005)
    assert shallow == pytest.approx(13.07 - captions - (0.85 - captions / 4), abs=0.015)
    assert millions(stack.plastic["mid"]) == pytest.approx(36.77 - 1.53, abs=0.01)
    assert millions(stack.plastic["deep"]) == pytest.approx(0.325, abs=0.001)
    assert stack.roles == ("shallow",) * 2 + ("mid",) * 2 + ("deep",) * 7
    assert model.pairings[0] == {"vision": "blocks.0.mlp", "audio": "stages.0.blocks.0.out"}
    assert model.pairings[2] == {"vision": "blocks.3.attn", "audio": "stages.1.blocks.1.block"}


ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "unknown block": (
        partial(build, "php", "windows", deep=(9,)),
        r"deep=\(9,\): the pair of towers has blocks 0 to 3",
    ),
    "grid": (
        partial(build, "php", "windows", mid=(3,), mid_length=20),
        r"mid=\(3,\), mid_length=20, audio site 'stages.1.blocks.1.block': a prompt of 1280 numbers does not fit",
    ),
    "no grid": (partial(build, "php", "sequences", mid=(0,)), r"mid=\(0,\).* audio site 'blocks.0.block'"),
    "no prefix": (
        lambda: ax.methods.php(**toy_pair(), shallow=(), mid=(), deep=(0,)),
        r"deep: vision cannot take a key and value prefix at blocks\.1\.attn",
    ),
    "twice": (partial(build, "php", "windows", tasks=["one", "one"]), "task 'one' was added already"),
    "name": (partial(build, "php", "windows", tasks=["a b"]), "a task's name has letters"),
    "both": (partial(build, "dual_prompt", "windows", expert=(0,)), r"blocks \[0\] are both general and expert"),
    "too many": (partial(build, "coda_prompt", "windows", tasks=["a", "b", "c"]), "for 2 tasks, and this is task 3"),
    "query": (partial(build, "l2p", "windows", query_block=1), "query_block=1 must not come after"),
    "halves": (partial(build, "coda_prompt", "windows", prompt_length=3), "prompt_length=3 is odd"),
    "no size": (lambda: ax.methods.php(FAMILIES["vit"].build(), FAMILIES["ast"].build()), "give frame_size and audio"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    make, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_tasks_out_of_turn() -> None:
    model, inputs = build("php", "windows")
    with pytest.raises(ValueError, match=r"no task was added yet: call add_task\(name\)"):
        model(inputs)
    with pytest.raises(ValueError, match=r"unknown task 'ave': add_task it first; there are \[\]"):
        model.prompts.set_task("ave")
    model.prompts.add_task("ave")
    state = model.prompts.task_state("ave")
    missing = dict(list(state.items())[1:])
    with pytest.raises(ValueError, match=r"the state of task 'avqa' does not fit: missing \w+"):
        model.prompts.load_task_state("avqa", missing)
    assert model.prompts.tasks == ("ave",)
    with pytest.raises(ValueError, match=r"does not fit: unexpected other\.keys"):
        model.prompts.load_task_state("ave", state | {"other.keys": torch.ones(1)})
    with pytest.raises(ValueError, match=r"does not fit: memory is \(1, 16\), expected \(6, 16\)"):
        model.prompts.load_task_state("ave", {key: value[:1] for key, value in state.items()})
    with pytest.raises(ValueError, match="the shared state does not fit: missing"):
        model.prompts.load_shared_state({})
