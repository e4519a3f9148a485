from __future__ import annotations

import torch
from avtasks.model import pooled_tokens
from torch import Tensor, nn

import avexperts as ax

from .grouping import Grouping
from .output import AVVPOutput
from .transformer_block import TransformerBlock


class MGNHead(nn.Module):
    """The head of the AVVP papers: class tokens group the segments of each stream, then of both.

    Multi-modal Grouping Network (Mo and Tian, NeurIPS 2022), as AVMoE puts it on its towers, but for batches of
    any number of clips.

    Args:
        vision_dim: Width of the pooled vision tokens.
        audio_dim: Width of the pooled audio tokens.
        motion_dim: Width of the features of a video network (R(2+1)D), 512 in the papers; 0 for none.
        num_classes: Number C of events.
        dim: Working width D.
        segments: Number T of segments of a clip.
        depths: Blocks before the grouping of audio, of vision, and of both.
        heads: Attention heads.
        drop_path: Probability with which a clip skips a branch of a block.
        assignment: ``"soft"``: classes share the segments, ``"hard"``: each segment goes to one class. Audio
            segments are first grouped by the visual ones, in the other way, as in the papers' code.
        token_std: Standard deviation of the class tokens at the start, 0 in the papers.

    Example:
        >>> head = MGNHead(20, 12, num_classes=6, dim=16, depths=(1, 1, 1))
        >>> features = {"vision": torch.ones(3, 10, 20), "audio": torch.ones(3, 10, 12)}
        >>> head(features, {}).predictions()[0].shape
        torch.Size([3, 10, 6])
    """

    def __init__(
        self,
        vision_dim: int = 1536,
        audio_dim: int = 768,
        *,
        motion_dim: int = 0,
        num_classes: int = 25,
        dim: int = 128,
        segments: int = 10,
        depths: tuple[int, int, int] = (3, 3, 6),
        heads: int = 8,
        drop_path: float = 0.1,
        assignment: str = "soft",
        token_std: float = 0.0,
    ) -> None:
        super().__init__()
        if assignment not in ("soft", "hard"):
            raise ValueError(f"assignment must be soft or hard, got {assignment!r}")
        self.hard = assignment == "hard"
        self.audio_in = nn.Linear(audio_dim, dim)
        self.vision_in = nn.Linear(vision_dim, dim)
        self.motion_in = nn.Linear(motion_dim, dim) if motion_dim else None
        self.fusion = nn.Linear(2 * dim, dim) if motion_dim else None

        def blocks(depth: int) -> nn.Sequential:
            return nn.Sequential(*(TransformerBlock(dim, heads=heads, drop_path=drop_path) for _ in range(depth)))

        self.audio_blocks, self.vision_blocks, self.joint_blocks = (blocks(depth) for depth in depths)
        self.alignment = Grouping(dim, segments, heads=heads, hard=not self.hard)
        self.audio_grouping = Grouping(dim, num_classes, heads=heads, hard=self.hard)
        self.vision_grouping = Grouping(dim, num_classes, heads=heads, hard=self.hard)
        self.joint_grouping = Grouping(dim, num_classes, heads=heads, hard=self.hard)
        self.clip_out, self.audio_out, self.visual_out = (nn.Linear(dim, 1) for _ in range(3))
        self.class_out = nn.Linear(dim, num_classes)
        self.apply(_initialise)
        self.audio_classes = nn.Parameter(torch.randn(num_classes, dim) * token_std)
        self.visual_classes = nn.Parameter(torch.randn(num_classes, dim) * token_std)

    def read(self, out: ax.LockStepOutput) -> dict[str, Tensor]:
        """Keep of the towers' tokens what this head needs: their mean.

        Args:
            out: Of the towers, ``vision`` ``(B, N, D)`` and ``audio`` likewise, B frames.

        Returns:
            ``vision`` and ``audio``, ``(B, D)`` each.
        """
        return pooled_tokens(out)

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor]) -> AVVPOutput:
        """Parse a batch of clips.

        Args:
            features: Pooled tokens ``vision`` ``(B, T, vision_dim)`` and ``audio`` ``(B, T, audio_dim)``.
            batch: With ``motion`` ``(B, T, motion_dim)`` where the head was built for it.

        Returns:
            Which events are in the clip, heard and seen, and when.
        """
        audio, vision = self.audio_in(features["audio"]), self.vision_in(features["vision"])
        if self.motion_in is not None:
            if "motion" not in batch:
                raise KeyError("this head was built with motion_dim, but the batch holds no 'motion' features")
            vision = self.fusion(torch.cat([vision, self.motion_in(batch["motion"])], dim=-1))
        heard, heard_classes = _together(self.audio_blocks, audio, self.audio_classes.expand(len(audio), -1, -1))
        seen, seen_classes = _together(self.vision_blocks, vision, self.visual_classes.expand(len(vision), -1, -1))
        heard = self.alignment(heard, vision)[0]
        heard, *audio_maps = self.audio_grouping(heard, heard_classes)
        seen, *visual_maps = self.vision_grouping(seen, seen_classes)
        both = self.joint_grouping(*_together(self.joint_blocks, heard, seen))[0]
        return AVVPOutput(
            self.clip_out(both).squeeze(-1),
            self.audio_out(heard).squeeze(-1),
            self.visual_out(seen).squeeze(-1),
            audio_maps[not self.hard].mT,
            visual_maps[not self.hard].mT,
            self.class_out(self.audio_classes),
            self.class_out(self.visual_classes),
        )


def _together(blocks: nn.Module, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Run blocks over both sequences as one."""
    return blocks(torch.cat([first, second], dim=1)).split([first.shape[1], second.shape[1]], dim=1)


def _initialise(module: nn.Module) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if isinstance(module, nn.LayerNorm):
            continue
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.trunc_normal_(parameter, std=0.02)
