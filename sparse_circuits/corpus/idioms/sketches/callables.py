"""Sketches of functions that make or take functions, generators, and things for `with`."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

CALLABLES = sketches(r"""
def $f<make_counter|new_counter|counter>($start<start|first>: int = 0, $step<step|amount>: int = 1):
    $count<count|value|current> = $start

    def $g<add|advance|tick>() -> int:
        nonlocal $count
        $count += $step
        return $count

    return $g
---
$tick<tick_on|counter_a|up> = $f()
$skip<skip|counter_b|jump> = $f(@number, $step=@small)
print($tick(), $tick(), $skip())
===
def $f<make_adder|adder|add_by>($n: int):
    return lambda $x<x|value|number>: $x + $n
---
$add<add_some|plus|shift_up> = $f(@small)
print($add(@number), $add(@number))
---
assert $f(2)(3) == 5
===
def $f<repeat|twice|again>($action<action|do|work>, $times<times|count|n>: int = 2) -> None:
    for $i<i|turn|k> in range($times):
        $action($i)
---
$f(lambda $i2<i|turn|k>: print(`@past`, $i2))
---
$f(print, $times=@small)
===
def $f<memo|remember|cached>($g<function|func|work>):
    "Keep results that are known already."
    $known<known|cache|results> = {}

    def $h<wrapper|inner|call>($x<x|value|n>: int) -> int:
        if $x not in $known:
            $known[$x] = $g($x)
        return $known[$x]

    return $h


@$f
def $k<slow_square|fib|square>($n<n|number|x>: int) -> int:
    print(`computing`, $n)
    return $n * $n
---
print($k(@small), $k(@small))
===
def $f<log_calls|traced|announce>($g<function|func|work>):
    def $h<wrapper|inner|call>(*args, **kwargs):
        print(f`calling {$g.__name__}`)
        $out<result|value|answer> = $g(*args, **kwargs)
        print(f`done: {$out}`)
        return $out

    return $h


@$f
def $k<add|combine|total>($a<a|first|x>: int, $b<b|second|y>: int = @small) -> int:
    return $a + $b
---
$k(@number)
$k(@number, $b=@number)
===
def $f<count_up|numbers_from|naturals>($start<start|first>: int = 0, $step<step|by>: int = 1):
    $n<n|number|current> = $start
    while True:
        yield $n
        $n += $step
---
for $x<x|n|number> in $f(@small):
    if $x > @number:
        break
    print($x)
===
def $f<windows|neighbors|pairs_of>($xs: list[int], $size<size|width>: int = 2):
    "Every run of neighbors in a list."
    for $i in range(len($xs) - $size + 1):
        yield $xs[$i:$i + $size]
---
for $part<part|window|pair> in $f(@integers):
    print($part)
---
assert list($f([1, 2, 3])) == [[1, 2], [2, 3]]
===
def $f<even_numbers|evens|only_even>($limit<limit|end|n>: int):
    for $n<n|number|i> in range($limit):
        if $n % 2 == 0:
            yield $n
---
print(list($f(@count)))
---
print(sum($f(@number)))
---
assert list($f(5)) == [0, 2, 4]
===
class $Timer<Block|Section|Part>:
    "Says when it is entered and left."

    def __init__(self, name: str, quiet: bool = False) -> None:
        self.name = name
        self.quiet = quiet

    def __enter__(self):
        if not self.quiet:
            print(f`begin {self.name}`)
        return self

    def __exit__(self, *error) -> bool:
        if not self.quiet:
            print(f`end {self.name}`)
        return False
---
with $Timer(`@word`) as $block<block|part|section>:
    print(`inside`, $block.name)
---
with $Timer(`@word`, quiet=True):
    print(`@phrase`)
""")
