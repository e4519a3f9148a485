class LockStepGraphBreak(RuntimeError):  # noqa: N818 (the cause is a break, and users search for that word)
    """Compilation left the graph while streams were running; the message names the cause."""
