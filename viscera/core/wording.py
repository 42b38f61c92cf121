"""Small parts of sentences: numbers of things (`1 case was`, `2 cases were`), and their end."""


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 processes`, `1,000 voxels`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def agreeing(number: int, one: str = "is", several: str = "are") -> str:
    """The verb of so many things."""
    return one if number == 1 else several


def sentence(text: str) -> str:
    """With a full stop at its end, unless it asks something."""
    return text if text.endswith(("?", ".")) else f"{text}."
