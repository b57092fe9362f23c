"""Sketches about numbers: primes, digits, averages, conversions."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

NUMBERS = sketches(r"""
def $f<factorial|fact|product_up_to>($n: int) -> int:
    "Multiply the numbers from one up to $n."
    $out = 1
    for $i in range(2, $n + 1):
        $out *= $i
    return $out
---
print($f(@small))
---
for $n2<n|number|value> in range(1, @small):
    print($n2, $f($n2))
---
assert $f(0) == 1
assert $f(5) == 120
===
def $f<factorial|fact|multiply_down>($n: int) -> int:
    if $n <= 1:
        return 1
    return $n * $f($n - 1)
---
$answer<answer|result|product> = $f(@small)
print(f`$answer: {$answer}`)
---
assert $f(1) == 1
assert $f(4) == 24
===
def $f<fibonacci|fib|fibonacci_number>($n: int) -> int:
    $a, $b = 0, 1
    for _ in range($n):
        $a, $b = $b, $a + $b
    return $a
---
print([$f($i) for $i in range(@count)])
---
assert $f(0) == 0
assert $f(10) == 55
===
def $f<fibonacci_list|first_fibonacci|fib_numbers>($n: int) -> list[int]:
    "The first numbers of the sequence."
    $xs<numbers|sequence|found> = [0, 1]
    while len($xs) < $n:
        $xs.append($xs[-1] + $xs[-2])
    return $xs[:$n]
---
print($f(@count))
---
assert $f(5) == [0, 1, 1, 2, 3]
===
def $f<gcd|greatest_divisor|common_divisor>($a: int, $b: int) -> int:
    while $b:
        $a, $b = $b, $a % $b
    return $a


def $g<lcm|common_multiple|smallest_multiple>($a: int, $b: int) -> int:
    return $a * $b // $f($a, $b)
---
print($f(@big, @number), $g(@small, @small))
---
assert $f(12, 18) == 6
assert $g(4, 6) == 12
===
def $f<is_prime|check_prime|prime>($n: int) -> bool:
    "Say whether a number is prime."
    if $n < 2:
        return False
    $d<divisor|d|factor> = 2
    while $d * $d <= $n:
        if $n % $d == 0:
            return False
        $d += 1
    return True
---
$primes<primes|found|prime_numbers> = [$n2<n|x|number> for $n2 in range(@number) if $f($n2)]
print(`primes:`, $primes)
---
if $f(@number):
    print(`prime`)
else:
    print(`not prime`)
---
assert $f(7)
assert not $f(9)
===
def $f<sieve|primes_below|prime_numbers>($limit<limit|n|end>: int) -> list[int]:
    $primes<primes|found|kept> = []
    $crossed<crossed|removed|seen> = set()
    for $n<number|n|candidate> in range(2, $limit):
        if $n in $crossed:
            continue
        $primes.append($n)
        for $m<multiple|m|other> in range($n * $n, $limit, $n):
            $crossed.add($m)
    return $primes
---
print($f(@number))
---
print(len($f(@big)), `primes`)
---
assert $f(10) == [2, 3, 5, 7]
===
def $f<prime_factors|factors|divide_up>($n: int) -> list[int]:
    $found<found|factors|result> = []
    $d<divisor|factor|d> = 2
    while $n > 1:
        while $n % $d == 0:
            $found.append($d)
            $n //= $d
        $d += 1
    return $found
---
for $n2<n|number> in [@big, @number, @number]:
    print($n2, $f($n2))
---
assert $f(12) == [2, 2, 3]
===
def $f<digit_sum|sum_digits|add_digits>($n: int) -> int:
    $total = 0
    while $n:
        $total += $n % 10
        $n //= 10
    return $total
---
print($f(@big))
---
assert $f(123) == 6
===
def $f<count_steps|collatz_steps|steps_to_one>($n: int) -> int:
    $steps<steps|count|turns> = 0
    while True:
        if $n == 1:
            return $steps
        $n = $n // 2 if $n % 2 == 0 else 3 * $n + 1
        $steps += 1
---
print($f(@number + 1))
---
assert $f(1) == 0
assert $f(6) == 8
===
def $f<to_binary|binary_digits|as_binary>($n: int) -> str:
    if $n == 0:
        return `0`
    $out<text|digits|result|output> = ``
    while $n:
        $out = str($n % 2) + $out
        $n //= 2
    return $out


def $g<from_binary|binary_value|read_binary>($text<bits|text|word>: str) -> int:
    $value = 0
    for $c<bit|c|digit> in $text:
        $value = $value * 2 + int($c)
    return $value
---
print($f(@number), $g(`101`))
---
assert $f(5) == `101`
assert $g(`110`) == 6
===
ROMAN = [(10, `X`), (9, `IX`), (5, `V`), (4, `IV`), (1, `I`)]


def $f<to_roman|roman_numeral|write_roman>($n: int) -> str:
    "Write a number as a Roman numeral."
    $out<text|numeral|result> = ``
    for $value<value|amount>, $letters<letters|symbol|sign> in ROMAN:
        while $n >= $value:
            $out += $letters
            $n -= $value
    return $out
---
for $n2<year|n|number> in (4, 9, @number):
    print(f`{$n2} is {$f($n2)}`)
---
assert $f(14) == `XIV`
===
def $f<average|mean|average_of>($xs: list[float]) -> float:
    "The mean of a list of numbers."
    if not $xs:
        return 0
    return sum($xs) / len($xs)


def $g<median|middle_value|median_of>($xs: list[float]) -> float:
    $ordered<ordered|in_order|ranked> = sorted($xs)
    $m<middle|half|m> = len($ordered) // 2
    if len($ordered) % 2 == 1:
        return $ordered[$m]
    return ($ordered[$m - 1] + $ordered[$m]) / 2
---
$xs2<$measures|scores|values> = @numbers
print(`average:`, $f($xs2))
print(`median:`, $g($xs2))
---
assert $f([1, 2, 3]) == 2
assert $g([5, 1, 3]) == 3
===
def $f<most_common|mode_of|commonest>($xs: list[int]) -> int:
    $counts = {}
    for $x in $xs:
        if $x in $counts:
            $counts[$x] += 1
        else:
            $counts[$x] = 1
    return max($counts, key=lambda $key: $counts[$key])
---
print($f([3, 1, 3, 2, @digit]))
---
assert $f([1, 2, 2]) == 2
===
def $f<moving_average|smooth|smoothed>($xs: list[float], $size<size|width|window>: int = 2) -> list[float]:
    $out = []
    for $i in range(len($xs) - $size + 1):
        $part<part|window_values|chunk> = $xs[$i:$i + $size]
        $out.append(sum($part) / $size)
    return $out
---
print($f(@integers))
---
print($f(@integers, $size=3))
---
assert $f([1, 3, 5]) == [2, 4]
===
def $f<running_total|cumulative|add_up_all>($xs: list[int]) -> list[int]:
    $total = 0
    $out<totals|sums|result> = []
    for $x in $xs:
        $total += $x
        $out.append($total)
    return $out
---
print($f(@integers))
---
assert $f([1, 2, 3]) == [1, 3, 6]
===
def $f<clamp|limit_to|keep_between>($x: float, $low<low|lowest|minimum>: float = 0, \
        $high<high|highest|maximum>: float = 100) -> float:
    "Keep a number between two bounds."
    if $x < $low:
        return $low
    return $high if $x > $high else $x
---
print($f(@big), $f(-@small), $f(@number, $high=@digit))
---
assert $f(150) == 100
assert $f(-5) == 0
===
def $f<is_leap_year|leap_year|is_leap>($year<year|y>: int) -> bool:
    if $year % 400 == 0:
        return True
    if $year % 100 == 0:
        return False
    return $year % 4 == 0


def $g<days_in_year|year_length|days_of>($year: int) -> int:
    return 366 if $f($year) else 365
---
for $year2<year|y> in (1900, 2000, 2023):
    print($year2, $g($year2))
---
assert $f(2024)
assert not $f(1900)
===
def $f<to_celsius|celsius|fahrenheit_to_celsius>($x<degrees|fahrenheit|temperature>: float) -> float:
    return ($x - 32) * 5 / 9


def $g<to_fahrenheit|fahrenheit|celsius_to_fahrenheit>($x<degrees|celsius|temperature>: float) -> float:
    return $x * 9 / 5 + 32
---
for $t<degrees|temperature|t> in [0, @number, 100]:
    print(f`{$t} C is {$g($t)} F`)
---
assert $f(212) == 100
assert $g(0) == 32
===
def $f<square_root|root_of|newton_root>($x<x|value|number>: float, $steps<steps|rounds|tries>: int = 20) -> float:
    "Find a square root by repeated guesses."
    $guess<guess|root|estimate> = $x
    for _ in range($steps):
        $guess = ($guess + $x / $guess) / 2
    return $guess
---
print(round($f(@small), 3))
---
assert round($f(9), 6) == 3
===
def $f<fizz_buzz|fizz|play_fizz>($n: int, $a<fizz|first>: str = `Fizz`, $b<buzz|second>: str = `Buzz`) -> None:
    for $i in range(1, $n + 1):
        if $i % 15 == 0:
            print($a + $b)
        elif $i % 3 == 0:
            print($a)
        elif $i % 5 == 0:
            print($b)
        else:
            print($i)
---
$f(@count)
===
def $f<pascal|pascal_rows|triangle>($n<height|rows|n>: int) -> list[list[int]]:
    $rows<rows_made|lines|result> = [[1]]
    while len($rows) < $n:
        $last<last|above|previous> = $rows[-1]
        $row<row|line|current> = [1]
        for $i in range(len($last) - 1):
            $row.append($last[$i] + $last[$i + 1])
        $row.append(1)
        $rows.append($row)
    return $rows
---
for $line<line|row> in $f(@small):
    print($line)
---
assert $f(3) == [[1], [1, 1], [1, 2, 1]]
===
def $f<grow_savings|compound|final_balance>($amount<amount|balance|money>: float, \
        $rate<rate|interest|percent>: float = 0.05, $years<years|n|times>: int = 1) -> float:
    $year<year|i> = 0
    while $year < $years:
        $amount += $amount * $rate
        $year += 1
    return round($amount, 2)
---
print($f(@big))
print($f(@big, 0.1, @small))
---
assert $f(100, 0.5, 2) == 225
===
def $f<give_change|make_change|coins_for>($amount<amount|cents|price>: int, \
        $coins<coins|values|sizes>: list[int]) -> dict[int, int]:
    $out<change|counts|used> = {}
    for $coin<coin|value|size> in $coins:
        if $amount >= $coin:
            $out[$coin] = $amount // $coin
            $amount = $amount % $coin
    return $out
---
print($f(@big, [50, 20, 10, 5, 2, 1]))
---
assert $f(7, [5, 2, 1]) == {5: 1, 2: 1}
===
def $f<power|raise_to|to_the_power>($x<base|x|number>: int, $n<exponent|n|times>: int) -> int:
    $out = 1
    while $n:
        if $n % 2 == 1:
            $out *= $x
        $x *= $x
        $n //= 2
    return $out
---
print($f(@small, @small))
---
assert $f(2, 10) == 1024
===
def $f<is_perfect|perfect|check_perfect>($n: int) -> bool:
    $total = 0
    for $d<divisor|d|part> in range(1, $n):
        if $n % $d == 0:
            $total += $d
    if $total == $n:
        return True
    return False
---
print([$n2<n|x|number> for $n2 in range(2, 500) if $f($n2)])
---
assert $f(6)
assert not $f(8)
===
def $f<grade|letter_grade|mark_for>($score<score|points|mark>: int) -> str:
    if $score >= 90:
        return `A`
    elif $score >= 80:
        return `B`
    elif $score >= 70:
        return `C`
    else:
        return `F`
---
for $name<name|student|pupil>, $score2<score|points> in [(`@person`, @number), (`@person`, @number)]:
    print(f`{$name}: {$f($score2)}`)
---
assert $f(95) == `A`
assert $f(10) == `F`
""")
