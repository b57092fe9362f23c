"""Sketches about lists: sorting, searching, grouping, taking apart."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

LISTS = sketches(r"""
def $f<bubble_sort|sort_by_swapping|put_in_order>($xs: list[int]) -> list[int]:
    "Sort a list by swapping neighbors."
    $flag<changed|swapped|moved> = True
    while $flag:
        $flag = False
        for $i in range(len($xs) - 1):
            if $xs[$i] > $xs[$i + 1]:
                $xs[$i], $xs[$i + 1] = $xs[$i + 1], $xs[$i]
                $flag = True
    return $xs
---
print($f(@integers))
---
$ordered<ordered|result|in_order> = $f([@number, @number, @number])
print(`$ordered`, $ordered)
---
assert $f([3, 1, 2]) == [1, 2, 3]
assert $f([]) == []
===
def $f<selection_sort|sort_smallest_first|order>($xs: list[int]) -> list[int]:
    for $i<i|start|place> in range(len($xs)):
        $best<smallest|lowest|best> = $i
        for $j<j|k|other> in range($i + 1, len($xs)):
            if $xs[$j] < $xs[$best]:
                $best = $j
        $xs[$i], $xs[$best] = $xs[$best], $xs[$i]
    return $xs
---
print($f(@integers))
---
assert $f([2, 3, 1]) == [1, 2, 3]
===
def $f<insertion_sort|insert_in_order|sort_cards>($xs<cards|numbers|values>: list[int]) -> list[int]:
    for $i in range(1, len($xs)):
        $x<card|value|number> = $xs[$i]
        $j<j|place|hole> = $i
        while $j > 0 and $xs[$j - 1] > $x:
            $xs[$j] = $xs[$j - 1]
            $j -= 1
        $xs[$j] = $x
    return $xs
---
$hand<hand|cards|values> = @integers
print($hand, $f(list($hand)))
---
assert $f([5, 2, 9]) == [2, 5, 9]
===
def $f<merge|merge_lists|join_sorted>($a<left|first|xs>: list[int], $b<right|second|ys>: list[int]) -> list[int]:
    "Merge two sorted lists."
    $out = []
    while $a and $b:
        if $a[0] <= $b[0]:
            $out.append($a.pop(0))
        else:
            $out.append($b.pop(0))
    return $out + $a + $b


def $g<merge_sort|sort_by_merging|merged>($xs: list[int]) -> list[int]:
    if len($xs) < 2:
        return $xs
    $m<middle|half|cut> = len($xs) // 2
    return $f($g($xs[:$m]), $g($xs[$m:]))
---
print($g(@integers))
---
assert $f([1, 3], [2]) == [1, 2, 3]
assert $g([4, 1, 3]) == [1, 3, 4]
===
def $f<quick_sort|sort_parts|quicksort>($xs: list[int]) -> list[int]:
    if not $xs:
        return []
    $p<pivot|first|middle> = $xs[0]
    $small<smaller|below|left> = [$x for $x in $xs[1:] if $x < $p]
    $large<larger|above|right> = [$x for $x in $xs[1:] if $x >= $p]
    return $f($small) + [$p] + $f($large)
---
print($f(@integers))
---
assert $f([3, 1, 2, 1]) == [1, 1, 2, 3]
===
def $f<counting_sort|sort_small_numbers|sort_by_count>($xs: list[int]) -> list[int]:
    $counts = [0] * (max($xs) + 1)
    for $x in $xs:
        $counts[$x] += 1
    $out = []
    for $value<value|number|n>, $count<count|times|amount> in enumerate($counts):
        for _ in range($count):
            $out.append($value)
    return $out
---
print($f([@digit, @digit, @digit, @digit]))
---
assert $f([2, 0, 2, 1]) == [0, 1, 2, 2]
===
def $f<binary_search|find_sorted|search>($xs: list[int], $x<target|wanted|goal>: int) -> int:
    "The place of a number in a sorted list, or -1."
    $left<left|low|start>, $right<right|high|end> = 0, len($xs) - 1
    while $left <= $right:
        $m<middle|mid|half> = ($left + $right) // 2
        if $xs[$m] == $x:
            return $m
        elif $xs[$m] < $x:
            $left = $m + 1
        else:
            $right = $m - 1
    return -1
---
print($f(sorted(@integers), @number))
---
assert $f([1, 3, 5, 7], 5) == 2
assert $f([1, 3], 2) == -1
===
def $f<find|index_of|linear_search|place_of>($xs<items|names|words>: list[str], \
        $x<wanted|target|name>: str) -> int | None:
    for $i, $item<item|other|entry> in enumerate($xs):
        if $item == $x:
            return $i
    return None
---
$names<names|words|items> = @words
print($f($names, `@word`))
---
$place<place|index|found> = $f(@people, `@person`)
if $place is None:
    print(`not found`)
else:
    print(`found at`, $place)
---
assert $f([`a`, `b`], `b`) == 1
assert $f([], `a`) is None
===
def $f<second_largest|runner_up|second_best>($xs: list[int]) -> int:
    $a<first|best|largest> = $b<second|next_best|other> = 0
    for $x in $xs:
        if $x > $a:
            $a, $b = $x, $a
        elif $x > $b:
            $b = $x
    return $b
---
print($f(@integers))
---
assert $f([3, 9, 5]) == 5
===
def $f<reverse_list|turn_around|reverse_in_place>($xs: list[int]) -> list[int]:
    $left<left|i|start>, $right<right|j|end> = 0, len($xs) - 1
    while $left < $right:
        $xs[$left], $xs[$right] = $xs[$right], $xs[$left]
        $left += 1
        $right -= 1
    return $xs
---
print($f(@integers))
---
assert $f([1, 2, 3]) == [3, 2, 1]
===
def $f<rotate|shift_list|turn>($xs: list[int], $n<steps|n|count>: int = 1) -> list[int]:
    if not $xs:
        return $xs
    $n = $n % len($xs)
    return $xs[$n:] + $xs[:$n]
---
print($f(@integers), $f(@integers, @small))
---
assert $f([1, 2, 3]) == [2, 3, 1]
===
def $f<unique|without_repeats|drop_repeats|remove_duplicates>($xs: list[int]) -> list[int]:
    "Keep the first of each value."
    $seen<seen|known|used|current|found> = set()
    $out<result|kept|output> = []
    for $x<x|item|value|number> in $xs:
        if $x not in $seen:
            $seen.add($x)
            $out.append($x)
    return $out
---
print($f([@digit, @digit, @digit, @digit, @digit]))
---
assert $f([1, 2, 1]) == [1, 2]
===
def $f<has_repeats|has_duplicate|repeats>($xs<items|values|words>: list[str]) -> bool:
    $seen<seen|known|used|current|visited> = set()
    for $x<item|value|word> in $xs:
        if $x in $seen:
            return True
        $seen.add($x)
    return False
---
print($f(@words))
---
assert $f([`a`, `b`, `a`]) == True
assert $f([`a`]) == False
===
def $f<chunks|split_list|in_groups|batches>($xs: list[int], $size<size|width|n>: int = 2) -> list[list[int]]:
    $out<parts|groups|result> = []
    for $i<i|start|place> in range(0, len($xs), $size):
        $out.append($xs[$i:$i + $size])
    return $out
---
for $group<group|part|batch> in $f(@integers):
    print($group)
---
print($f(@integers, $size=3))
---
assert $f([1, 2, 3]) == [[1, 2], [3]]
===
def $f<flatten|make_flat|flat>($xs<items|nested|tree>: list) -> list[int]:
    "Take all numbers out of nested lists."
    $out = []
    for $x<item|part|entry> in $xs:
        if isinstance($x, list):
            $out += $f($x)
        else:
            $out.append($x)
    return $out
---
print($f([@digit, [@digit, [@digit, @digit]], [@digit]]))
---
assert $f([1, [2, [3]]]) == [1, 2, 3]
===
def $f<nested_depth|depth_of|depth>($xs<items|nested|tree>: list) -> int:
    $deepest<deepest|best|most> = 0
    for $x<item|part|entry> in $xs:
        if isinstance($x, list):
            $deepest = max($deepest, $f($x))
    return $deepest + 1
---
print($f([@digit, [@digit, [@digit, []]], [@digit]]))
---
assert $f([1, [2]]) == 2
===
def $f<transpose|turn_rows|columns>($rows<rows|grid|matrix|table>: list[list[int]]) -> list[list[int]]:
    $out = []
    for $j<j|column|x> in range(len($rows[0])):
        $column<new_row|line|values> = []
        for $row<row|part> in $rows:
            $column.append($row[$j])
        $out.append($column)
    return $out
---
print($f([[@digit, @digit], [@digit, @digit]]))
---
assert $f([[1, 2], [3, 4]]) == [[1, 3], [2, 4]]
===
def $f<multiply|matrix_product|multiply_matrices>($a<a|left|first>: list[list[int]], \
        $b<b|right|second>: list[list[int]]) -> list[list[int]]:
    $out<product|result|rows> = []
    for $i<i|y|r> in range(len($a)):
        $row<row|line> = []
        for $j<j|x|c> in range(len($b[0])):
            $total<total|cell|value> = 0
            for $k<k|n|m> in range(len($b)):
                $total += $a[$i][$k] * $b[$k][$j]
            $row.append($total)
        $out.append($row)
    return $out
---
print($f([[1, @digit], [@digit, 1]], [[@digit, 0], [0, @digit]]))
---
assert $f([[1, 2]], [[3], [4]]) == [[11]]
===
def $f<partition|split_by|separate>($xs: list[int], $test<test|check|rule>) -> tuple[list[int], list[int]]:
    $yes<passed|kept|good> = []
    $no<failed|rest|bad> = []
    for $x in $xs:
        ($yes if $test($x) else $no).append($x)
    return $yes, $no
---
$even<even|kept|low>, $odd<odd|rest|high> = $f(@integers, lambda $n2<n|x|number>: $n2 % 2 == 0)
print($even, $odd)
---
assert $f([1, 2, 3], lambda $n2<n|x|number>: $n2 > 1) == ([2, 3], [1])
===
def $f<group_by_length|group_words|by_length>($xs<words|names|terms>: list[str]) -> dict[int, list[str]]:
    $groups<groups|lengths|found> = {}
    for $x<word|name|term> in $xs:
        $n<size|length|n> = len($x)
        if $n not in $groups:
            $groups[$n] = []
        $groups[$n].append($x)
    return $groups
---
for $size<size|length>, $group<group|words|found> in $f(@words).items():
    print($size, $group)
---
assert $f([`a`, `bb`, `c`]) == {1: [`a`, `c`], 2: [`bb`]}
===
def $f<two_sum|find_pair|pair_with_total>($xs: list[int], $goal<goal|target|wanted>: int) -> tuple[int, int] | None:
    $seen<seen|places|known> = {}
    for $i<i|place|index>, $x<x|number|value> in enumerate($xs):
        $other<other|missing|rest> = $goal - $x
        if $other in $seen:
            return $seen[$other], $i
        $seen[$x] = $i
    return None
---
print($f(@integers, @number))
---
assert $f([2, 7, 11], 9) == (0, 1)
===
def $f<largest_run|best_sum|max_subarray>($xs<values|changes|numbers>: list[int]) -> int:
    $best<best|largest|answer> = $current<current|here|running> = $xs[0]
    for $x<x|value|change> in $xs[1:]:
        $current = max($x, $current + $x)
        if $current > $best:
            $best = $current
    return $best
---
print($f([@digit, -@digit, @digit, @digit, -@digit]))
---
assert $f([1, -3, 4, 2]) == 6
===
def $f<permutations|all_orders|arrangements>($xs<items|letters|values>: list[str]) -> list[list[str]]:
    if len($xs) <= 1:
        return [$xs]
    $out = []
    for $i<i|place|index> in range(len($xs)):
        $rest<rest|others|left> = $xs[:$i] + $xs[$i + 1:]
        for $tail<tail|order|part> in $f($rest):
            $out.append([$xs[$i]] + $tail)
    return $out
---
for $order<order|row|way> in $f([`@letter`, `x`, `y`]):
    print($order)
---
assert $f([`a`, `b`]) == [[`a`, `b`], [`b`, `a`]]
===
def $f<subsets|all_subsets|power_set>($xs<items|values|parts>: list[str]) -> list[list[str]]:
    $out<result|found|sets> = [[]]
    for $x<item|value|part> in $xs:
        $out += [$s<old|subset|group> + [$x] for $s in $out]
    return $out
---
print(len($f(@words)))
---
assert $f([`a`]) == [[], [`a`]]
===
def $f<count_items|tally|count_all|frequencies>($xs<items|words|names>: list[str]) -> dict[str, int]:
    "Count how often each item stands in a list."
    $counts = {}
    for $x<item|word|name> in $xs:
        $counts[$x] = $counts.get($x, 0) + 1
    return $counts
---
for $key<word|name|item>, $count<count|times> in $f(@words).items():
    print(f`{$key}: {$count}`)
---
assert $f([`a`, `b`, `a`]) == {`a`: 2, `b`: 1}
===
def $f<spiral|read_spiral|spiral_order>($grid: list[list[int]]) -> list[int]:
    $out = []
    while $grid:
        $out += $grid.pop(0)
        $grid = [list($row<row|part>) for $row in zip(*$grid)][::-1]
    return $out
---
print($f([[1, 2, @digit], [@digit, 5, 6]]))
---
assert $f([[1, 2], [3, 4]]) == [1, 2, 4, 3]
===
def $f<zip_longest|interleave|mix>($a<first|left|xs>: list[int], $b<second|right|ys>: list[int]) -> list[int]:
    $out = []
    $i = 0
    while $i < len($a) or $i < len($b):
        if $i < len($a):
            $out.append($a[$i])
        if $i < len($b):
            $out.append($b[$i])
        $i += 1
    return $out
---
print($f(@integers, @integers))
---
assert $f([1, 2], [3]) == [1, 3, 2]
""")
