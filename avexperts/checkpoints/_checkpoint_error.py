from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint is damaged, of another version, or does not fit what it is loaded into; or it cannot be written.

    The one error of saving, loading, sharing and converting. The model is as it was when this is raised.

    Example:
        >>> from avexperts import LockStep
        >>> try:
        ...     LockStep.from_pretrained("no-such-folder", vision=None)
        ... except CheckpointError as error:
        ...     print(error)
        no-such-folder: there is no such folder, and a repository on the Hub is named OWNER/NAME
    """
