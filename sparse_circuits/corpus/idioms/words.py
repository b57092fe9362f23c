"""The words of the generated programs: themes, whose nouns agree with each other, and general lists.

A program has one theme, so that its names, strings and comments speak of the same things. Nouns are stored in the
singular; `plural`, `past` and `progressive` make the other forms.
"""

from functools import cache
from typing import NamedTuple

PEOPLE = tuple(
    "Ada Alan Alice Amir Anna Ben Bob Carla Carol Chen Clara Dan Diego Elena Emma Eve Finn Grace Hana Hugo Ida Ivan "
    "Jack Jane Juan Kai Kim Lena Leo Lily Lucas Maria Max Mei Mia Nina Noah Nora Olga Omar Paul Petra Priya Rosa Ruth "
    "Sam Sara Sofia Tara Theo Tom Uma Vera Victor Wanda Yuki Zara Zoe".split()
)
COLORS = tuple("red green blue yellow orange purple black white gray pink brown silver gold".split())
CITIES = tuple(
    "Paris London Berlin Tokyo Madrid Rome Oslo Cairo Lima Delhi Seoul Boston Vienna Dublin".split()
)
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
STATUSES = tuple("open closed pending active ready done new old paused failed".split())
SIZES = tuple("small medium large tiny huge wide tall short".split())

IRREGULAR_PLURALS = {
    "child": "children",
    "leaf": "leaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "shelf": "shelves",
    "loaf": "loaves",
    "foot": "feet",
    "fish": "fishes",
}
IRREGULAR_PASTS = {
    "build": "built",
    "draw": "drawn",
    "feed": "fed",
    "find": "found",
    "pay": "paid",
    "read": "read",
    "run": "run",
    "sell": "sold",
    "send": "sent",
    "win": "won",
    "write": "written",
}
DOUBLING = frozenset("drop grab log map plan plot run scan ship skip stop tag trim win wrap".split())
VOWELS = "aeiou"


@cache
def plural(noun: str) -> str:
    """The plural of a noun: item -> items, box -> boxes, city -> cities."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


@cache
def past(verb: str) -> str:
    """The past participle of a verb: pack -> packed, save -> saved, ship -> shipped, send -> sent."""
    if verb in IRREGULAR_PASTS:
        return IRREGULAR_PASTS[verb]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    return verb + (verb[-1] if verb in DOUBLING else "") + "ed"


@cache
def progressive(verb: str) -> str:
    """The -ing form of a verb: pack -> packing, save -> saving, ship -> shipping."""
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if verb in DOUBLING else "") + "ing"


class Theme(NamedTuple):
    """Nouns, verbs and example values that belong together."""

    things: tuple[str, ...]
    """What the program is about, in the singular; lists and classes are named after them."""
    measures: tuple[str, ...]
    """Nouns of whole numbers."""
    labels: tuple[str, ...]
    """Nouns of strings."""
    values: tuple[str, ...]
    """Strings that name a thing."""
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]


def theme(things: str, measures: str, labels: str, values: str, verbs: str, adjectives: str) -> Theme:
    fields = (things, measures, labels, values, verbs, adjectives)
    return Theme(*(tuple(field.split()) for field in fields))


THEMES = (
    theme(
        "item product order box cart",
        "price cost amount quantity discount weight",
        "name color status brand size",
        "apple bread cheese lamp chair table pen book cup shirt hat sock spoon plate bag clock mirror soap",
        "pack ship sell order count check return wrap",
        "new cheap open late sold heavy small empty",
    ),
    theme(
        "student course lesson test exam",
        "score grade age mark rank point",
        "name subject teacher level status",
        "math history art music biology physics spelling drama geography reading chess",
        "grade teach help start finish pass rank check",
        "new young late absent ready good best quiet",
    ),
    theme(
        "file folder document page backup",
        "size length line_count version depth page_count",
        "name path title author format",
        "notes report draft readme letter budget recipe diary index summary invoice plan",
        "open save copy load scan move rename check",
        "old new empty hidden large recent shared broken",
    ),
    theme(
        "player game team match turn",
        "score level points lives speed bonus",
        "name team color status title",
        "knight wizard archer dragon goblin robot pirate ninja queen giant rogue hero",
        "play start win move jump save attack pause",
        "active ready lost fast strong new brave final",
    ),
    theme(
        "message user post comment reply",
        "count length age likes views limit",
        "name text subject sender topic",
        "hello welcome thanks question answer reminder notice update invite greeting",
        "send read post reply delete block follow share",
        "new unread old public private active sent short",
    ),
    theme(
        "animal pet cat dog bird",
        "age weight height speed legs meals",
        "name color kind food sound",
        "lion tiger bear wolf fox rabbit horse goat sheep duck owl frog turtle whale mouse",
        "feed walk clean train watch wash follow find",
        "hungry young old wild tame sleepy small fast",
    ),
)
