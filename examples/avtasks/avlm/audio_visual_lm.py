from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from avtasks.media import resample
from torch import Tensor, nn

from .audio_tower import AudioTower
from .frame_mean_projector import FrameMeanProjector
from .generated import answer_ids, to_the_right
from .query_aligner import QueryAligner
from .splice import Spliced, splice
from .text_feature import text_feature
from .vision_tower import VisionTower

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast


class AudioVisualLM(nn.Module):
    """A causal language model that sees and hears through frozen towers.

    The way of a clip: towers (:meth:`sense`, never trained, once per clip), projector and aligner (:meth:`project`),
    the language model (:meth:`forward`, :meth:`generate`). A batch holds whichever of the three stages is at hand:

    - media: ``"video"`` ``(B, F, 3, h, w)``, ``"image"`` ``(B, 3, h, w)``, ``"audio"`` ``(B, chunks, ...)`` as the
      towers prepare them, with ``"audio lengths"`` and ``"audio chunks"`` ``(B, chunks)``: samples of sound, and to
      which of the clip's sounds a chunk belongs, from 1 (0: none); both may be absent where all chunks are full;
    - what the towers say: ``"video hidden"`` ``(B, F, N, Dv)``, ``"image hidden"``, ``"audio hidden"``
      ``(B, chunks, N, Da)``, ``"audio valid"`` ``(B, chunks, N)``;
    - tokens: ``"video tokens"`` ``(B, N, H)``, ``"image tokens"``, ``"audio tokens"`` ``(B, chunks * Q, H)``.

    ``"video mask"`` and ``"image mask"`` ``(B,)`` say which rows have them, where not all do. Other entries are left
    alone. Each part keeps its dtype; what it is given is cast to it.

    Args:
        language: A causal language model of transformers.
        vision: Sees videos and images.
        audio: Hears.
        projector: From frames to tokens; :class:`FrameMeanProjector` of two layers by default.
        aligner: From chunks of sound to tokens; :class:`QueryAligner` of BLIP-2's size by default.
        exclude_padding: Leave padding inside chunks out of the audio feature; published features include it.

    Example:
        >>> from avtasks.avlm import open_vision_tower, tiny_language_model, word_tokenizer
        >>> language = tiny_language_model(word_tokenizer(["Who?"]), width=24, layers=1)
        >>> model = AudioVisualLM(language, vision=open_vision_tower("clip:none"))
        >>> item = model.prepare(frames=torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
        >>> ids = torch.tensor([[1, -400, 6]])
        >>> out = model({"input_ids": ids, "video": item["video"][None]})
        >>> out.logits.shape
        torch.Size([1, 6, 7])
    """

    def __init__(
        self,
        language: PreTrainedModel,
        *,
        vision: VisionTower | None = None,
        audio: AudioTower | None = None,
        projector: nn.Module | None = None,
        aligner: nn.Module | None = None,
        exclude_padding: bool = False,
    ) -> None:
        super().__init__()
        width = language.get_input_embeddings().weight.shape[1]
        self.language, self.vision, self.audio = language, vision, audio
        self.projector = projector if projector or not vision else FrameMeanProjector(vision.width, width)
        self.aligner = aligner if aligner or not audio else QueryAligner(audio.width, width)
        self.exclude_padding = exclude_padding
        self.eval()

    def train(self, mode: bool = True) -> AudioVisualLM:
        """Set the mode of what is trained; what is frozen stays in eval mode.

        Args:
            mode: Train.
        """
        super().train(mode)
        for part in (self.projector, self.aligner, self.language):
            if part is not None and not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def prepare(
        self,
        frames: Tensor | None = None,
        waveforms: Tensor | Sequence[Tensor] | None = None,
        image: Tensor | None = None,
        *,
        sample_rate: int | None = None,
    ) -> dict[str, Tensor]:
        """Make the media of one clip what the towers take.

        Args:
            frames: ``(F, H, W, 3)`` uint8.
            waveforms: ``(samples,)``, or several of them.
            image: ``(H, W, 3)`` uint8.
            sample_rate: Of the waveforms in Hz; the audio tower's by default.

        Returns:
            An item for :func:`collate`.

        Raises:
            ValueError: There is no tower for them, or they are malformed.
        """
        item = {}
        if frames is not None:
            item["video"] = self._need("vision", "video").prepare(frames)
        if image is not None:
            item["image"] = self._need("vision", "image").prepare(torch.as_tensor(image)[None])[0]
        sounds = [waveforms] if isinstance(waveforms, Tensor) else list(waveforms or ())
        if sounds:
            tower = self._need("audio", "audio")
            sounds = [resample(sound, sample_rate or tower.sample_rate, tower.sample_rate) for sound in sounds]
            lengths = [tower.lengths(len(sound)) for sound in sounds]
            item["audio"] = torch.cat([tower.prepare(sound) for sound in sounds])
            item["audio lengths"] = torch.cat(lengths)
            item["audio chunks"] = torch.cat([torch.full_like(length, file + 1) for file, length in enumerate(lengths)])
        return item

    @torch.no_grad()
    def sense(self, media: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the frozen towers.

        Args:
            media: A batch; towers whose medium is absent do not run.

        Returns:
            What the towers say, the masks, and the features that samples are routed by: ``"video feature"``,
            ``"image feature"`` ``(B, Dv)`` and ``"audio feature"`` ``(B, Da)``, means over tokens.
        """
        out = {name: media[name] for name in ("video mask", "image mask") if name in media}
        if "video" in media:
            out["video hidden"] = self._need("vision", "video")(media["video"])
        if "image" in media:
            out["image hidden"] = self._need("vision", "image")(media["image"][:, None])
        for name in ("video", "image"):
            if f"{name} hidden" in out:
                out[f"{name} feature"] = out[f"{name} hidden"].mean((1, 2))
        if "audio" in media:
            out |= self._hear(media)
        return out

    def project(self, sensed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn what the towers say into tokens of the language model.

        Args:
            sensed: Of :meth:`sense`.

        Returns:
            ``"video tokens"``, ``"image tokens"``, ``"audio tokens"``, and the masks; with gradients where projector
            or aligner take them.
        """
        out = {name: sensed[name] for name in ("video mask", "image mask", "audio chunks") if name in sensed}
        for name in ("video", "image"):
            if f"{name} hidden" in sensed:
                out[f"{name} tokens"] = self.projector(_as(self.projector, sensed[f"{name} hidden"]))
        if "audio hidden" in sensed:
            chunks, valid = _as(self.aligner, sensed["audio hidden"]), sensed.get("audio valid")
            read = self.aligner(chunks.flatten(0, 1), None if valid is None else _some(valid.flatten(0, 1)))
            out["audio tokens"] = read.unflatten(0, chunks.shape[:2]).flatten(1, 2)
        return out

    @torch.no_grad()
    def perceive(self, media: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run towers, projector and aligner: all that a frozen stack has to compute once per clip.

        Args:
            media: A batch.

        Returns:
            Tokens, masks and features.
        """
        sensed = self.sense(media)
        return self.project(sensed) | {name: value for name, value in sensed.items() if name.endswith("feature")}

    def splice(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        perceived: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Spliced:
        """Embed prompts, with media where their markers are; see :func:`splice`.

        Args:
            input_ids: ``(B, N)``, markers below zero.
            attention_mask: ``(B, N)``, or None where nothing is filling.
            perceived: Tokens and masks.
            labels: ``(B, N)``.

        Returns:
            The rows.

        Raises:
            ValueError: A row has a marker without media, or media without a marker.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        embeddings = self.language.get_input_embeddings()(input_ids.clamp(min=0))
        return splice(embeddings, input_ids, mask, perceived, labels)

    def forward(self, batch: Mapping[str, Tensor]) -> CausalLMOutputWithPast:
        """Predict the next tokens.

        Args:
            batch: ``"input_ids"`` ``(B, N)``, ``"attention_mask"``, ``"labels"`` to learn from, and media at any stage.

        Returns:
            ``logits`` ``(B, N', V)`` and, with labels, ``loss``: the mean cross-entropy over what is learnt.

        Raises:
            ValueError: A row has a marker without media, or media without a marker.
        """
        ids, mask, labels = batch["input_ids"], batch.get("attention_mask"), batch.get("labels")
        rows = self.splice(ids, mask, self._tokens(batch), labels)
        return self.language(inputs_embeds=rows.embeds, attention_mask=rows.mask, labels=rows.labels, use_cache=False)

    @torch.no_grad()
    def generate(self, batch: Mapping[str, Tensor], max_new_tokens: int = 16, **options: Any) -> list[list[int]]:
        """Answer questions, greedily unless told otherwise.

        Each answer is the one the question would get alone: rows are filled on the left, and counted from their first
        token.

        Args:
            batch: ``"input_ids"`` of :func:`encode_question`, ``"attention_mask"``, and media at any stage.
            max_new_tokens: At most.
            **options: More of transformers' ``GenerationConfig``, such as ``num_beams=4``.

        Returns:
            The ids of each answer, without its end.

        Raises:
            ValueError: A row has a marker without media, or media without a marker.
        """
        from transformers import GenerationConfig

        rows = to_the_right(self.splice(batch["input_ids"], batch.get("attention_mask"), self._tokens(batch)))
        # what a model's own settings say about sampling would make answers random
        plain = {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
        config = GenerationConfig(**{**plain, "repetition_penalty": 1.0, "max_new_tokens": max_new_tokens, **options})
        ends, pad = _ends(self.language), self.language.generation_config.pad_token_id
        config.eos_token_id, config.pad_token_id = ends or None, pad if pad is not None else (ends or [0])[0]
        new = self.language.generate(inputs_embeds=rows.embeds, attention_mask=rows.mask, generation_config=config)
        return [answer_ids(row, ends) for row in new.tolist()]

    def text_feature(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        text_span: Literal["all", "question"] = "all",
        count_pad: bool = False,
    ) -> Tensor:
        """The mean embedding of a prompt's words, which samples are routed by; see :func:`text_feature`.

        Args:
            input_ids: ``(B, N)``; markers are left out.
            attention_mask: ``(B, N)``, 0 at filling.
            labels: ``(B, N)``: what is learnt is no part of the question.
            text_span: ``"all"``, as published, or ``"question"``: what follows the last marker, without answers.
            count_pad: Count filling, as the published anchors do while training.

        Returns:
            ``(B, H)``.
        """
        embed = self.language.get_input_embeddings()
        return text_feature(embed, input_ids, attention_mask, labels=labels, text_span=text_span, count_pad=count_pad)

    def _hear(self, media: Mapping[str, Tensor]) -> dict[str, Tensor]:
        lengths, chunks = media.get("audio lengths"), media.get("audio chunks")
        hidden, valid = self._need("audio", "audio")(media["audio"], lengths)
        if chunks is None:
            chunks = valid.any(-1).long()
        counted = valid if self.exclude_padding else valid.any(-1, keepdim=True).expand_as(valid)
        weight = counted[..., None].to(hidden.dtype)
        feature = (hidden * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
        return {"audio hidden": hidden, "audio valid": valid, "audio chunks": chunks, "audio feature": feature}

    def _tokens(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Bring what the batch holds to the stage of tokens."""
        given = dict(batch)
        for name in ("video", "image", "audio"):
            if f"{name} tokens" in given:
                given.pop(f"{name} hidden", None)
            if f"{name} tokens" in given or f"{name} hidden" in given:
                given.pop(name, None)
        sensed = given | self.sense(given)
        return sensed | self.project(sensed)

    def _need(self, kind: str, medium: str) -> Any:
        tower = getattr(self, kind)
        if tower is None:
            raise ValueError(f"{medium} was given, but the model has no {kind} tower")
        return tower


def _as(module: nn.Module, value: Tensor) -> Tensor:
    return value.to(next(module.parameters()).dtype)


def _some(valid: Tensor) -> Tensor:
    """Let the queries read an empty chunk: its tokens are dropped, but they must be finite."""
    return valid | ~valid.any(-1, keepdim=True)


def _ends(language: PreTrainedModel) -> list[int]:
    found = language.generation_config.eos_token_id
    return [] if found is None else found if isinstance(found, list) else [found]
