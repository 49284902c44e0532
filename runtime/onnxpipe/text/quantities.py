"""Numbers and dates in text, and how they rank and compare: what table models are told of cells beside their words.

Reference: the number annotation of TAPAS in transformers 4.57.6. It parses dates with strptime, whose month names
follow the process's locale; here they are English whatever the locale is.
"""

import datetime
import math
import re
from collections.abc import Iterator, Sequence

Date = tuple[int | None, int | None, int | None]  # year, month, day
Value = float | Date
_Key = tuple[float, ...]

_NUMBER = re.compile(r"((^|\s)[+-])?((\.\d+)|(\d+(,\d\d\d)*(\.\d*)?))")
_WORD = re.compile(r"[^\W_]+")
_ORDINAL_SUFFIXES = ("st", "nd", "rd", "th")
_NUMBER_WORDS = {
    word: float(number)
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve",
        "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    )
    for number, word in enumerate(words.split())
}
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_MONTH_NUMBERS = {
    name: number for number, month in enumerate(_MONTHS.split("|"), start=1) for name in (month, month[:3])
}
_DATE_FIELDS = {
    "MONTH": f"(?P<month>{_MONTHS})",
    "MON": f"(?P<month>{'|'.join(sorted(_MONTH_NUMBERS, key=len, reverse=True))})",  # in full or in three letters
    "WEEKDAY": "(?:mon|tues|wednes|thurs|fri|satur|sun)day",
    "Y": r"(?P<year>\d{4})",
    "M": r"(?P<month>1[0-2]|0[1-9]|[1-9])",
    "D": r"(?P<day>3[01]|[12]\d|0[1-9]|[1-9])",
}
# by how many words they have: one, two, three
_DATES = tuple(
    [
        re.compile(re.sub("[A-Z]+", lambda field: _DATE_FIELDS[field[0]], layout.replace(" ", r"\s+")))
        for layout in layouts
    ]
    for layouts in (
        ("MONTH", "Ys?"),
        ("MON Y", "MON D", "D MON", "Y-M"),
        ("MON D, Y", "D MON Y", "M-D-Y", "Y-M-D", r"D\.M\.Y", "WEEKDAY, MON D"),
    )
)
_DIGIT = re.compile(r"\d")
_NAMES = frozenset([*_NUMBER_WORDS, *_MONTHS.split("|")])
_YEARS = range(1700, 2017)
# what strptime assumes, and why 29 February is no date without a year
_YEAR_WHEN_ABSENT = 1900

# the share of a column's cells that must hold a kind of value for the column to be of that kind
_COLUMN_SHARE = 0.7


def find_values(text: str) -> list[Value]:
    """The numbers and dates of a text in order; of overlapping readings the longest, "2005" being both of them."""
    text = " ".join(text.lower().split())
    if text.isdecimal() and len(text) != 4:  # the most frequent case, if no year
        number = _number(text)
        return [] if number is None else [number]
    if not _may_have_values(text):
        return []
    readings: dict[tuple[int, int], list[Value]] = {}
    for span, value in _readings(text):
        readings.setdefault(span, []).append(value)
    found: list[Value] = []
    reach = 0
    for (_, end), values in sorted(readings.items(), key=lambda reading: (reading[0][0], -reading[0][1])):
        if end > reach:  # else it lies inside of a longer one
            reach = end
            found += values
    return found


def column_values(cells: Sequence[str]) -> list[Value | None]:
    """The value of each cell of a column of numbers or of dates; None for a cell without, and for all in other columns.

    A column is of the kind that most of its cells hold, of dates where both are as many, and of no kind when those are
    fewer than 70 %.
    """
    if not _may_have_values(" ".join(cells).lower()):
        return [None] * len(cells)
    # the first of each kind in each cell
    found: list[dict[type, Value]] = [{type(value): value for value in reversed(find_values(cell))} for cell in cells]
    column = min(([values.get(kind) for values in found] for kind in (tuple, float)), key=_count_absent)
    return [None] * len(cells) if len(cells) - _count_absent(column) < len(cells) * _COLUMN_SHARE else column


def ranks(values: Sequence[Value | None]) -> list[tuple[int, int]]:
    """Each value's place among the distinct ones from the smallest and from the largest, from 1; (0, 0) for None.

    All (0, 0) where the values cannot be compared.
    """
    keys = _keys([value for value in values if value is not None])
    places = {key: place for place, key in enumerate(sorted(set(keys)), start=1)}
    pairs = ((places[key], len(places) + 1 - places[key]) for key in keys)
    return [next(pairs) if value is not None and places else (0, 0) for value in values]


def relations(values: Sequence[Value | None], others: Sequence[Value]) -> list[int]:
    """How `others` compare to each value, as a sum: 1 one is equal to it, 2 smaller, 4 larger; 0 for None.

    Of the others, those count that can be compared with all the values.
    """
    codes = [0] * len(values)
    rows = [row for row, value in enumerate(values) if value is not None]
    present = [value for value in values if value is not None]
    for other in set(others) if present else ():
        *keys, own = _keys([*present, other]) or [()]
        for row, key in zip(rows, keys, strict=False):  # no keys: not comparable
            codes[row] |= 1 if own == key else 2 if own < key else 4
    return codes


def _may_have_values(text: str) -> bool:
    """Whether a text in lower case has a digit or a word for a number or a month; without, it has no value."""
    return bool(_DIGIT.search(text)) or not _NAMES.isdisjoint(_WORD.findall(text))


def _count_absent(values: Sequence[Value | None]) -> int:
    return values.count(None)


def _readings(text: str) -> Iterator[tuple[tuple[int, int], Value]]:
    """Every span of the text that reads as a number or a date, with its value."""
    numbers = set()
    for match in _NUMBER.finditer(text):
        if (number := _number(match[0])) is not None:
            numbers.add(match.span())
            yield match.span(), number
    words = [match.span() for match in _WORD.finditer(text)]
    for begin, end in words:
        if (begin, end) in numbers:
            continue
        word = text[begin:end]
        if (number := _NUMBER_WORDS.get(word, _number(word))) is not None:
            yield (begin, end), number
    for layouts, last_words in zip(_DATES, (words, words[1:], words[2:]), strict=True):
        for (begin, _), (_, end) in zip(words, last_words, strict=False):
            if (date := _date(text[begin:end], layouts)) is not None:
                yield (begin, end), date


def _number(text: str) -> float | None:
    digits = text[:-2] if text.endswith(_ORDINAL_SUFFIXES) else text
    try:
        number = float(digits.replace(",", ""))
    except ValueError:
        return None
    return None if math.isnan(number) or number == math.inf else number


def _date(text: str, layouts: Sequence[re.Pattern[str]]) -> Date | None:
    for layout in layouts:
        match = layout.fullmatch(text)
        if match is None:
            continue
        fields = match.groupdict()
        year = int(fields["year"]) if "year" in fields else None
        month = fields.get("month")
        number = None if month is None else _MONTH_NUMBERS.get(month) or int(month)
        day = int(fields["day"]) if "day" in fields else None
        if _exists(year, number, day):
            return year, number, day
    return None


def _exists(year: int | None, month: int | None, day: int | None) -> bool:
    if year is not None and year not in _YEARS:
        return False
    try:
        datetime.date(year or _YEAR_WHEN_ABSENT, month or 1, day or 1)
    except ValueError:
        return False
    return True


def _keys(values: Sequence[Value]) -> list[_Key]:
    """What orders the values: numbers, or the fields that all the dates have; empty when they cannot be compared."""
    dates = [value for value in values if isinstance(value, tuple)]
    if not dates:
        return [(value,) for value in values if isinstance(value, float)]
    fields = list(zip(*dates, strict=True)) if len(dates) == len(values) else []
    shared = [[float(field) for field in column if field is not None] for column in fields]
    return list(zip(*(column for column in shared if len(column) == len(values)), strict=True))
