"""Sketches of classes: things with attributes, inheritance, special methods."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

RECORDS = sketches(r"""
class $Account<Account|BankAccount|Wallet>:
    "Money of one owner."

    def __init__(self, owner: str, balance: int = 0, limit: int | None = None) -> None:
        self.owner = owner
        self.balance = balance
        self.limit = limit
        self.history = []

    def deposit(self, amount: int) -> None:
        if amount <= 0:
            raise ValueError(`the amount must be positive`)
        self.balance += amount
        self.history.append((`in`, amount))

    def withdraw(self, amount: int) -> bool:
        if amount > self.balance:
            print(`not enough money`)
            return False
        self.balance -= amount
        self.history.append((`out`, amount))
        return True
---
$account<account|wallet|purse> = $Account(`@person`, @big)
$account.deposit(@small)
if $account.withdraw(@number):
    print(f`{$account.owner} has {$account.balance}`)
---
$account<account|wallet|purse> = $Account(owner=`@person`, limit=@big)
$account.deposit(@small)
print($account.history)
===
class $Stock<Inventory|Stock|Storage>:
    def __init__(self, name: str = `$things`) -> None:
        self.name = name
        self.counts = {}

    def add(self, item: str, count: int = 1) -> None:
        self.counts[item] = self.counts.get(item, 0) + count

    def remove(self, item: str, count: int = 1) -> bool:
        if self.counts.get(item, 0) < count:
            return False
        self.counts[item] -= count
        if self.counts[item] == 0:
            del self.counts[item]
        return True

    def report(self) -> None:
        for item, count in self.counts.items():
            print(f`{item}: {count}`)
---
$stock<stock|store|shop> = $Stock()
$stock.add(`@word`, @small)
$stock.add(`@word`)
if not $stock.remove(`@word`, @small):
    print(`not enough`)
$stock.report()
===
class $Cart<Cart|Basket|Bill>:
    def __init__(self, owner: str, discount: float = 0) -> None:
        self.owner = owner
        self.discount = discount
        self.items = []

    def add(self, name: str, price: float, count: int = 1) -> None:
        self.items.append((name, price, count))

    def total(self) -> float:
        total = 0
        for _, price, count in self.items:
            total += price * count
        return total * (1 - self.discount)
---
$cart<cart|basket|bill> = $Cart(`@person`)
$cart.add(`@word`, @price)
$cart.add(`@word`, @price, count=@small)
print(`total:`, $cart.total())
===
class $Vector<Vector|Point|Move>:
    def __init__(self, x: float, y: float) -> None:
        self.x = x
        self.y = y

    def __add__(self, other):
        return $Vector(self.x + other.x, self.y + other.y)

    def __eq__(self, other) -> bool:
        return self.x == other.x and self.y == other.y

    def __repr__(self) -> str:
        return f`$Vector({self.x}, {self.y})`

    def length(self) -> float:
        return (self.x ** 2 + self.y ** 2) ** 0.5
---
$a2<a|first|left> = $Vector(@digit, @digit)
$b2<b|second|right> = $Vector(@digit, @digit)
$a2, $b2 = $b2, $a2
print($a2 + $b2, $a2 == $b2)
---
assert $Vector(3, 4).length() == 5
===
from dataclasses import dataclass


@dataclass
class $Thing:
    $label: str
    $measure: int = 0
    $label2: str | None = None
    $measure2: int = @number


def $f<largest|best|most>($items<items|things|found>: list[$Thing]) -> $Thing:
    return max($items, key=lambda $x<x|item|one>: $x.$measure)
---
$xs<$things|items|found> = [$Thing(`@word`, @number), $Thing(`@word`, @number)]
print($f($xs))
for $x<$thing|item|one> in $xs:
    print($x.$label, $x.$measure)
---
$one<$thing|one|first> = $Thing(`@word`, $measure=@number)
$one.$label2 = `@word`
print($one)
===
class $Shape<Shape|Figure|Form>:
    def __init__(self, name: str, color: str = `<red|blue|green>`) -> None:
        self.name = name
        self.color = color

    def area(self) -> float:
        return 0

    def describe(self) -> str:
        return f`{self.color} {self.name} of area {self.area()}`


class $Box<Rectangle|Panel|Plate>($Shape):
    def __init__(self, width: float, height: float) -> None:
        super().__init__(`<rectangle|box>`)
        self.width = width
        self.height = height

    def area(self) -> float:
        return self.width * self.height


class $Disk<Circle|Disk|Wheel>($Shape):
    def __init__(self, radius: float, color: str = `black`) -> None:
        super().__init__(`<circle|disk>`, color)
        self.radius = radius

    def area(self) -> float:
        return 3.14 * self.radius ** 2
---
for $shape<shape|figure|form> in [$Box(@small, @small), $Disk(@small), $Disk(@small, `white`)]:
    print($shape.describe())
---
assert $Box(2, 3).area() == 6
===
class $Animal<Animal|Pet|Creature>:
    sound = `...`

    def __init__(self, name: str, age: int = 1, owner: str | None = None) -> None:
        self.name = name
        self.age = age
        self.owner = owner

    def speak(self) -> str:
        return f`{self.name} says {self.sound}`


class $Dog<Dog|Puppy|Wolf>($Animal):
    sound = `woof`


class $Cat<Cat|Kitten|Lion>($Animal):
    sound = `meow`

    def speak(self) -> str:
        if self.age < 1:
            return f`{self.name} sleeps`
        return super().speak()
---
$pets<pets|animals|friends> = [$Dog(`Rex`), $Cat(`Tom`, @digit), $Dog(`@person`, owner=`@person`)]
for $pet<pet|animal|friend> in $pets:
    print($pet.speak())
===
class $Degrees<Temperature|Heat|Thermometer>:
    def __init__(self, celsius: float = 0) -> None:
        self.celsius = celsius

    @property
    def fahrenheit(self) -> float:
        return self.celsius * 9 / 5 + 32

    @fahrenheit.setter
    def fahrenheit(self, value: float) -> None:
        self.celsius = (value - 32) * 5 / 9

    @classmethod
    def from_text(cls, text: str):
        return cls(float(text.rstrip(`C`)))

    @staticmethod
    def is_warm(degrees: float) -> bool:
        return degrees > @number
---
$today<today|water|room> = $Degrees(@number)
print($today.fahrenheit)
$today.fahrenheit = @big
print($today.celsius, $Degrees.is_warm($today.celsius))
---
print($Degrees.from_text(`<8|21|35>C`).celsius)
===
from enum import Enum


class $Color<Color|Shade|Paint>(Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


def $f<mix|blend|combine>($a<a|first|one>: $Color, $b<b|second|other>: $Color) -> str:
    if $a == $b:
        return $a.name.lower()
    elif $Color.RED in ($a, $b):
        return `<brown|purple|orange>`
    else:
        return `<teal|cyan>`
---
for $color<color|paint|shade> in $Color:
    print($color.name, $f($color, $Color.RED))
===
from typing import NamedTuple


class $Thing(NamedTuple):
    $label: str
    $measure: int
    $label2: str = `@word`


def $f<total|add_all|sum_of>($items<items|things|rows>: list[$Thing]) -> int:
    $total<total|result|amount> = 0
    for $item<item|$thing|one> in $items:
        $total += $item.$measure
    return $total
---
$xs<$things|items|rows> = [$Thing(`@word`, @number), $Thing(`@word`, @number, `@adjective`)]
print($f($xs))
===
class $Money<Money|Price|Amount>:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __lt__(self, other) -> bool:
        return self.cents < other.cents

    def __mul__(self, count: int):
        return $Money(self.cents * count)

    def __str__(self) -> str:
        return f`{self.cents // 100}.{self.cents % 100:02d}`

    def __hash__(self) -> int:
        return hash(self.cents)
---
$prices<prices|amounts|bills> = [$Money(@big), $Money(@big), $Money(@number)]
print(min($prices), $prices[0] * @small)
for $price<price|amount|bill> in sorted($prices):
    print($price)
""")
