"""Sketches of state machines and games."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

MACHINES = sketches(r"""
class $Light<TrafficLight|Light|Signal>:
    "A light that goes round its colors."

    def __init__(self, color: str = `red`) -> None:
        self.color = color
        self.changes = 0

    def change(self) -> None:
        if self.color == `red`:
            self.color = `green`
        elif self.color == `green`:
            self.color = `yellow`
        else:
            self.color = `red`
        self.changes += 1
---
$light<light|signal|lamp> = $Light()
for $i in range(@count):
    $light.change()
    print($i, $light.color)
---
$light<light|signal|lamp> = $Light(`green`)
while $light.color != `red`:
    $light.change()
print($light.changes)
===
class $Gate<Turnstile|Gate|Barrier>:
    def __init__(self, price: int = 1) -> None:
        self.price = price
        self.locked = True
        self.coins = 0

    def insert(self, coins: int) -> None:
        self.coins += coins
        if self.coins >= self.price:
            self.locked = False

    def push(self) -> bool:
        if self.locked == True:
            return False
        self.locked = True
        self.coins -= self.price
        return True
---
$gate<gate|door|barrier> = $Gate(@small)
$gate.insert(@count)
print($gate.push(), $gate.push())
---
$gate<gate|door|barrier> = $Gate()
if $gate.push():
    print(`open`)
else:
    print(`locked`)
===
class $Machine<VendingMachine|SnackMachine|Machine>:
    def __init__(self, stock: dict[str, int], price: int = 2) -> None:
        self.stock = stock
        self.price = price
        self.money = 0

    def pay(self, amount: int) -> None:
        self.money += amount

    def choose(self, name: str) -> str:
        if self.stock.get(name, 0) == 0:
            return `sold out`
        if self.money < self.price:
            return `pay more`
        self.money -= self.price
        self.stock[name] -= 1
        return name
---
$machine<machine|shop|box> = $Machine({`@word`: @small, `@word`: 1})
$machine.pay(@small)
print($machine.choose(`@word`))
print($machine.money)
===
STATES = {
    `new`: [`paid`, `canceled`],
    `paid`: [`sent`, `refunded`],
    `sent`: [`done`],
}


class $Order<Order|Ticket|Job>:
    def __init__(self, name: str, state: str = `new`) -> None:
        self.name = name
        self.state = state
        self.history = [state]

    def move(self, state: str) -> bool:
        if state not in STATES.get(self.state, []):
            print(f`cannot go from {self.state} to {state}`)
            return False
        self.state = state
        self.history.append(state)
        return True
---
$order<order|ticket|job> = $Order(`@word`)
for $state<state|step> in [`paid`, `done`, `sent`]:
    $order.move($state)
print($order.history)
===
class $Lift<Elevator|Lift|Cabin>:
    def __init__(self, floor: int = 0, top: int = 9) -> None:
        self.floor = floor
        self.top = top
        self.stops = []

    def call(self, floor: int) -> None:
        if 0 <= floor <= self.top and floor not in self.stops:
            self.stops.append(floor)

    def step(self) -> bool:
        if not self.stops:
            return False
        goal = self.stops[0]
        if self.floor < goal:
            self.floor += 1
        elif self.floor > goal:
            self.floor -= 1
        else:
            self.stops.pop(0)
        return True
---
$lift<lift|elevator|cabin> = $Lift()
$lift.call(@digit)
$lift.call(@digit)
while $lift.step():
    print(`floor`, $lift.floor)
===
def $f<run_robot|move_robot|follow>($commands<commands|text|moves>: str, $x<x|column>: int = 0, \
        $y<y|row>: int = 0) -> tuple[int, int]:
    "Move by letters: n, s, e and w."
    for $c<c|letter|command> in $commands:
        if $c == `n`:
            $y += 1
        elif $c == `s`:
            $y -= 1
        elif $c == `e`:
            $x += 1
        elif $c == `w`:
            $x -= 1
        else:
            print(`unknown:`, $c)
    return $x, $y
---
print($f(`nn<e|w|s>e`))
---
$x2<x|column|east>, $y2<y|row|north> = $f(`esw`, $x=@digit)
print(f`at {$x2}, {$y2}`)
---
assert $f(`nne`) == (1, 2)
===
def $f<run|run_program|execute>($program<program|code|lines>: list[tuple[str, int]]) -> list[int]:
    "A machine with one stack."
    $stack<stack|memory|values> = []
    $place<place|line|pointer> = 0
    while $place < len($program):
        $name<name|order|op>, $value<value|number|argument> = $program[$place]
        if $name == `push`:
            $stack.append($value)
        elif $name == `add`:
            $stack.append($stack.pop() + $stack.pop())
        elif $name == `swap`:
            $stack[-1], $stack[-2] = $stack[-2], $stack[-1]
        else:
            $stack.pop()
        $place += 1
    return $stack
---
print($f([(`push`, @number), (`push`, @number), (`<add|swap>`, 0)]))
---
assert $f([(`push`, 1), (`push`, 2), (`add`, 0)]) == [3]
===
def $f<thermostat|heat|control>($xs<readings|temperatures|values>: list[int], \
        $goal<goal|wanted|target>: int = 20) -> list[str]:
    $on<heating|on|running> = False
    $out<actions|result|log> = []
    for $x<reading|degrees|value> in $xs:
        if $on and $x > $goal + 1:
            $on = False
            $out.append(`off`)
        elif not $on and $x < $goal - 1:
            $on = True
            $out.append(`on`)
        else:
            $out.append(`keep`)
    return $out
---
print($f([18, @number, 2@digit, 1@digit]))
---
assert $f([15, 25]) == [`on`, `off`]
===
def $f<count_words|words_in|number_of_words>($text: str) -> int:
    "Count words by watching for where they begin."
    $inside<inside|in_word|word_open> = False
    $count<count|total|words> = 0
    for $c in $text:
        if $c == ` `:
            $inside = False
        elif not $inside:
            $inside = True
            $count += 1
    return $count
---
print($f(`@phrase`))
---
assert $f(`a bc  d`) == 3
===
import random


def $f<roll|throw_dice|roll_dice>($count<count|dice|n>: int = 2, $sides<sides|faces>: int = 6) -> list[int]:
    return [random.randint(1, $sides) for _ in range($count)]


def $g<roll_counts|tally_rolls|statistics>($times<times|rounds>: int) -> dict[int, int]:
    $counts = {}
    for _ in range($times):
        $total<total|points|score> = sum($f())
        $counts[$total] = $counts.get($total, 0) + 1
    return $counts
---
print($f(), $f(@small, $sides=12))
---
for $points<points|score|total>, $n<n|count|times> in sorted($g(@count).items()):
    print($points, $n)
===
def $f<winner|who_wins|check_winner>($board<board|grid|rows>: list[list[str]]) -> str | None:
    $lines<lines|all_lines|checked> = $board + [list($column<column|part>) for $column in zip(*$board)]
    $lines.append([$board[$i<i|k|n>][$i] for $i in range(3)])
    $lines.append([$board[$i][2 - $i] for $i in range(3)])
    for $line<line|three> in $lines:
        if $line[0] != ` ` and $line[0] == $line[1] == $line[2]:
            return $line[0]
    return None
---
$game<game|board|field> = [[`X`, `O`, ` `], [`O`, `X`, ` `], [` `, ` `, `<X|O>`]]
print($f($game))
---
assert $f([[`X`, `X`, `X`], [` `, ` `, ` `], [` `, ` `, ` `]]) == `X`
===
BEATS = {`rock`: `scissors`, `scissors`: `paper`, `paper`: `rock`}


def $f<play|play_round|compare>($a<first|a|player>: str, $b<second|b|computer>: str) -> str:
    if $a == $b:
        return `draw`
    return `first` if BEATS[$a] == $b else `second`
---
for $a2<a|first|left> in BEATS:
    for $b2<b|second|right> in BEATS:
        print($a2, $b2, $f($a2, $b2))
---
assert $f(`rock`, `scissors`) == `first`
===
def $f<guess_number|search_number|find_secret>($secret<secret|hidden|number>: int, $low<low|start>: int = 0, \
        $high<high|limit>: int = 100) -> int:
    "Count the guesses it takes."
    $tries<tries|guesses|count> = 0
    while True:
        $guess<guess|middle|try_number> = ($low + $high) // 2
        $tries += 1
        if $guess == $secret:
            return $tries
        elif $guess < $secret:
            $low = $guess + 1
        else:
            $high = $guess - 1
---
print(`tries:`, $f(@digit))
---
assert $f(50) == 1
===
SUITS = [`clubs`, `diamonds`, `hearts`, `spades`]
RANKS = [`2`, `3`, `4`, `jack`, `queen`, `king`, `ace`]


def $f<new_deck|make_deck|all_cards>() -> list[tuple[str, str]]:
    $deck<deck|cards|made> = []
    for $suit<suit|color> in SUITS:
        for $rank<rank|value> in RANKS:
            $deck.append(($rank, $suit))
    return $deck


def $g<deal|give_hands|deal_cards>($deck: list[tuple[str, str]], $players<players|names>: list[str], \
        $count<count|size|n>: int = 2) -> dict[str, list]:
    $hands<hands|given|result> = {}
    for $player<player|name> in $players:
        $hands[$player] = [$deck.pop() for _ in range($count)]
    return $hands
---
$hands2<hands|table|dealt> = $g($f(), @people)
for $name2<name|player>, $cards<cards|hand> in $hands2.items():
    print($name2, $cards)
""")
