"""Attention over prompts that stand before the keys and values, without prepending them."""

from avexperts.ops._prefix_attention._choice import prefix_attention as prefix_attention
