"""Experts attached to whole models: decoders of transformers, PEFT's, files of experts, memory."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from _close import assert_close
from _figures import record
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avexperts.experts import ExpertRouted, LowRankExpert, attach_experts
from avexperts.routing import AnchorBank, AnchorRouting, CosineAnchorRouter

transformers = pytest.importorskip("transformers")
GOLDEN = Path(__file__).parents[1] / "golden" / "avqacl" / "decoder_experts.safetensors"
SIZE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 8}),
}


def decoder(family: str = "llama", **changes) -> nn.Module:
    config, model, more = FAMILIES[family]
    return getattr(transformers, model)(getattr(transformers, config)(**SIZE, **more, **changes)).eval()


def shuffled(routed: ExpertRouted, *names: str) -> ExpertRouted:
    """Add tasks whose experts differ from the base."""
    for name in names:
        routed.add_task(name)
        with torch.no_grad():
            for tensor in routed.state_dict_for(name).values():
                tensor += 0.3 * torch.randn_like(tensor)
    return routed


def ids(rows: int = 3, columns: int = 5) -> Tensor:
    return torch.randint(3, 40, (rows, columns))


def golden() -> tuple[dict[str, Tensor], nn.Module, ExpertRouted]:
    with safe_open(GOLDEN, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = transformers.LlamaConfig(**json.loads(file.metadata()["config"]))
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict({k.removeprefix("base."): v for k, v in found.items() if k.startswith("base.")})
    routed = attach_experts(model)
    for task in range(3):
        start = f"expert_task_{task}/"
        routed.load_task(f"task_{task}", {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)})
    return found, model, routed


def test_the_decoder_is_the_papers() -> None:
    found, model, routed = golden()
    batch = {name: found[f"in.{name}"] for name in ("input_ids", "attention_mask", "labels")}
    routed.add_task("fresh")
    worst = 0.0
    for task, name in [*((f"task_{k}", f"expert{k}") for k in range(3)), ("fresh", "base")]:
        with routed.route(task):
            out = model(**batch)
        # the stored logits are themselves off by 5.4e-6 from what float64 gives; ten times that is allowed
        torch.testing.assert_close(out.logits, found[f"out.{name}.logits"], rtol=0, atol=5.4e-5)
        assert_close(out.loss, found[f"out.{name}.loss"], what=name)
        worst = max(worst, (out.logits - found[f"out.{name}.logits"]).abs().max().item())
    record("decoders with experts against the papers' vectors, largest deviation of a logit", worst)


def test_a_training_step_has_the_papers_gradients_and_no_others() -> None:
    found, model, routed = golden()
    routed.add_task("fresh")
    assert len(routed.train_task("fresh")) == 6
    batch = {name: found[f"in.{name}"] for name in ("input_ids", "attention_mask", "labels")}
    with routed.route("fresh"):
        loss = model.train()(**batch).loss
    loss.backward()
    assert_close(loss, found["out.train.loss"])
    names = [key.removeprefix("grad.") for key in found if key.startswith("grad.") and "lm_head" not in key]
    got = {
        f"{place}.{name}": parameter.grad
        for place, bank in routed.banks.items()
        for name, parameter in bank.expert("fresh").named_parameters()
    }
    assert sorted(got) == sorted(names)
    for name in names:
        assert_close(got[name], found[f"grad.{name}"], gradient=True, what=name)
    assert sum(parameter.grad is not None for parameter in model.parameters()) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_routed_model_is_the_plain_one_with_these_weights(family: str) -> None:
    plain, model = decoder(family), decoder(family)
    model.load_state_dict(plain.state_dict())
    untouched = {name: value.clone() for name, value in plain.state_dict().items()}
    routed = shuffled(attach_experts(model), "come", "where")
    assert list(routed.banks) == ["model.layers.0.mlp", "model.layers.2.mlp"]
    assert routed.base_state_dict().keys() == untouched.keys()
    assert all(torch.equal(value, untouched[name]) for name, value in routed.base_state_dict().items())
    x = ids()
    for name in routed.names:
        own = routed.state_dict_for(name)
        assert len(own) == 6
        assert set(own) < set(untouched)
        plain.load_state_dict({**untouched, **own})
        with routed.route(name):
            assert torch.equal(model(x).logits, plain(x).logits)
    with routed.route(["come", 1, "come"]):
        together = model(x).logits
    for row, name in enumerate(("come", "where", "come")):
        with routed.route(name):
            assert_close(together[row], model(x[row : row + 1]).logits[0])
    with pytest.raises(RuntimeError, match="no route is set"):
        model(x)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_generating_for_a_mixed_batch_gives_what_each_sample_gets_alone(options: dict) -> None:
    model = decoder(initializer_range=0.3)
    routed = shuffled(attach_experts(model), "come", "where")
    x, route = ids(4), [0, 1, 1, 0]
    options = {"max_new_tokens": 6, "do_sample": False, **options}
    with routed.route(route):
        together = model.generate(x, attention_mask=torch.ones_like(x), **options)
    different = 0
    for row, position in enumerate(route):
        alone = []
        for each in (position, 1 - position):
            with routed.route(each):
                own = model.generate(x[row : row + 1], attention_mask=torch.ones(1, 5), **options)[0]
                alone.append(nn.functional.pad(own, (0, together.shape[1] - len(own))).tolist())
        assert together[row].tolist() == alone[0]
        different += alone[0] != alone[1]
    assert different  # or the route would not matter


def test_recomputed_layers_of_transformers_train_as_the_others() -> None:
    model = decoder()
    routed = shuffled(attach_experts(model, every=1), "come", "where")
    found = []
    x = ids()
    for recompute in (False, True):
        if recompute:
            # transformers renames these in version 6
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        parameters = routed.train_task("where")
        model.train()
        losses = []
        for route in ("where", [1, 0, 1]):
            with routed.route(route):
                losses.append(model(x, labels=x, use_cache=False).loss)
        for loss in losses:
            loss.backward()
        found.append([parameter.grad.clone() for parameter in parameters])
        model.zero_grad()
    assert all(layer.gradient_checkpointing for layer in model.model.layers)
    for plain, again in zip(*found, strict=True):
        assert torch.equal(plain, again)
        assert plain.any()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # PEFT asks by the old name
def test_a_model_that_peft_adapted() -> None:
    peft = pytest.importorskip("peft")
    model = decoder()
    keys = set(model.state_dict())
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2, lora_alpha=4))
    routed = shuffled(attach_experts(adapted), "come", "where")
    assert set(routed.state_dict_for("come")) < keys
    x = ids(2)
    parameters = routed.train_task("come")
    trains = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert {id(p) for p in trains} == {id(p) for p in parameters}
    with routed.route([0, 1]):
        together = adapted(input_ids=x).logits
    for row in range(2):
        with routed.route(row):
            assert_close(together[row], adapted(input_ids=x[row : row + 1]).logits[0])


def test_other_ways_to_select() -> None:
    routed = attach_experts(decoder(), lambda name, module: name.endswith(("q_proj", "o_proj")), every=2, offset=1)
    assert list(routed.banks) == [f"model.layers.{index}.self_attn.o_proj" for index in range(4)]
    shared = nn.Linear(3, 3)
    model = nn.ModuleDict({"one": nn.Sequential(shared), "two": nn.Sequential(shared)})
    routed = attach_experts(model, r"\.0$", every=1)
    assert model["one"][0] is model["two"][0] is routed.banks["one.0"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda model: attach_experts(model, r"\.nothing$"),
            r"no module is selected by .*nothing.*there are \['model'",
        ),
        (lambda model: attach_experts(model, every=2, offset=2), "offset below it, got every=2, offset=2"),
        (lambda model: attach_experts(model, r"mlp", every=1), "mlp.gate_proj lies inside model.layers.0.mlp"),
        (lambda model: attach_experts(model, r"layers\.0$"), "model.layers.0 holds experts already"),
    ],
)
def test_what_cannot_be_attached_is_named(call, message: str) -> None:
    model = decoder()
    attach_experts(model)
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match=message):
        call(decoder() if "holds" not in message else model)
    assert [name for name, _ in model.named_modules()] == names


def anchored(*names: str) -> AnchorBank:
    bank = AnchorBank({"text": 3})
    for position, name in enumerate(names):
        bank.begin(name)
        bank.update({"text": torch.eye(3)[position : position + 1]})
        bank.end()
    return bank


def test_routing_goes_by_the_tasks_names() -> None:
    routed = shuffled(attach_experts(decoder()), "a", "b", "c")
    features = {"text": torch.eye(3)[[0, 2]]}
    found = CosineAnchorRouter()(features, anchored("c", "b", "a"))
    assert found.index.tolist() == [0, 2]
    with routed.route(found) as state:
        assert state.route.tolist() == [2, 0]
    shared = CosineAnchorRouter(temperature=0.5, top_k=2)({"text": torch.eye(3)[:2]}, anchored("c", "a"))
    with routed.route(shared) as state:
        assert state.route.tolist() == [2, 0]
        torch.testing.assert_close(state.weights[:, [2, 0]], shared.weights)
        assert state.weights.shape == (2, 3)
        assert not state.weights[:, 1].any()
        routed.model(ids(2))
    for wrong, message in ((anchored("d", "a"), "no expert 'd'"), ("d", "no expert 'd'"), (3, "asks for expert 3")):
        route = CosineAnchorRouter()(features, wrong) if isinstance(wrong, AnchorBank) else wrong
        assert isinstance(route, AnchorRouting) == isinstance(wrong, AnchorBank)
        with pytest.raises(ValueError, match=message), routed.route(route):
            pass
        assert routed.state.route is None


FORMS = {"copy": "copy", "low rank": partial(LowRankExpert, rank=2)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("resident", [1, 2])
def test_experts_come_back_from_their_files(form: str, resident: int, tmp_path: Path) -> None:
    base = decoder()
    weights = base.state_dict()
    routed = shuffled(attach_experts(base, expert=FORMS[form]), "a", "b", "c")
    files = [routed.save_task(name, tmp_path) for name in routed.names]
    assert [path.name for path in files] == ["expert_a.safetensors", "expert_b.safetensors", "expert_c.safetensors"]
    before = [path.read_bytes() for path in files]
    assert [routed.save_task(name, tmp_path).read_bytes() for name in routed.names] == before
    lazy, loaded = decoder(), decoder()
    models = []
    for model in (lazy, loaded):
        model.load_state_dict({k.replace(".base.", "."): v for k, v in weights.items() if ".experts." not in k})
        models.append(attach_experts(model, expert=FORMS[form]))
    models[0].open_tasks(tmp_path, ["c", "a", "b"], resident=resident)
    for path in files:
        models[1].load_task(path.stem.removeprefix("expert_"), load_file(path))
    x = ids(4)
    for route in ("a", "c", "a", ["a", "b", "c", "b"], "b"):
        outs = []
        for each in (routed, *models):
            with each.route(route):
                outs.append(each.model(x).logits)
        assert torch.equal(outs[0], outs[1])
        assert torch.equal(outs[0], outs[2])
        for bank in models[0].banks.values():
            here = [name for name in bank.names if not any(p.is_meta for p in bank.expert(name).parameters())]
            assert 1 <= len(here) <= resident
    assert models[0].save_task("a", tmp_path / "again").read_bytes() == before[0]
    assert models[0].train_task("c")[0].device.type == "cpu"  # what trains stays
    for route in ("a", "b", "c"):
        with models[0].route(route), routed.route(route):
            assert torch.equal(models[0].model(x).logits, routed.model(x).logits)
    models[0].load_task("b", models[0].state_dict_for("c"))
    models[0].remove_task("a")
    assert models[0].names == ("c", "b")
    with models[0].route("b"), routed.route("c"):
        assert torch.equal(models[0].model(x).logits, routed.model(x).logits)


@pytest.mark.parametrize("form", FORMS)
def test_lazily_opened_experts_follow_their_model(form: str, tmp_path: Path) -> None:
    routed = shuffled(attach_experts(decoder(), expert=FORMS[form]), "a", "b")
    for name in routed.names:
        routed.save_task(name, tmp_path)
        routed.remove_task(name)
    routed.open_tasks(tmp_path, ["a", "b"])
    x = ids()
    with routed.route("b"):
        routed.model(x)
    routed.model.to("cpu").double()
    with routed.route(["a", "b", "a"]):
        assert routed.model(x).logits.dtype is torch.float64
    assert routed.names == ("a", "b")


def test_low_rank_files_hold_the_factors_alone(tmp_path: Path) -> None:
    routed = attach_experts(decoder(), expert=partial(LowRankExpert, rank=2))
    routed.add_task("a")
    own = load_file(routed.save_task("a", tmp_path))
    assert sum(value.numel() for value in own.values()) == 2 * 3 * 2 * (16 + 24)
    assert all(".factors." in name for name in own)


def test_files_that_do_not_fit_are_named_when_they_are_opened(tmp_path: Path) -> None:
    routed = shuffled(attach_experts(decoder()), "a")
    own = {name: value.clone() for name, value in routed.state_dict_for("a").items()}
    routed.save_task("a", tmp_path)
    odd = {**own, "more": torch.ones(1), "model.layers.0.mlp.up_proj.weight": torch.ones(2, 2)}
    del odd["model.layers.2.mlp.down_proj.weight"]
    save_file(odd, tmp_path / "expert_odd.safetensors")
    (tmp_path / "expert_cut.safetensors").write_bytes((tmp_path / "expert_a.safetensors").read_bytes()[:50])
    problems = (
        r"1 missing: model.layers.2.mlp.down_proj.weight; 1 unexpected: more; 1 of another shape: "
        r"model.layers.0.mlp.up_proj.weight \(2, 2\) instead of \(24, 16\)"
    )
    for names, message in {
        ("b", "c"): r"2 expert files are missing: .*expert_b.safetensors, .*expert_c.safetensors",
        ("odd",): rf"expert_odd.safetensors does not fit: {problems}",
        ("cut",): "expert_cut.safetensors: no safetensors file, or cut short",
        ("a",): "there is a task 'a' already",
    }.items():
        with pytest.raises(ValueError, match=message):
            routed.open_tasks(tmp_path, names)
    with pytest.raises(ValueError, match="resident must be at least 1"):
        routed.open_tasks(tmp_path, ["a"], resident=0)
    with pytest.raises(ValueError, match=rf"expert 'a' does not fit: {problems}"):
        routed.load_task("a", odd)
    assert routed.names == ("a",)
    assert all(torch.equal(value, own[name]) for name, value in routed.state_dict_for("a").items())


def test_training_costs_the_current_expert_alone() -> None:
    routed = attach_experts(decoder())
    for task in ("a", "b", "c", "d"):
        routed.add_task(task)
        parameters = routed.train_task(task)
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        before = {name: value.clone() for name, value in routed.model.state_dict().items()}
        x = ids()
        with routed.route(task):
            routed.model.train()(x, labels=x).loss.backward()
        optimizer.step()
        held = sum(value.nbytes for state in optimizer.state.values() for value in state.values() if value.dim())
        expert = sum(value.nbytes for value in routed.state_dict_for(task).values())
        gradients = sum(p.grad.nbytes for p in routed.model.parameters() if p.grad is not None)
        assert held == 2 * expert
        assert gradients == expert
        changed = {name for name, value in routed.model.state_dict().items() if not torch.equal(value, before[name])}
        own = {f"{place}.experts.{task}.{n}" for place, b in routed.banks.items() for n in b.expert(task).state_dict()}
        assert changed == own
        routed.model.zero_grad()
    record("training: bytes of gradients over bytes of one expert, with 4 experts", gradients / expert)
    record("training: bytes of optimizer state over bytes of one expert, with 4 experts", held / expert)


@pytest.mark.parametrize("count", [4, 32])
def test_evaluating_holds_one_expert_however_many_there_are(count: int, tmp_path: Path) -> None:
    names = [f"task_{position}" for position in range(count)]
    writer = shuffled(attach_experts(decoder()), "task_0")
    expert = sum(value.nbytes for value in writer.state_dict_for("task_0").values())
    for name in names:
        save_file(
            {key: value + len(name) for key, value in writer.state_dict_for("task_0").items()},
            tmp_path / f"expert_{name}.safetensors",
        )
    routed = attach_experts(decoder())
    routed.open_tasks(tmp_path, names)
    base = sum(value.nbytes for value in routed.base_state_dict().values())

    def live() -> int:
        return sum(p.nbytes for p in routed.model.parameters() if not p.is_meta) - base

    assert live() == 0  # nothing is read before it is routed to
    most = 0
    for name in names:
        with routed.route(name):
            routed.model(ids())
        most = max(most, live())
    assert most == expert
    record(f"evaluating: bytes of experts in memory over bytes of one, with {count} experts", most / expert)
