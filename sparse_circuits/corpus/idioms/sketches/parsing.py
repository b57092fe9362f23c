"""Sketches that parse text: settings, tables, expressions, commands, dates."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

PARSERS = sketches(r"""
def $f<parse_settings|read_settings|parse_config>($text: str) -> dict[str, str]:
    "Read lines of the form key = value."
    $out<settings|result|config> = {}
    for $line in $text.split(`\n`):
        $line = $line.strip()
        if not $line or $line.startswith(`#`):
            continue
        $key<key|name>, $value<value|setting> = $line.split(`=`, 1)
        $out[$key.strip()] = $value.strip()
    return $out
---
$settings<settings|config|options> = $f(`$label = @word\n# note\n$measure = @number`)
print($settings)
---
assert $f(`a = 1`) == {`a`: `1`}
===
def $f<parse_line|split_row|read_row>($line: str, $mark<separator|mark|comma>: str = `,`) -> list[str]:
    $fields<fields|parts|cells> = []
    $current<current|field|text> = ``
    $quoted<quoted|inside|in_quotes> = False
    for $c in $line:
        if $c == `"`:
            $quoted = not $quoted
        elif $c == $mark and not $quoted:
            $fields.append($current)
            $current = ``
        else:
            $current += $c
    $fields.append($current)
    return $fields
---
print($f(`@word,@number,@adjective`))
---
print($f(`@word;@word`, $mark=`;`))
---
assert $f(`a,b`) == [`a`, `b`]
===
def $f<parse_table|read_table|parse_csv>($text: str) -> list[dict[str, str]]:
    "Turn comma separated lines into records."
    $lines<lines|rows> = $text.strip().split(`\n`)
    $head<head|header|names> = $lines[0].split(`,`)
    $out<records|table|result> = []
    for $line<line|row> in $lines[1:]:
        $cells<cells|values|fields> = $line.split(`,`)
        $out.append(dict(zip($head, $cells)))
    return $out
---
for $record<record|$thing|entry> in $f(`$label,$measure\n@word,@number\n@word,@number`):
    print($record[`$label`], $record[`$measure`])
---
assert $f(`a,b\n1,2`) == [{`a`: `1`, `b`: `2`}]
===
def $f<tokenize|split_tokens|tokens_of>($text<text|expression|source>: str) -> list[str]:
    $out<tokens|parts|found> = []
    $i<i|place|position> = 0
    while $i < len($text):
        $c<c|char|letter> = $text[$i]
        if $c.isdigit():
            $number<number|digits|current> = ``
            while $i < len($text) and $text[$i].isdigit():
                $number += $text[$i]
                $i += 1
            $out.append($number)
        elif $c == ` `:
            $i += 1
        else:
            $out.append($c)
            $i += 1
    return $out


def $g<evaluate|calculate|value_of>($tokens<tokens|parts>: list[str]) -> int:
    $total<total|result|value> = int($tokens[0])
    $place<place|i|index> = 1
    while $place < len($tokens):
        $sign<sign|operator|op>, $n<number|n|operand> = $tokens[$place], int($tokens[$place + 1])
        if $sign == `+`:
            $total += $n
        elif $sign == `-`:
            $total -= $n
        else:
            $total *= $n
        $place += 2
    return $total
---
print($g($f(`@number + @number - @digit`)))
---
assert $f(`1+2`) == [`1`, `+`, `2`]
assert $g([`1`, `+`, `2`]) == 3
===
class $Parser<Parser|Calculator|Reader>:
    "Read sums and products with brackets."

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0

    def peek(self) -> str | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self) -> str:
        token = self.tokens[self.place]
        self.place += 1
        return token

    def expression(self) -> int:
        value = self.term()
        while self.peek() == `+`:
            self.take()
            value += self.term()
        return value

    def term(self) -> int:
        value = self.factor()
        while self.peek() == `*`:
            self.take()
            value *= self.factor()
        return value

    def factor(self) -> int:
        token = self.take()
        if token == `(`:
            value = self.expression()
            self.take()
            return value
        return int(token)
---
$parser<parser|reader|p> = $Parser([`@digit`, `+`, `@digit`, `*`, `@digit`])
print($parser.expression())
---
$tokens<tokens|parts> = list(`(@digit+@digit)*@digit`)
print($Parser($tokens).expression())
---
assert $Parser(list(`1+2*3`)).expression() == 7
assert $Parser(list(`(1+2)*3`)).expression() == 9
===
def $f<postfix|run_postfix|calculate>($text<text|line|program>: str) -> int:
    "Work out a sum in postfix form."
    $stack = []
    for $word<word|token|part> in $text.split():
        if $word.isdigit():
            $stack.append(int($word))
        else:
            $b<b|right|second> = $stack.pop()
            $a<a|left|first> = $stack.pop()
            if $word == `+`:
                $stack.append($a + $b)
            elif $word == `*`:
                $stack.append($a * $b)
            else:
                $stack.append($a - $b)
    return $stack[0]
---
print($f(`@digit @digit + @digit *`))
---
assert $f(`2 3 + 4 *`) == 20
===
def $f<parse_sections|read_sections|parse_ini>($text: str) -> dict[str, dict[str, str]]:
    $out<sections|result|config> = {}
    $name<current|section|name> = ``
    for $line in $text.split(`\n`):
        if $line.startswith(`[`):
            $name = $line[1:-1]
            $out[$name] = {}
        elif `=` in $line:
            $key<key|option>, $value<value|setting> = $line.split(`=`)
            $out[$name][$key] = $value
    return $out
---
print($f(`[$thing]\n$label=@word\n$measure=@number`))
---
assert $f(`[a]\nb=1`) == {`a`: {`b`: `1`}}
===
def $f<parse_time|to_minutes|minutes_of>($text<text|clock|time_text>: str) -> int:
    $hours<hours|h>, $minutes<minutes|m> = $text.split(`:`)
    return int($hours) * 60 + int($minutes)


def $g<format_time|clock_time|show_time>($n<minutes|n|total>: int) -> str:
    return f`{$n // 60:02d}:{$n % 60:02d}`
---
$start<start|begin|opened> = $f(`08:30`)
$end<end|finish|closed> = $f(`1@digit:15`)
print($g($end - $start))
---
assert $f(`01:10`) == 70
assert $g(75) == `01:15`
===
def $f<parse_date|read_date|split_date>($text<text|date_text|day>: str) -> dict[str, int]:
    $year<year|y>, $month<month|m>, $day<date|d> = $text.split(`-`)
    return {`year`: int($year), `month`: int($month), `day`: int($day)}
---
$date2<date|today|when> = $f(`2024-0@small-1@digit`)
print($date2[`year`], $date2[`month`], $date2[`day`])
---
assert $f(`2024-01-02`) == {`year`: 2024, `month`: 1, `day`: 2}
===
def $f<parse_version|version_parts|split_version>($text<text|version>: str) -> tuple[int, ...]:
    return tuple(int($part<part|piece|n>) for $part in $text.split(`.`))


def $g<is_newer|newer|later_version>($a<a|first|version>: str, $b<b|second|other>: str) -> bool:
    if $f($a) > $f($b):
        return True
    return False
---
print($g(`1.@digit.0`, `1.@digit.2`))
---
assert $f(`1.2`) == (1, 2)
assert $g(`1.10`, `1.9`)
===
def $f<parse_query|read_query|query_values>($text<query|text|address>: str) -> dict[str, str]:
    $out<values|result|found> = {}
    if `?` in $text:
        $text = $text.split(`?`)[1]
    for $pair<pair|part|item> in $text.split(`&`):
        $key<key|name>, _, $value<value|text_value> = $pair.partition(`=`)
        $out[$key] = $value
    return $out
---
print($f(`/$things?$label=@word&$measure=@number`))
---
assert $f(`a=1&b=2`) == {`a`: `1`, `b`: `2`}
===
def $f<run_command|do_command|obey>($line<line|command|text>: str, $state<state|values|store>: dict[str, int]) -> str:
    $parts<parts|words> = $line.split()
    if len($parts) == 3 and $parts[0] == `set`:
        $state[$parts[1]] = int($parts[2])
        return `ok`
    elif len($parts) == 2 and $parts[0] == `get`:
        return str($state.get($parts[1], `nothing`))
    else:
        return `unknown command`
---
$memory<memory|values|state> = {}
for $line2<line|command> in [`set $measure @number`, `get $measure`, `@verb`]:
    print($f($line2, $memory))
---
assert $f(`set a 1`, {}) == `ok`
assert $f(`get b`, {`b`: 2}) == `2`
===
def $f<parse_log|read_log|log_parts>($line<line|entry|text>: str) -> dict[str, str]:
    $level<level|kind>, $message<message|rest> = $line.split(`: `, 1)
    return {`level`: $level, `message`: $message}


def $g<count_levels|levels_in|log_counts>($lines<lines|entries>: list[str]) -> dict[str, int]:
    $counts = {}
    for $line in $lines:
        $level = $f($line)[`level`]
        $counts[$level] = $counts.get($level, 0) + 1
    return $counts
---
$log<log|entries|lines> = [`ERROR: @phrase`, `INFO: @phrase`, `INFO: @phrase`]
print($g($log))
---
assert $f(`INFO: ok`) == {`level`: `INFO`, `message`: `ok`}
===
def $f<fill_in|fill_template|replace_names>($text<text|template|letter>: str, \
        $values<values|names|words>: dict[str, str]) -> str:
    for $key<key|name>, $value<value|word> in $values.items():
        $text = $text.replace(`%` + $key, $value)
    return $text
---
print($f(`dear %$label`, {`$label`: `@person`}))
---
assert $f(`a %b`, {`b`: `c`}) == `a c`
===
def $f<parse_nested|read_brackets|nested_list>($text: str) -> list:
    "Turn a text of brackets into nested lists."
    $stack<stack|open_lists|levels> = [[]]
    for $c in $text:
        if $c == `(`:
            $stack.append([])
        elif $c == `)`:
            $done<done|closed|inner> = $stack.pop()
            $stack[-1].append($done)
        elif $c != ` `:
            $stack[-1].append($c)
    return $stack[0]
---
print($f(`a (b c) ((d))`))
---
assert $f(`a(b)`) == [`a`, [`b`]]
===
def $f<is_balanced|brackets_match|check_brackets>($text: str) -> bool:
    $pairs<pairs|partners|closing> = {`)`: `(`, `]`: `[`}
    $stack = []
    for $c in $text:
        if $c in `([`:
            $stack.append($c)
        elif $c in $pairs:
            if not $stack or $stack.pop() != $pairs[$c]:
                return False
    return not $stack
---
for $text2<text|line> in (`(a[b])`, `(a]`):
    print($text2, $f($text2))
---
assert $f(`([])`)
assert not $f(`(`)
===
def $f<to_text|show_value|write_value>($value<value|item|data>, $depth<depth|level>: int = 0) -> str:
    "Write nested lists and dictionaries on indented lines."
    $pad<pad|space|indent> = `  ` * $depth
    $out<text|result|lines|current> = ``
    if isinstance($value, dict):
        for $key<key|name> in $value:
            $out += f`{$pad}{$key}:\n`
            $out += $f($value[$key], $depth + 1)
    elif isinstance($value, list):
        for $part<part|entry> in $value:
            $out += $f($part, $depth + 1)
    else:
        $out += f`{$pad}{$value}\n`
    return $out
---
print($f({`$label`: `@word`, `$measures`: [@number, [@number, @number]]}))
---
assert $f(1) == `1\n`
===
def $f<parse_args|read_arguments|parse_flags>($words<words|arguments|given>: list[str]) -> dict[str, str]:
    $out<options|found|result> = {}
    $i<i|place> = 0
    while $i < len($words):
        $word<word|name> = $words[$i]
        if $word.startswith(`--`) and $i + 1 < len($words):
            $out[$word[2:]] = $words[$i + 1]
            $i += 2
        else:
            $out[$word] = ``
            $i += 1
    return $out
---
print($f([`--$label`, `@word`, `@verb`]))
---
assert $f([`--a`, `b`]) == {`a`: `b`}
===
def $f<split_name|parse_name|name_parts>($text<text|full_name|name>: str) -> tuple[str, str]:
    $parts<parts|words> = $text.split()
    if len($parts) == 1:
        return $parts[0], ``
    $first<first|given_name>, $last<last|family_name> = $parts[0], $parts[-1]
    return $first, $last
---
$first2<first|given>, $last2<last|family> = $f(`@person @person`)
print(f`{$last2}, {$first2}`)
---
assert $f(`Ada Lovelace`) == (`Ada`, `Lovelace`)
===
def $f<parse_number|to_number|number_or_none>($text<text|word|cell>: str, \
        $default<default|other|fallback>: int | None = None) -> int | None:
    try:
        return int($text)
    except ValueError:
        return $default
---
for $text2<text|word|cell> in [`@number`, `@word`, ``]:
    print($f($text2), $f($text2, $default=0))
---
assert $f(`7`) == 7
assert $f(`x`) is None
""")
