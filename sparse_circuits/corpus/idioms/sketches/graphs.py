"""Sketches about graphs, grids and tables of partial results."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

GRAPHS = sketches(r"""
def $f<reachable|visit_all|breadth_first|walk>($graph: dict[str, list[str]], \
        $start<start|first|source>: str) -> set[str]:
    "All nodes that can be reached, nearest first."
    $seen<seen|visited|current|known> = set()
    $queue<queue|waiting|todo> = [$start]
    while $queue:
        $node = $queue.pop(0)
        if $node in $seen:
            continue
        $seen.add($node)
        for $other<other|neighbor|following> in $graph.get($node, []):
            $queue.append($other)
    return $seen
---
$roads<roads|links|graph> = {`a`: [`b`, `c`], `b`: [`d`], `c`: [], `d`: []}
print(sorted($f($roads, `a`)))
---
assert $f({`a`: [`b`]}, `a`) == {`a`, `b`}
===
def $f<depth_first|explore|visit>($graph: dict[int, list[int]], $node<node|place|start>: int, \
        $seen<seen|visited|known>: set[int] | None = None) -> set[int]:
    if $seen is None:
        $seen = set()
    $seen.add($node)
    for $other<other|neighbor|following> in $graph[$node]:
        if $other not in $seen:
            $f($graph, $other, $seen)
    return $seen
---
print($f({1: [2, 3], 2: [1], 3: []}, 1))
---
assert $f({1: [2], 2: [1]}, 1) == {1, 2}
===
def $f<shortest_path|find_path|route>($graph: dict[str, list[str]], $start<start|source>: str, \
        $goal<goal|target|end>: str) -> list[str] | None:
    $paths<paths|queue|routes> = [[$start]]
    $seen<seen|visited|used> = set()
    while $paths:
        $path<path|way|current> = $paths.pop(0)
        $last<last|node|place> = $path[-1]
        if $last == $goal:
            return $path
        if $last not in $seen:
            $seen.add($last)
            for $other<other|neighbor|following> in $graph[$last]:
                $paths.append($path + [$other])
    return None
---
print($f({`a`: [`b`], `b`: [`c`], `c`: []}, `a`, `c`))
---
assert $f({1: [2], 2: [3], 3: []}, 1, 3) == [1, 2, 3]
===
import heapq


def $f<distances|cheapest|dijkstra>($graph<graph|roads|costs>: dict[str, dict[str, int]], \
        $start<start|source>: str) -> dict[str, int]:
    "The cheapest way from one node to every other."
    $out<found|result|best> = {}
    $queue<queue|heap|waiting> = [(0, $start)]
    while $queue:
        $cost<cost|distance|total>, $node = heapq.heappop($queue)
        if $node in $out:
            continue
        $out[$node] = $cost
        for $other<other|neighbor|following>, $step<step|length|price> in $graph[$node].items():
            heapq.heappush($queue, ($cost + $step, $other))
    return $out
---
$roads<roads|costs|distances_by_road> = {`a`: {`b`: @small, `c`: @number}, `b`: {`c`: @small}, `c`: {}}
for $place<place|node|city>, $cost2<cost|distance> in $f($roads, `a`).items():
    print($place, $cost2)
---
assert $f({`a`: {`b`: 2}, `b`: {}}, `a`) == {`a`: 0, `b`: 2}
===
def $f<build_order|topological_order|order_tasks>($needs<needs|tasks|depends>: dict[str, list[str]]) -> list[str]:
    $done<order|done|result> = []
    while len($done) < len($needs):
        $moved<moved|changed|progress> = False
        for $task<task|name|step> in $needs:
            if $task not in $done and all($other<other|need> in $done for $other in $needs[$task]):
                $done.append($task)
                $moved = True
        if not $moved:
            raise ValueError(`the tasks wait for each other`)
    return $done
---
print($f({`eat`: [`cook`], `cook`: [`shop`], `shop`: []}))
---
assert $f({`b`: [`a`], `a`: []}) == [`a`, `b`]
===
def $f<flood_fill|fill_area|paint>($grid: list[list[int]], $row<row|y>: int, $column<column|x>: int, \
        $new<color|new_value|paint_with>: int) -> list[list[int]]:
    $old<old|before|first_color> = $grid[$row][$column]
    $stack<stack|todo|cells> = [($row, $column)]
    while $stack:
        $y<i|r|top>, $x2<j|c|left> = $stack.pop()
        if 0 <= $y < len($grid) and 0 <= $x2 < len($grid[0]):
            if $grid[$y][$x2] == $old and $old != $new:
                $grid[$y][$x2] = $new
                for $a<a|dy>, $b<b|dx> in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    $stack.append(($y + $a, $x2 + $b))
    return $grid
---
for $line<line|cells> in $f([[0, 0, 1], [1, 0, 1]], 0, 0, @small):
    print($line)
---
assert $f([[0, 1]], 0, 0, 2) == [[2, 1]]
===
def $f<count_neighbors|neighbors_of|near>($grid: list[list[int]], $row<row|y>: int, $column<column|x>: int) -> int:
    $count = 0
    for $i<i|dy> in (-1, 0, 1):
        for $j<j|dx> in (-1, 0, 1):
            if $i == 0 and $j == 0:
                continue
            $y<r|top>, $x<c|left> = $row + $i, $column + $j
            if 0 <= $y < len($grid) and 0 <= $x < len($grid[0]):
                $count += $grid[$y][$x]
    return $count


def $g<next_step|step|evolve>($grid: list[list[int]]) -> list[list[int]]:
    "One step of the game of life."
    $out = []
    for $y2<y|r> in range(len($grid)):
        $line<line|new_row> = []
        for $x2<x|c> in range(len($grid[0])):
            $n<n|near_by|alive> = $f($grid, $y2, $x2)
            $line.append(1 if $n == 3 or ($n == 2 and $grid[$y2][$x2]) else 0)
        $out.append($line)
    return $out
---
$field<field|board|cells> = [[0, 1, 0], [0, 1, 0], [0, 1, 0]]
for $turn<turn|step_number|i> in range(@small):
    $field = $g($field)
    print($field)
---
assert $f([[1, 1], [1, 0]], 1, 1) == 3
===
def $f<knapsack|best_value|fill_bag>($items<items|things|goods>: list[tuple[int, int]], \
        $limit<limit|space|capacity>: int) -> int:
    "The largest value that fits; every item is (weight, value)."
    $best<best|table|values> = [0] * ($limit + 1)
    for $weight<weight|size|cost>, $value<value|price|gain> in $items:
        for $space<space_left|room|w> in range($limit, $weight - 1, -1):
            $best[$space] = max($best[$space], $best[$space - $weight] + $value)
    return $best[$limit]
---
print($f([(@small, @number), (@small, @number), (@small, @number)], @count))
---
assert $f([(1, 2), (2, 3)], 2) == 3
===
def $f<count_ways|ways_to_pay|coin_ways>($amount<amount|total|sum_wanted>: int, \
        $coins<coins|values>: list[int]) -> int:
    $ways<ways|table|counts> = [1] + [0] * $amount
    for $coin<coin|value> in $coins:
        for $i<i|part|n> in range($coin, $amount + 1):
            $ways[$i] += $ways[$i - $coin]
    return $ways[$amount]
---
print($f(@number, [1, 2, 5]))
---
assert $f(4, [1, 2]) == 3
===
def $f<edit_distance|changes_between|word_distance>($a<a|first|left>: str, $b<b|second|right>: str) -> int:
    "How many letters must change to turn one word into another."
    $row<row|costs|previous> = list(range(len($b) + 1))
    for $i<i|y>, $c<c|letter> in enumerate($a, 1):
        $line<line|following|current> = [$i]
        for $j<j|x>, $d<d|other> in enumerate($b, 1):
            $cost<cost|step> = 0 if $c == $d else 1
            $line.append(min($row[$j] + 1, $line[$j - 1] + 1, $row[$j - 1] + $cost))
        $row = $line
    return $row[-1]
---
print($f(`@word`, `@word`))
---
assert $f(`cat`, `cut`) == 1
===
def $f<climb|ways_up|stair_ways>($n<steps|n|stairs>: int, $known<known|memo|cache>: dict[int, \
        int] | None = None) -> int:
    if $known is None:
        $known = {}
    if $n <= 1:
        return 1
    if $n not in $known:
        $known[$n] = $f($n - 1, $known) + $f($n - 2, $known)
    return $known[$n]
---
print($f(@count))
---
assert $f(4) == 5
===
def $f<grid_paths|count_paths|ways_through>($rows<rows|height|h>: int, $columns<columns|width|w>: int) -> int:
    $grid = [[1] * $columns for _ in range($rows)]
    for $i<i|y> in range(1, $rows):
        for $j<j|x> in range(1, $columns):
            $grid[$i][$j] = $grid[$i - 1][$j] + $grid[$i][$j - 1]
    return $grid[-1][-1]
---
print($f(@small, @small))
---
assert $f(3, 3) == 6
===
def $f<longest_rise|increasing|longest_increasing>($xs: list[int]) -> int:
    $best<lengths|best|runs> = [1] * len($xs)
    for $i<i|right> in range(len($xs)):
        for $j<j|left> in range($i):
            if $xs[$j] < $xs[$i]:
                $best[$i] = max($best[$i], $best[$j] + 1)
    return max($best)
---
print($f(@integers))
---
assert $f([3, 1, 2, 5]) == 3
===
def $f<hanoi|move_tower|move_disks>($n: int, $a<source|start|a>: str = `A`, $b<target|goal|c>: str = `C`, \
        $c<spare|helper|b>: str = `B`) -> int:
    if $n == 0:
        return 0
    $moves<moves|count|steps> = $f($n - 1, $a, $c, $b)
    print(f`disk {$n}: {$a} -> {$b}`)
    return $moves + 1 + $f($n - 1, $c, $b, $a)
---
print($f(<2|3|4>))
---
assert $f(3) == 7
===
def $f<place_queens|queens|solve_queens>($size<size|n>: int, \
        $placed<placed|columns|rows>: list[int] | None = None) -> list[int] | None:
    if $placed is None:
        $placed = []
    if len($placed) == $size:
        return $placed
    for $column<column|x|place> in range($size):
        $safe<safe|ok|free> = True
        for $row<row|i|y>, $other<other|taken|queen> in enumerate($placed):
            if $other == $column or abs($other - $column) == len($placed) - $row:
                $safe = False
        if $safe == True:
            $found<found|answer|result> = $f($size, $placed + [$column])
            if $found:
                return $found
    return None
---
print($f(<4|5|6>))
---
assert $f(4) == [1, 3, 0, 2]
===
MAZE = [
    `#####`,
    `#S..#`,
    `#.#.#`,
    `#..E#`,
    `#####`,
]


def $f<find_mark|place_of|locate>($mark<mark|sign|letter>: str) -> tuple[int, int] | None:
    for $y<y|row|i>, $line<line|cells> in enumerate(MAZE):
        for $x<x|column|j>, $cell<cell|c> in enumerate($line):
            if $cell == $mark:
                return $y, $x
    return None


def $g<solve|steps_to_exit|escape>() -> int | None:
    "Count the steps from S to E."
    $todo<todo|queue|waiting> = [($f(`S`), 0)]
    $seen<seen|visited|been> = set()
    while $todo:
        ($y, $x), $steps<steps|count> = $todo.pop(0)
        if MAZE[$y][$x] == `E`:
            return $steps
        if MAZE[$y][$x] == `#` or ($y, $x) in $seen:
            continue
        $seen.add(($y, $x))
        for $a<a|dy>, $b<b|dx> in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            $todo.append((($y + $a, $x + $b), $steps + 1))
    return None
---
print(`steps:`, $g())
===
def $f<count_islands|islands|areas>($grid<grid|field|picture>: list[list[int]]) -> int:
    $count = 0
    $seen<seen|visited|done> = set()
    for $i<i|y> in range(len($grid)):
        for $j<j|x> in range(len($grid[0])):
            if $grid[$i][$j] == 0 or ($i, $j) in $seen:
                continue
            $count += 1
            $stack<stack|todo|cells> = [($i, $j)]
            while $stack:
                $r<r|row>, $c<c|column> = $stack.pop()
                if ($r, $c) in $seen or not 0 <= $r < len($grid):
                    continue
                if 0 <= $c < len($grid[$r]) and $grid[$r][$c]:
                    $seen.add(($r, $c))
                    for $a<a|dy>, $b<b|dx> in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                        $stack.append(($r + $a, $c + $b))
    return $count
---
print($f([[1, 0, <0|1>], [1, 0, 1], [0, <0|1>, 0]]))
---
assert $f([[1, 0, 1]]) == 2
===
def $f<tree_total|total_size|add_tree>($node<node|folder|tree>: dict) -> int:
    $total<total|size|result> = $node[`size`]
    for $child<child|part|inner> in $node[`children`]:
        $total += $f($child)
    return $total


def $g<show_tree|print_tree|draw_tree>($node: dict, $depth<depth|level>: int = 0) -> None:
    print(`  ` * $depth + $node[`name`])
    for $child<child|part|inner> in $node[`children`]:
        $g($child, $depth + 1)
---
$tree<root|home|top> = {
    `name`: `@word`,
    `size`: @number,
    `children`: [
        {`name`: `@word`, `size`: @number, `children`: []},
        {`name`: `@word`, `size`: @number, `children`: []},
    ],
}
$g($tree)
print($f($tree))
---
assert $f({`size`: 2, `children`: [{`size`: 3, `children`: []}]}) == 5
""")
