"""Prompts: pools, prefixes and generators, shared by all tasks or one task's own."""

from avexperts.prompts._attention_prompt_pool import AttentionPromptPool as AttentionPromptPool
from avexperts.prompts._attention_prompt_pool import AttentionPrompts as AttentionPrompts
from avexperts.prompts._context_prompt_learner import ContextPromptLearner as ContextPromptLearner
from avexperts.prompts._dynamic_prompt_generator import DynamicPromptGenerator as DynamicPromptGenerator
from avexperts.prompts._homeostatic_prompt import HomeostaticPrompt as HomeostaticPrompt
from avexperts.prompts._memory_prompt_generator import MemoryPromptGenerator as MemoryPromptGenerator
from avexperts.prompts._plastic_prompt import PlasticPrompt as PlasticPrompt
from avexperts.prompts._prefix_attention import prefix_attention as prefix_attention
from avexperts.prompts._prefix_prompt import PrefixPrompt as PrefixPrompt
from avexperts.prompts._prefix_prompt_pool import PrefixPromptPool as PrefixPromptPool
from avexperts.prompts._progressive_prompt_stack import ProgressivePromptStack as ProgressivePromptStack
from avexperts.prompts._prompt_gate import PromptGate as PromptGate
from avexperts.prompts._prompt_pool import PromptPool as PromptPool
from avexperts.prompts._prompt_selection import PromptSelection as PromptSelection
from avexperts.prompts._spectrogram_border_prompt import spectrogram_border_prompt as spectrogram_border_prompt
from avexperts.prompts._token_grid_prompt import TokenGridPrompt as TokenGridPrompt

__all__ = [
    "AttentionPromptPool",
    "AttentionPrompts",
    "ContextPromptLearner",
    "DynamicPromptGenerator",
    "HomeostaticPrompt",
    "MemoryPromptGenerator",
    "PlasticPrompt",
    "PrefixPrompt",
    "PrefixPromptPool",
    "ProgressivePromptStack",
    "PromptGate",
    "PromptPool",
    "PromptSelection",
    "TokenGridPrompt",
    "prefix_attention",
    "spectrogram_border_prompt",
]
