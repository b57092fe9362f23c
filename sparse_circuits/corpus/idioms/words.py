"""General words, and the forms of a noun and of a verb.

Nouns are stored in the singular and verbs in the base form; `plural`, `past` and `progressive` make the rest.
"""

from functools import cache


def split(text: str) -> tuple[str, ...]:
    """A tuple of words, written as one string."""
    return tuple(text.split())


PEOPLE = split(
    """Ada Alan Alice Amir Anna Ben Bob Carla Carol Chen Clara Dan Diego Elena Emma Eve Finn Grace Hana Hugo
    Ida Ivan Jack Jane Juan Kai Kim Lena Leo Lily Lucas Maria Max Mei Mia Nina Noah Nora Olga Omar Paul Petra
    Priya Rosa Ruth Sam Sara Sofia Tara Theo Tom Uma Vera Victor Wanda Yuki Zara Zoe"""
)
GENERAL_ADJECTIVES = split("good bad ready empty full new old big small first last open closed clear simple safe")
GENERAL_NOUNS = split("list value result answer number name line word step test text key error job task program loop")
MOMENTS = split("today tomorrow now later again soon first twice here there once already always")

LABEL_VALUES = {
    "answer": split("yes no maybe never always sure okay none"),
    "artist": PEOPLE,
    "author": PEOPLE,
    "city": split("Paris London Berlin Tokyo Madrid Rome Oslo Cairo Lima Delhi Seoul Boston Vienna Dublin"),
    "color": split("red green blue yellow orange purple black white gray pink brown silver gold"),
    "country": split("France Spain Japan Brazil Kenya Norway Peru India Egypt Canada Chile Greece Italy Mexico"),
    "day": split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "letter": split("a b c d e f g h i j k l m n o p q r s t u v w x y z"),
    "direction": split("north south east west up down left right"),
    "doctor": PEOPLE,
    "driver": PEOPLE,
    "mode": split("fast slow normal quiet auto manual safe test"),
    "month": split("January February March April May June July August October November December"),
    "mood": split("happy calm sad tired proud bored angry brave"),
    "owner": PEOPLE,
    "person": PEOPLE,
    "season": split("spring summer autumn winter"),
    "sender": PEOPLE,
    "shape": split("circle square triangle line cube oval star cross"),
    "size": split("small medium large tiny huge wide tall short"),
    "status": split("open closed pending active ready done new old paused failed"),
    "teacher": PEOPLE,
    "user": PEOPLE,
    "weekday": split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
}
"""What a string of this name may hold; any other label holds one of the theme's own values."""

IRREGULAR_PLURALS = {
    "child": "children",
    "fish": "fishes",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "radius": "radii",
    "shelf": "shelves",
}
IRREGULAR_PASTS = {
    "build": "built",
    "catch": "caught",
    "cut": "cut",
    "draw": "drawn",
    "drive": "driven",
    "eat": "eaten",
    "feed": "fed",
    "find": "found",
    "grow": "grown",
    "hide": "hidden",
    "hold": "held",
    "keep": "kept",
    "leave": "left",
    "lend": "lent",
    "lose": "lost",
    "pay": "paid",
    "put": "put",
    "read": "read",
    "run": "run",
    "sell": "sold",
    "send": "sent",
    "shoot": "shot",
    "show": "shown",
    "sing": "sung",
    "spend": "spent",
    "take": "taken",
    "teach": "taught",
    "throw": "thrown",
    "win": "won",
    "write": "written",
}
DOUBLING = frozenset(
    split(
        """chop crop cut drop get grab log map plan plot put run scan ship skip stir stop tag transfer trim
        win wrap"""
    )
)
VOWELS = "aeiou"


@cache
def plural(noun: str) -> str:
    """The plural of a noun: item -> items, box -> boxes, city -> cities.

    What is plural already makes a list (days -> days_list), and a letter makes values.
    """
    if len(noun) == 1:
        return "values"
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith("s") and not noun.endswith(("as", "ss", "us")):
        return noun + "_list"
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
    if verb.endswith("e"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if verb in DOUBLING else "") + "ing"


@cache
def class_name(noun: str) -> str:
    """The name of a class: bus_stop -> BusStop."""
    return "".join(part.capitalize() for part in noun.split("_"))
