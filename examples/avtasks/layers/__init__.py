"""Layers that the heads of several tasks are made of."""

from .attention_block import AttentionBlock as AttentionBlock
from .attention_stack import AttentionStack as AttentionStack
