"""Sketches about text: letters, words, lines, ciphers, layout."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

TEXTS = sketches(r"""
def $f<is_palindrome|same_backwards|reads_both_ways>($text: str) -> bool:
    "Say whether a text reads the same from both ends."
    $left<left|i|start>, $right<right|j|end> = 0, len($text) - 1
    while $left < $right:
        if $text[$left] != $text[$right]:
            return False
        $left += 1
        $right -= 1
    return True
---
for $word in (`level`, `@word`):
    print($word, $f($word))
---
assert $f(`abba`)
assert not $f(`abc`)
===
def $f<reverse_text|backwards|turn_text>($text: str) -> str:
    $out<result|output|current|reversed_text> = ``
    for $c in $text:
        $out = $c + $out
    return $out
---
print($f(`@word`))
---
assert $f(`abc`) == `cba`
===
def $f<reverse_words|turn_words|words_backwards>($text: str) -> str:
    $words = $text.split()
    $words.reverse()
    return ` `.join($words)
---
print($f(`@phrase`))
---
assert $f(`one two`) == `two one`
===
def $f<count_vowels|vowels_in|number_of_vowels>($text: str) -> int:
    $count = 0
    for $c in $text.lower():
        if $c in `aeiou`:
            $count += 1
    return $count
---
$word2<word|name|text> = `@word`
print(f`{$word2} has {$f($word2)} vowels`)
---
assert $f(`banana`) == 3
===
def $f<without_vowels|remove_vowels|shorten>($text: str) -> str:
    $out<result|output|kept|current> = ``
    for $c in $text:
        if $c not in `aeiou`:
            $out += $c
    return $out
---
print($f(`@phrase`))
---
assert $f(`letter`) == `lttr`
===
def $f<caesar|shift_letters|encrypt|encode>($text: str, $shift<shift|key|step>: int = 3) -> str:
    "Move every letter along the alphabet."
    $out<result|output|secret|current> = ``
    for $c in $text:
        if $c.isalpha():
            $out += chr((ord($c.lower()) - 97 + $shift) % 26 + 97)
        else:
            $out += $c
    return $out
---
$secret<secret|hidden|code> = $f(`@word`)
print($secret, $f($secret, -3))
---
print($f(`@phrase`, $shift=@small))
---
assert $f(`abc`) == `def`
assert $f(`def`, -3) == `abc`
===
def $f<compress|run_length|count_runs|squeeze>($text: str) -> str:
    $out<result|output|short|current> = ``
    $i<i|start|place> = 0
    while $i < len($text):
        $j<j|end|stop> = $i
        while $j < len($text) and $text[$j] == $text[$i]:
            $j += 1
        $out += $text[$i] + str($j - $i)
        $i = $j
    return $out
---
print($f(`aaab@letter@letter`))
---
assert $f(`aab`) == `a2b1`
===
def $f<word_counts|count_words|word_frequency>($text: str) -> dict[str, int]:
    $counts = {}
    for $word in $text.lower().split():
        $word = $word.strip(`.,!?`)
        $counts[$word] = $counts.get($word, 0) + 1
    return $counts
---
$counts2<counts|tally|words> = $f(`@phrase and @phrase`)
for $word2<word|key>, $n<count|n> in sorted($counts2.items()):
    print($word2, $n)
---
assert $f(`a b a`) == {`a`: 2, `b`: 1}
===
def $f<is_anagram|same_letters|are_anagrams>($a<first|a|word>: str, $b<second|b|other>: str) -> bool:
    return sorted($a) == sorted($b)
---
if $f(`listen`, `silent`):
    print(`anagram`)
else:
    print(`no anagram`)
---
assert $f(`tea`, `eat`)
assert not $f(`tea`, `ten`)
===
def $f<longest_word|find_longest|longest>($words: list[str]) -> str:
    $best<best|longest_so_far|answer> = ``
    for $word in $words:
        if len($word) > len($best):
            $best = $word
    return $best
---
print(`longest:`, $f(@words))
---
assert $f([`a`, `abc`, `ab`]) == `abc`
===
def $f<acronym|initials|first_letters>($text<text|name|title>: str) -> str:
    $out<result|letters|short|current> = ``
    for $word in $text.split():
        $out += $word[0].upper()
    return $out
---
print($f(`@word @noun @word`))
---
assert $f(`very good idea`) == `VGI`
===
def $f<wrap|wrap_text|fold_lines>($text: str, $width<width|limit|size>: int = 20) -> list[str]:
    "Break a text into lines."
    $lines = []
    $line<line|current|row> = ``
    for $word in $text.split():
        if len($line) + len($word) > $width:
            $lines.append($line.strip())
            $line = ``
        $line += $word + ` `
    $lines.append($line.strip())
    return $lines
---
for $row<row|line> in $f(`@phrase, @phrase and @phrase`):
    print($row)
---
assert $f(`one two three`, 8) == [`one two`, `three`]
===
def $f<snake_case|to_snake|snake_name>($name<name|text|word>: str) -> str:
    $out<result|output|made|current> = ``
    for $i, $c in enumerate($name):
        if $c.isupper() and $i > 0:
            $out += `_`
        $out += $c.lower()
    return $out


def $g<camel_case|to_camel|camel_name>($name: str) -> str:
    return ``.join($part<part|word|piece>.capitalize() for $part in $name.split(`_`))
---
print($f(`$Thing`), $g(`$thing_$measure`))
---
assert $f(`BigBox`) == `big_box`
assert $g(`big_box`) == `BigBox`
===
def $f<common_prefix|shared_start|same_beginning>($words: list[str]) -> str:
    $out<prefix|start|result> = ``
    for $letters<letters|group|column> in zip(*$words):
        if len(set($letters)) > 1:
            break
        $out += $letters[0]
    return $out
---
print($f([`flower`, `flow`, `flight`]))
---
assert $f([`tea`, `team`]) == `tea`
===
def $f<slug|make_slug|file_title>($title<title|text|name>: str) -> str:
    $out<result|name_made|kept|current> = ``
    for $c in $title.lower():
        $out += $c if $c.isalnum() else `-`
    return $out.strip(`-`)
---
print($f(`@phrase`))
---
assert $f(`Hello world`) == `hello-world`
===
def $f<censor|hide_words|mask_words>($text: str, $words<hidden|bad_words|secret>: list[str]) -> str:
    $out<result|kept|parts> = []
    for $word<word|part> in $text.split():
        if $word in $words:
            $out.append(`*` * len($word))
        else:
            $out.append($word)
    return ` `.join($out)
---
print($f(`the @word is @adjective`, [`@word`, `the`]))
---
assert $f(`a bad day`, [`bad`]) == `a *** day`
===
def $f<print_table|show_table|write_rows>($rows: list[list[str]], $width<width|size|space>: int = 10) -> None:
    "Print rows in columns."
    for $row<row|cells> in $rows:
        $line<line|text|current> = ``
        for $cell<cell|field|value> in $row:
            $line += str($cell).ljust($width)
        print($line)
---
$f([[`$label`, `$measure`], [`@word`, `@number`], [`@word`, `@number`]])
---
$f([[`@word`, @number]], $width=@count)
===
def $f<make_box|frame|box>($text: str, $mark<mark|edge|sign>: str = `*`) -> str:
    $line<line|border|rule> = $mark * (len($text) + 4)
    return f`{$line}\n{$mark} {$text} {$mark}\n{$line}`
---
print($f(`@phrase`))
---
print($f(`@word`, `<#|+|=>`))
===
def $f<pig_latin|translate|to_pig_latin>($word: str) -> str:
    if $word[0] in `aeiou`:
        return $word + `way`
    while $word[0] not in `aeiou`:
        $word = $word[1:] + $word[0]
    return $word + `ay`
---
for $word2<word|name> in [`apple`, `banana`, `table`]:
    print($f($word2))
---
assert $f(`pig`) == `igpay`
===
def $f<plural|many|plural_of>($word<word|noun|name>: str, $count<count|n|amount>: int = 2) -> str:
    if $count == 1:
        return $word
    elif $word.endswith(`s`):
        return $word + `es`
    elif $word.endswith(`y`):
        return $word[:-1] + `ies`
    else:
        return $word + `s`
---
for $n<n|count|amount> in range(3):
    print($n, $f(`$thing`, $n))
---
assert $f(`city`) == `cities`
assert $f(`bus`) == `buses`
===
def $f<numbered|number_lines|with_numbers>($lines: list[str], $start<start|first>: int = 1) -> str:
    $out<text|result|output|current> = ``
    for $i<i|number|n>, $line in enumerate($lines, $start):
        $out += f`{$i}. {$line}\n`
    return $out
---
print($f([`@phrase`, `@phrase`]))
---
assert $f([`a`, `b`]) == `1. a\n2. b\n`
===
def $f<hide|mask|show_guess>($word<word|secret|answer>: str, $letters<letters|guesses|known>: set[str]) -> str:
    $out<shown|result|line|current> = ``
    for $c in $word:
        if $c in $letters:
            $out += $c
        else:
            $out += `_`
    return $out
---
$tried<tried|guesses|seen> = set()
for $c2<letter|guess|c> in `aest`:
    $tried.add($c2)
    print($f(`@word`, $tried))
---
assert $f(`tree`, {`e`}) == `__ee`
===
def $f<letters_used|alphabet_of|distinct_letters>($text: str) -> list[str]:
    $seen<seen|current|letters|found|known> = set()
    for $c in $text:
        if $c == ` `:
            continue
        $seen.add($c)
    return sorted($seen)
---
print($f(`@phrase`))
---
assert $f(`abba`) == [`a`, `b`]
===
def $f<join_names|name_list|spoken_list>($names<names|words|items>: list[str]) -> str:
    "Join names as people write them."
    if not $names:
        return `nobody`
    $text<text|line|result|current> = ``
    for $i, $name<name|word|item> in enumerate($names):
        if $i == 0:
            $text += $name
        elif $i == len($names) - 1:
            $text += ` and ` + $name
        else:
            $text += `, ` + $name
    return $text
---
print($f(@people))
---
assert $f([`a`, `b`]) == `a and b`
===
def $f<histogram|draw_bars|show_bars>($counts<counts|values|amounts>: dict[str, int], \
        $mark<mark|sign|bar>: str = `#`) -> None:
    for $name<name|key|label>, $count<count|value|n> in $counts.items():
        print($name, $mark * $count)
---
$f({`@word`: @small, `other`: @small})
---
$f({`@person`: @digit}, `<*|+|=>`)
===
def $f<strip_comments|without_comments|code_only>($lines: list[str]) -> list[str]:
    $out<kept|result|code> = []
    for $line in $lines:
        if `#` in $line:
            $line = $line[:$line.index(`#`)]
        if $line.strip():
            $out.append($line.rstrip())
    return $out
---
print($f([`x = 1  # one`, `# nothing`, `y = 2`]))
---
assert $f([`a # b`, `c`]) == [`a`, `c`]
===
def $f<check_password|is_strong|password_ok>($word<password|word|text>: str, \
        $limit<limit|shortest|size>: int = 8) -> bool:
    if len($word) < $limit:
        return False
    $digits<has_digit|digit_found|found> = False
    for $c in $word:
        if $c.isdigit():
            $digits = True
    if $digits == True:
        return True
    return False
---
print($f(`@word`), $f(`@word@big@big`))
---
assert $f(`secret1234`)
assert not $f(`abc`)
""")
