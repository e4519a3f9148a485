from __future__ import annotations


class CheckpointError(ValueError):
    """A stored adapter is damaged, of another version, or does not fit the model it is loaded into.

    Every failure of :func:`save_adapters`, :func:`load_adapters` and the three methods of :class:`LockStep` that
    build on them is this one error, and nothing has been changed when it is raised.

    Example:
        >>> from avexperts import LockStep
        >>> try:
        ...     LockStep.from_pretrained("no-such-folder", vision=None)
        ... except CheckpointError as error:
        ...     print(error)
        no-such-folder: there is no such folder, and a repository on the Hub is named OWNER/NAME
    """
