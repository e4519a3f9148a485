"""One process or many: what accelerate is told, and how a model is spread over processes."""

from __future__ import annotations

from typing import Literal

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from .processes import processes
from .recipe import Recipe

WRAPPING_LAUNCHES = ("DEEPSPEED", "FSDP", "MEGATRON_LM")


def start_accelerator(recipe: Recipe) -> Accelerator:
    """Find out how the program was launched: alone, by ``torchrun`` or by ``accelerate launch``.

    Args:
        recipe: ``precision`` and ``parallel`` are read.

    Raises:
        ValueError: The launcher or the device cannot do what the recipe asks for.

    Example:
        >>> start_accelerator(Recipe()).num_processes
        1
    """
    device = processes().device  # asked first: it tells accelerate whether there is a GPU
    if recipe.precision == "fp16" and device.type == "cpu":
        raise ValueError("precision 'fp16' needs a GPU; on a CPU take 'bf16' or 'no'")
    if recipe.precision == "fp16" and recipe.parallel == "fsdp":
        raise ValueError("precision 'fp16' is not made for sharded weights (parallel 'fsdp'); take 'bf16'")
    AcceleratorState._reset_state()  # it holds one precision per program, but each model has a recipe of its own
    accelerator = Accelerator(mixed_precision=recipe.precision)
    if accelerator.distributed_type.name in WRAPPING_LAUNCHES:
        raise ValueError(
            f"launched for {accelerator.distributed_type.name}; launch plainly (torchrun, or accelerate launch "
            "--multi_gpu) and choose parallel 'ddp' or 'fsdp' in the recipe"
        )
    return accelerator


def distribute(accelerator: Accelerator, model: nn.Module, parallel: Literal["ddp", "fsdp"]) -> nn.Module:
    """Bring a model to its device, in its precision, and spread what is trainable over the processes.

    Frozen parameters stay as every process has them: they are neither sent nor sharded.

    Args:
        accelerator: From :func:`start_accelerator`.
        model: To be trained.
        parallel: As in :class:`Recipe`.

    Returns:
        What is to be called for training.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> distribute(start_accelerator(Recipe()), model, "ddp") is model
        True
    """
    if accelerator.num_processes == 1:
        return accelerator.prepare_model(model)
    frozen = {name: p for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    if parallel == "fsdp":
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        # one group for all: adapters are small beside the towers, and their gradients and moments are what costs
        model = fully_shard(
            model.to(accelerator.device), mesh=mesh, reshard_after_forward=True, ignored_params=set(frozen.values())
        )
        return accelerator.prepare_model(model, evaluation_mode=True)
    # what changes is shared before it is saved or scored; sending all of the towers' in every step would be costly
    buffers = [name for name, _ in model.named_buffers(remove_duplicate=False)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, [*frozen, *buffers])
    return accelerator.prepare_model(model)
