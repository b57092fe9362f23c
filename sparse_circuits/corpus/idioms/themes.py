"""Themes: nouns, verbs and example values that belong together.

A program has one theme, so that its names, strings and comments speak of the same things.
"""

from typing import NamedTuple

from sparse_circuits.corpus.idioms.words import split


class Theme(NamedTuple):
    """The words of one subject: nouns in the singular, verbs in the base form."""

    things: tuple[str, ...]
    """What the program is about; lists and classes are named after them."""
    measures: tuple[str, ...]
    """Nouns of whole numbers."""
    labels: tuple[str, ...]
    """Nouns of strings."""
    values: tuple[str, ...]
    """Strings: what the things are called."""
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]


def theme(things: str, measures: str, labels: str, values: str, verbs: str, adjectives: str) -> Theme:
    return Theme(*(split(field) for field in (things, measures, labels, values, verbs, adjectives)))


THEMES = (
    theme(
        "item product order box cart",
        "price cost amount quantity discount weight",
        "name color status brand size",
        "apple bread cheese lamp chair table pen book cup shirt hat sock spoon plate bag clock mirror soap",
        "pack ship sell order count check return wrap",
        "new cheap late sold heavy small empty",
    ),
    theme(
        "student course lesson exam pupil",
        "score grade age mark rank point",
        "name subject teacher level status",
        "math history art music biology physics spelling drama geography reading chess",
        "grade teach help start finish pass rank check",
        "new young late absent ready good best quiet",
    ),
    theme(
        "file folder document page backup",
        "size length version depth lines",
        "name path title author status",
        "notes report draft readme letter budget recipe diary index summary invoice plan",
        "open save copy load scan move rename check",
        "old new empty hidden large recent shared broken",
    ),
    theme(
        "player game team match turn",
        "score level strength lives speed bonus",
        "name nickname color status title",
        "knight wizard archer dragon goblin robot pirate ninja queen giant rogue hero",
        "play start win move jump save attack pause",
        "active ready lost fast strong new brave final",
    ),
    theme(
        "message user post comment reply",
        "length age points views limit",
        "name text subject sender topic",
        "hello welcome thanks question reminder notice update invite greeting",
        "send read post delete block follow share answer",
        "new unread old public private active sent short",
    ),
    theme(
        "animal pet cat dog bird",
        "age weight height speed legs",
        "name color food sound owner",
        "lion tiger bear wolf fox rabbit horse goat sheep duck owl frog turtle whale mouse",
        "feed walk clean train watch wash follow find",
        "hungry young old wild tame sleepy small fast",
    ),
    theme(
        "plant seed tree flower garden",
        "height width depth days spread",
        "name color season shape label",
        "rose tulip daisy oak pine fern basil mint lily maple cactus ivy moss palm",
        "water plant trim grow pick move cut check",
        "green dry tall fresh young wild small red",
    ),
    theme(
        "recipe dish meal cook ingredient",
        "minutes portion weight heat price",
        "name taste color flavor unit",
        "soup pasta rice salad pie curry stew toast omelet cake butter sugar salt flour milk",
        "cook bake mix chop serve taste boil stir",
        "hot cold sweet fresh salty ready simple warm",
    ),
    theme(
        "song album band singer track",
        "length tempo volume year plays",
        "title artist mood key style",
        "piano guitar drums violin flute trumpet bass harp cello waltz ballad march tango",
        "play record mix sing tune skip stop load",
        "loud soft slow fast new famous quiet live",
    ),
    theme(
        "trip hotel flight train ticket",
        "distance price days hours seats",
        "city country status route driver",
        "beach museum castle harbor island market bridge tower valley desert lake forest",
        "book plan visit pack cancel check leave map",
        "cheap long full early late direct free busy",
    ),
    theme(
        "day forecast storm cloud sensor",
        "temperature rainfall wind pressure humidity",
        "city season weekday unit station",
        "snow fog hail frost thunder drizzle breeze sunshine ice mist heat rainbow",
        "measure record check predict report watch log collect",
        "sunny cold wet dry windy warm mild dark",
    ),
    theme(
        "account payment bill loan client",
        "balance amount fee rate debt limit",
        "name owner currency status bank",
        "rent salary savings gift tax food travel phone insurance interest bonus refund",
        "pay send charge check transfer close open lend",
        "open closed paid due late large monthly safe",
    ),
    theme(
        "book reader shelf chapter library",
        "pages year copies rating length",
        "title author owner genre language",
        "novel poem essay comic atlas fable diary memoir story guide legend mystery",
        "read lend return sort borrow find print close",
        "long short rare old lost popular new thin",
    ),
    theme(
        "runner race lap athlete coach",
        "time distance speed energy medals rank",
        "name country nickname status sport",
        "tennis soccer hockey rowing judo boxing golf skiing cycling swimming fencing",
        "run train win start finish time rest coach",
        "fast strong tired young ready final lucky slow",
    ),
    theme(
        "robot motor wheel arm command",
        "speed power angle position energy",
        "name mode direction status model",
        "forward backward stop turn lift grab drop wait scan reset spin charge",
        "move turn start stop lift scan charge repair",
        "fast broken ready idle slow busy smart heavy",
    ),
    theme(
        "planet star moon rocket mission",
        "mass distance radius fuel orbit",
        "name color owner status galaxy",
        "mercury venus earth mars jupiter saturn uranus neptune pluto comet sun titan",
        "launch land explore track visit measure map find",
        "bright distant cold hot small giant dark near",
    ),
    theme(
        "farm field cow tractor barn",
        "acres weight price profit eggs",
        "name crop owner season color",
        "wheat corn barley oats hay beans carrots pumpkins grapes apples olives onions",
        "plant feed sell milk grow pick store count",
        "ripe fresh large dry muddy old young sunny",
    ),
    theme(
        "worker task job project meeting",
        "hours salary priority age deadline",
        "name status title person city",
        "email report slides survey review budget schedule call training interview memo",
        "start finish assign plan cancel review hire send",
        "urgent done open late busy short weekly free",
    ),
    theme(
        "server packet request node client",
        "port size delay timeout load",
        "host status address protocol owner",
        "login logout ping search upload download status config home admin cache proxy",
        "send check start stop block connect load test",
        "slow online offline busy local remote idle secure",
    ),
    theme(
        "car truck road driver engine",
        "speed fuel distance price year",
        "model color owner status brand",
        "sedan wagon van taxi bus jeep coupe racer pickup minivan scooter",
        "drive park wash stop start repair rent sell",
        "fast slow new used red clean broken empty",
    ),
    theme(
        "patient visit nurse clinic pill",
        "age weight pulse dose height",
        "name doctor status symptom city",
        "cough fever headache allergy cold burn rash sprain flu asthma fatigue",
        "check treat weigh test help visit rest call",
        "healthy sick tired better weak strong calm ill",
    ),
    theme(
        "movie actor scene ticket screen",
        "length year rating budget seats",
        "title genre country director status",
        "comedy drama western cartoon musical thriller romance horror fantasy action",
        "watch film rate book cut show review shoot",
        "funny long sad famous new classic short scary",
    ),
    theme(
        "room house door window floor",
        "width height area price rent",
        "name color owner street status",
        "kitchen bedroom bathroom attic cellar garage hall porch office pantry balcony",
        "clean paint lock open close build rent measure",
        "large dark clean empty warm quiet new narrow",
    ),
    theme(
        "boat fish sailor port wave",
        "depth weight length speed cargo",
        "name flag owner direction status",
        "salmon tuna shark crab squid lobster dolphin seal shrimp eel trout coral",
        "sail catch dock load clean repair steer anchor",
        "deep wet calm rough fresh salty old wooden",
    ),
    theme(
        "shape pixel image canvas brush",
        "width height radius area depth",
        "color title artist style shape",
        "circle square triangle line star oval cube spiral arrow heart cross ring",
        "draw paint fill crop resize save erase copy",
        "round blue flat bright thin sharp dark filled",
    ),
    theme(
        "letter parcel stamp sender address",
        "weight price distance days postage",
        "name city country street status",
        "postcard envelope magazine gift catalog invitation contract form label",
        "send sort deliver stamp weigh open return track",
        "heavy lost late fragile small express sealed local",
    ),
    theme(
        "machine part tool worker batch",
        "speed weight output stock hours",
        "name model material status color",
        "bolt nut screw gear spring valve pump belt lever chain pipe cable",
        "build test repair pack count clean oil inspect",
        "broken new rusty heavy ready spare loose safe",
    ),
    theme(
        "guest table drink waiter menu",
        "price tip seats bill rating",
        "name course size flavor status",
        "coffee tea juice water cocoa lemonade muffin sandwich waffle cookie bagel",
        "serve order pour pay wait greet clean seat",
        "hot cold free busy sweet regular happy large",
    ),
    theme(
        "event party holiday reminder guest",
        "hour minute year length seats",
        "title place day month person",
        "birthday wedding concert lunch dinner picnic parade festival reunion exam",
        "plan start cancel move join repeat open book",
        "busy early late free public long private happy",
    ),
    theme(
        "street bus shop station building",
        "distance stops height age capacity",
        "name color city route status",
        "bakery bank park school church theater museum market cinema pool bridge gym",
        "visit open close build clean cross find map",
        "old busy tall quiet narrow modern closed local",
    ),
    theme(
        "task note reminder goal habit",
        "priority minutes points streak effort",
        "title status day owner label",
        "laundry shopping homework dishes cleaning exercise cooking gardening reading",
        "start finish add skip plan check delay drop",
        "easy hard urgent done open small daily weekly",
    ),
    theme(
        "toy child puzzle block doll",
        "price pieces age height stock",
        "name color shape owner size",
        "ball kite train drum puppet marble yoyo bear wagon rocket castle whistle",
        "play build share fix hide find throw stack",
        "soft wooden broken favorite tiny shiny new round",
    ),
)
