"""The question templates of MUSIC-AVQA (Li et al., CVPR 2022), and what each asks about."""

from __future__ import annotations

# Every modality and kind of question, in the order that result tables have them.
TYPES = (
    "Audio Counting",
    "Audio Comparative",
    "Visual Counting",
    "Visual Location",
    "Audio-Visual Existential",
    "Audio-Visual Counting",
    "Audio-Visual Location",
    "Audio-Visual Comparative",
    "Audio-Visual Temporal",
)

_BY_TYPE = {
    "Audio Counting": (
        "Are there <Object> and <Object> sound",
        "How many musical instruments were heard throughout the video",
        "Is there a <Object> sound",
    ),
    "Audio Comparative": (
        "Is the <Object> louder than the <Object>",
        "Is the <Object> more rhythmic than the <Object>",
        "Is the <Object> playing longer than the <Object>",
    ),
    "Visual Counting": (
        "Are there <Object> and <Object> instruments in the video",
        "How many <Object> are in the entire video",
        "How many types of musical instruments appeared in the entire video",
        "Is there a <Object> in the entire video",
    ),
    "Visual Location": (
        "What is the instrument on the <LR> of <Object>",
        "What kind of instrument is the <LRer> instrument",
        "What kind of musical instrument is it",
        "Where is the performance",
    ),
    "Audio-Visual Existential": (
        "Is the <Object> in the video always playing",
        "Is there a voiceover",
        "Is this sound from the instrument in the video",
    ),
    "Audio-Visual Counting": (
        "How many instruments are sounding in the video",
        "How many instruments in the video did not sound from beginning to end",
        "How many sounding <Object> in the video",
        "How many types of musical instruments sound in the video",
    ),
    "Audio-Visual Location": (
        "Is the <FL> sound coming from the <LR> instrument",
        "What is the <LR> instrument of the <FL> sounding instrument",
        "Where is the <LL> instrument",
        "Which is the musical instrument that sounds at the same time as the <Object>",
    ),
    "Audio-Visual Comparative": (
        "Is the <Object> on the <LR> louder than the <Object> on the <LR>",
        "Is the <Object> on the <LR> more rhythmic than the <Object> on the <LR>",
        "Is the instrument on the <LR> louder than the instrument on the <LR>",
        "Is the instrument on the <LR> more rhythmic than the instrument on the <LR>",
    ),
    "Audio-Visual Temporal": (
        "What is the <TH> instrument that comes in",
        "Where is the <FL> sounding instrument",
        "Which <Object> makes the sound <FL>",
        "Which instrument makes sounds <BA> the <Object>",
    ),
}

# The type of every template, without its question mark, which is a full-width one in some.
TEMPLATES = {template: kind for kind, templates in _BY_TYPE.items() for template in templates}
