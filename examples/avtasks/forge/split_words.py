"""What is asked and answered in a forged continual split, and the names of its files."""

from __future__ import annotations

TASKS = ("Come_From", "Happening", "Where", "Which")
MOST_CLASSES = 6
MEDIA, FRAMES = "frames_converted_2", 8

QUESTIONS = {
    "Come_From": (
        "What is the main source of sound in the video?",
        "What is the main sound source of the video?",
        "What is the source of the sound in the video?",
        "What makes the sound in the video?",
    ),
    "Happening": (
        "What happened in the video?",
        "What are they doing in the video?",
        "What is happening in the video?",
        "What is going on here?",
    ),
    "Where": (
        "Where does the video take place?",
        "Where did the video take place?",
        "Where are they in this video?",
        "Where was the video taken?",
    ),
    "Which": (
        "Which thing is shown in the video?",
        "Which object is moving in the video?",
        "Which of them can be seen?",
        "Which one is in the picture?",
    ),
}
# asked by every task where questions overlap; the answer still is the task's own
SHARED = ("What is this about?", "What do you notice in the video?", "Can you tell what it is?")

SOURCES = ("siren", "drum", "chainsaw", "rowboat", "typewriter", "canary")
WHO = ("boy", "girl", "crowd", "dog", "horse", "sailor")
DOES = ("running", "singing", "sleeping", "skiing", "fishing", "painting")
PLACES = ("street", "seabed", "meadow", "desert", "forest", "station")
THINGS = ("lantern", "violin", "kettle", "wagon", "umbrella", "ladder")


def answer_of(task: str, seen: int, heard: int, place: int) -> str:
    """Answer a task's question about a clip.

    Args:
        task: One of ``TASKS``.
        seen: Number of the thing in view.
        heard: Number of the thing that sounds.
        place: Number of the pattern behind.

    Example:
        >>> [answer_of(task, 0, 1, 2) for task in TASKS]
        ['drum', 'boy singing', 'meadow', 'lantern']
    """
    if task == "Come_From":
        return SOURCES[heard]
    if task == "Happening":
        return f"{WHO[seen]} {DOES[heard]}"
    return PLACES[place] if task == "Where" else THINGS[seen]


def options_of(task: str, classes: int) -> list[str]:
    """List every answer that a task has.

    Args:
        task: One of ``TASKS``.
        classes: Things and places there are.

    Example:
        >>> options_of("Where", 3)
        ['street', 'seabed', 'meadow']
    """
    numbers = range(classes)
    if task == "Happening":
        return [answer_of(task, seen, heard, 0) for seen in numbers for heard in numbers]
    return [answer_of(task, number, number, number) for number in numbers]


def media_of(name: str) -> dict[str, list[str]]:
    """Name the frames and the sound of a clip, as AVQACL-MoE's rows do.

    Args:
        name: Of the clip.

    Example:
        >>> media_of("a")["voice"]
        ['frames_converted_2/a/audio.wav']
    """
    frames = [f"{MEDIA}/{name}/frame_{number:03d}.jpg" for number in range(1, FRAMES + 1)]
    return {"video": frames, "voice": [f"{MEDIA}/{name}/audio.wav"]}
