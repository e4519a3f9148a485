"""Self-attention without parameters, in memory linear in the tokens.

``"gather"`` is what every attention kernel computes. ``"scatter"`` normalises over the tokens that receive, which none
does: blocks of rows, each recomputed in backward, cost two products forward and five backward, as attention does.
"""

from avexperts.ops._token_self_mixing._choice import token_self_mixing as token_self_mixing
