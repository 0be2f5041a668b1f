"""Names that must differ from each other."""


class UniqueNames:
    """Gives each name once; one that was given before gets a number. The same names in the same order give the same.

    Args:
        limit: The length of a name in characters.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._given: set[str] = set()
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """The name, or where it is taken another one made of it."""
        base = found = name[: self._limit]
        number = self._next.get(base, 1)
        while found in self._given:
            number += 1
            end = f"_{number}"
            found = base[: self._limit - len(end)] + end
        self._next[base] = number
        self._given.add(found)
        return found
