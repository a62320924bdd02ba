"""Globs over paths, matched a segment at a time and in time linear in the path's length."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tar_gateway.http.paths import BadName

State = frozenset[int]
"""The places of a glob that a path has come to."""


class Glob:
    """``*`` and ``?`` stay within a segment; ``**``, alone in its segment, crosses any number.

    A slash at the end stands for all below. Raise `BadName` for what can match nothing.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise BadName("is empty")
        segments = text.split("/")
        if not segments[-1]:
            segments[-1] = "**"
        if not all(segments) or {".", ".."} & set(segments):
            raise BadName("contains an empty segment, '.' or '..'")
        if any("**" in segment and segment != "**" for segment in segments):
            raise BadName("contains '**' beside other characters: it stands alone between slashes")
        self._segments = [None if each == "**" else _matcher(each) for each in segments]
        self.start: State = self._spread({0})

    def step(self, state: State, segment: str) -> State:
        """Return where a path comes to with one more segment."""
        reached = set()
        for place in state:
            if place < len(self._segments):
                matcher = self._segments[place]
                if matcher is None:
                    reached.add(place)
                elif matcher.fullmatch(segment):
                    reached.add(place + 1)
        return self._spread(reached)

    def matches(self, state: State) -> bool:
        """Return whether the path so far is matched."""
        return len(self._segments) in state

    def matches_below(self, state: State) -> bool:
        """Return whether anything below the path so far may be matched."""
        return any(place < len(self._segments) for place in state)

    def _spread(self, places: Iterable[int]) -> State:
        reached = set()
        for start in places:
            place = start
            reached.add(place)
            while place < len(self._segments) and self._segments[place] is None:
                place += 1
                reached.add(place)
        return frozenset(reached)


def _matcher(segment: str) -> re.Pattern[str]:
    # The first place where what follows a star fits is as good as any later one, so that nothing
    # is ever taken back: that is what an atomic group says.
    parts = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", segment)]
    first, *others = parts
    if not others:
        return re.compile(first, re.DOTALL)
    *inner, last = others
    found = "".join(f"(?>.*?{part})" for part in inner if part)
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the globs of a bundle are with one path."""

    include: tuple[State, ...]
    exclude: tuple[State, ...]


class Filter:
    """What is taken of directories: all that ``include`` matches, less what ``exclude`` does."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [Glob(text) for text in include]
        self._exclude = [Glob(text) for text in exclude]
        self.start = Place(
            tuple(glob.start for glob in self._include), tuple(glob.start for glob in self._exclude)
        )

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self._include or self._exclude)

    def step(self, place: Place, segment: str) -> Place:
        """Return the place of a path with one more segment."""
        return Place(
            tuple(g.step(s, segment) for g, s in zip(self._include, place.include, strict=True)),
            tuple(g.step(s, segment) for g, s in zip(self._exclude, place.exclude, strict=True)),
        )

    def takes(self, place: Place) -> bool:
        """Return whether a file, or an empty directory, is taken."""
        included = not self._include or any(map(Glob.matches, self._include, place.include))
        return included and not any(map(Glob.matches, self._exclude, place.exclude))

    def looks_below(self, place: Place) -> bool:
        """Return whether a directory may hold anything that is taken.

        A directory that ``exclude`` matches is left out with all that it holds.
        """
        included = not self._include or any(map(Glob.matches_below, self._include, place.include))
        return included and not any(map(Glob.matches, self._exclude, place.exclude))
