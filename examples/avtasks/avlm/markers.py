"""Ids that stand for media in a prompt, below all words; ``IGNORED`` labels are not learnt."""

IMAGE, AUDIO, VIDEO = -200, -300, -400
IGNORED = -100
MARKERS = {"<image>": IMAGE, "<audio>": AUDIO, "<video>": VIDEO}
