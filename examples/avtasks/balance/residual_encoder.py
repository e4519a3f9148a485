from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .basic_block import BasicBlock


class ResidualEncoder(nn.Module):
    """One branch of the published experiments: a ResNet-18 trained from scratch, or a smaller net of its kind.

    Peng et al., CVPR 2022, and Wei et al., TPAMI 2024 (OPM and OGM): ``conv1``, ``bn1`` and ``layer1`` to ``layer4``
    as in their files; the mean over all places, and over all frames of a clip, is the branch's feature. Convolutions
    start at He's normal distribution over the fan-out.

    Args:
        channels: 1 for a spectrogram, 3 for pictures, 2 for optical flow.
        widths: Of the four stages; all but the first halve height and width.
        depth: Blocks of each stage.
        stem: Kernel of the first convolution, of stride 2; pooling by 2 follows where it is 7.

    Attributes:
        width: Of the feature.

    Example:
        >>> import torch
        >>> ResidualEncoder(3)(torch.randn(2, 3, 3, 32, 32)).shape  # clips of three frames
        torch.Size([2, 512])
        >>> ResidualEncoder(1, (16, 32, 64, 128), depth=1, stem=3)(torch.randn(2, 1, 24, 31)).shape
        torch.Size([2, 128])
    """

    def __init__(
        self, channels: int, widths: Sequence[int] = (64, 128, 256, 512), *, depth: int = 2, stem: int = 7
    ) -> None:
        super().__init__()
        first, self.width = widths[0], widths[-1]
        self.conv1 = nn.Conv2d(channels, first, stem, stride=2, padding=stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if stem == 7 else nn.Identity()
        before = first
        for number, width in enumerate(widths, start=1):
            blocks = [BasicBlock(before, width, stride=1 if number == 1 else 2)]
            blocks += [BasicBlock(width, width) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            before = width
        self.stages = len(widths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Encode a batch.

        Args:
            x: ``(B, channels, H, W)``, or clips of frames ``(B, channels, T, H, W)``.

        Returns:
            ``(B, width)``.
        """
        clips = len(x)
        if x.ndim == 5:
            x = x.transpose(1, 2).flatten(0, 1)
        x = self.pool(self.bn1(self.conv1(x)).relu())
        for number in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.unflatten(0, (clips, -1)).mean((1, 3, 4))
