"""Texts of others, made safe to show."""


def printable(text: str) -> str:
    """Text without control characters, so that nobody's content can steer a terminal or turn what stands beside it around."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
