from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def processes() -> PartialState:
    """Tell which of how many processes this is; ``torchrun`` and ``accelerate launch`` start several.

    Returns:
        accelerate's state: ``is_main_process``, ``process_index``, ``num_processes``, ``main_process_first()``, ...

    Example:
        >>> processes().num_processes, processes().is_main_process
        (1, True)
    """
    # without a GPU accelerate has to be told, or each process believes to be alone
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
