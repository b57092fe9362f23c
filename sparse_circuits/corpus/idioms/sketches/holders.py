"""Sketches of classes that hold many things: stacks, trees, caches, lists, books."""

from sparse_circuits.corpus.idioms.sketches.language import sketches

HOLDERS = sketches(r"""
class $Node<Node|TreeNode|Branch>:
    def __init__(self, value: int, left=None, right=None) -> None:
        self.value = value
        self.left = left
        self.right = right

    def insert(self, value: int) -> None:
        if value < self.value:
            if self.left is None:
                self.left = $Node(value)
            else:
                self.left.insert(value)
        elif self.right is None:
            self.right = $Node(value)
        else:
            self.right.insert(value)

    def in_order(self) -> list[int]:
        "All values from the smallest to the largest."
        found = []
        if self.left:
            found += self.left.in_order()
        found.append(self.value)
        if self.right:
            found += self.right.in_order()
        return found

    def depth(self) -> int:
        left = self.left.depth() if self.left else 0
        right = self.right.depth() if self.right else 0
        return 1 + max(left, right)
---
$tree<tree|root|top> = $Node(@number)
for $n<n|value|number> in @integers:
    $tree.insert($n)
print($tree.in_order(), $tree.depth())
---
assert $Node(2, $Node(1), $Node(3)).in_order() == [1, 2, 3]
===
class $Trie<Trie|WordTree|Dictionary>:
    def __init__(self) -> None:
        self.children = {}
        self.ends = False

    def add(self, word: str) -> None:
        node = self
        for letter in word:
            if letter not in node.children:
                node.children[letter] = $Trie()
            node = node.children[letter]
        node.ends = True

    def has(self, word: str) -> bool:
        node = self
        for letter in word:
            if letter not in node.children:
                return False
            node = node.children[letter]
        return node.ends
---
$tree<tree|words|lookup> = $Trie()
for $word in @words:
    $tree.add($word)
print($tree.has(`@word`), $tree.has(`@letter`))
===
class $Groups<Groups|UnionFind|Circles>:
    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, x: int) -> int:
        while self.parent[x] != x:
            x = self.parent[x]
        return x

    def join(self, a: int, b: int) -> bool:
        a, b = self.find(a), self.find(b)
        if a == b:
            return False
        self.parent[b] = a
        return True
---
$groups<groups|circles|sets> = $Groups(10)
for $a2<a|left|x>, $b2<b|right|y> in [(1, 2), (3, @digit), (2, @digit)]:
    $groups.join($a2, $b2)
print($groups.find(2) == $groups.find(3))
===
class $Book<GradeBook|ScoreTable|Marks>:
    def __init__(self, subject: str, teacher: str | None = None) -> None:
        self.subject = subject
        self.teacher = teacher
        self.scores = {}

    def add(self, name: str, score: int) -> None:
        if name not in self.scores:
            self.scores[name] = []
        self.scores[name].append(score)

    def average(self, name: str) -> float:
        scores = self.scores[name]
        return sum(scores) / len(scores)

    def best(self) -> str:
        return max(self.scores, key=lambda name: self.average(name))
---
$book<book|grades|marks> = $Book(`<math|history|art|music>`)
for $name<name|student>, $score<score|points> in [(`Ada`, @number), (`Bob`, @number), (`Ada`, @number)]:
    $book.add($name, $score)
print(`best:`, $book.best())
print($book.average(`Ada`))
===
class $Tasks<TodoList|TaskList|Plan>:
    "A list of things to do."

    def __init__(self) -> None:
        self.tasks = []

    def add(self, title: str, done: bool = False) -> None:
        self.tasks.append({`title`: title, `done`: done})

    def finish(self, title: str) -> bool:
        for task in self.tasks:
            if task[`title`] == title:
                task[`done`] = True
                return True
        return False

    def show(self) -> None:
        for number, task in enumerate(self.tasks, 1):
            mark = `x` if task[`done`] else ` `
            title = task[`title`]
            print(f`{number}. [{mark}] {title}`)
---
$tasks<tasks|todo|plan> = $Tasks()
for $title<title|name> in @words:
    $tasks.add($title)
$tasks.finish(`@word`)
$tasks.show()
===
class $Stack<Stack|Pile|Tower>:
    def __init__(self, items: list | None = None) -> None:
        self.items = [] if items is None else items

    def push(self, item) -> None:
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise IndexError(`nothing left`)
        return self.items.pop()

    def __len__(self) -> int:
        return len(self.items)

    def __bool__(self) -> bool:
        return len(self.items) > 0
---
$stack2<stack|pile|tower> = $Stack()
for $x<x|item|n> in @numbers:
    $stack2.push($x)
while $stack2:
    print($stack2.pop())
---
$stack2<stack|pile|tower> = $Stack(@words)
print(len($stack2), $stack2.pop())
===
class $Node<Node|Link|Cell>:
    def __init__(self, value: int, next_node=None) -> None:
        self.value = value
        self.next = next_node


class $Chain<LinkedList|Chain|Train>:
    def __init__(self) -> None:
        self.head = None
        self.size = 0

    def push(self, value: int) -> None:
        self.head = $Node(value, self.head)
        self.size += 1

    def __iter__(self):
        node = self.head
        while node:
            yield node.value
            node = node.next

    def reverse(self) -> None:
        before = None
        node = self.head
        while node:
            node.next, before, node = before, node, node.next
        self.head = before
---
$chain<chain|train|numbers> = $Chain()
for $n<n|value|number> in @integers:
    $chain.push($n)
$chain.reverse()
print(list($chain), $chain.size)
===
class $Cache<Cache|Memory|Recent>:
    "Keeps what was used last."

    def __init__(self, size: int = 3) -> None:
        self.size = size
        self.values = {}

    def get(self, key: str, default=None):
        if key not in self.values:
            return default
        value = self.values.pop(key)
        self.values[key] = value
        return value

    def set(self, key: str, value) -> None:
        self.values.pop(key, None)
        self.values[key] = value
        while len(self.values) > self.size:
            oldest = list(self.values)[0]
            del self.values[oldest]
---
$cache<cache|memory|recent> = $Cache(@small)
for $i, $key<word|key|name> in enumerate(@words):
    $cache.set($key, $i)
print($cache.values, $cache.get(`@word`))
===
class $Editor<Editor|Document|Page>:
    def __init__(self, text: str = ``) -> None:
        self.text = text
        self.past = []

    def write(self, words: str) -> None:
        self.past.append(self.text)
        self.text += words

    def undo(self) -> bool:
        if not self.past:
            return False
        self.text = self.past.pop()
        return True
---
$editor<editor|page|document> = $Editor()
$editor.write(`@phrase`)
$editor.write(`@word`)
$editor.undo()
print($editor.text)
===
class $Events<Events|Bell|Channel>:
    def __init__(self) -> None:
        self.listeners = {}

    def on(self, name: str, action) -> None:
        self.listeners.setdefault(name, []).append(action)

    def fire(self, name: str, value=None) -> int:
        actions = self.listeners.get(name, [])
        for action in actions:
            action(value)
        return len(actions)
---
$events<events|bell|channel> = $Events()
$events.on(`@verb`, lambda $value<value|x|what>: print(`@past`, $value))
$events.fire(`@verb`, @number)
===
class $Matrix<Matrix|Table|Sheet>:
    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows
        self.height = len(rows)
        self.width = len(rows[0])

    def __getitem__(self, place: tuple[int, int]) -> int:
        row, column = place
        return self.rows[row][column]

    def turned(self):
        return $Matrix([list(column) for column in zip(*self.rows)])

    def __str__(self) -> str:
        text = ``
        for row in self.rows:
            for cell in row:
                text += f`{cell} `
            text += `\n`
        return text
---
$matrix<matrix|table|sheet> = $Matrix([[@digit, @digit], [@digit, @digit]])
print($matrix)
print($matrix.turned()[0, 1])
---
assert $Matrix([[1, 2]]).turned().rows == [[1], [2]]
===
class $Library<Library|Archive|Collection>:
    def __init__(self, name: str, city: str | None = None, open_now: bool = True) -> None:
        self.name = name
        self.city = city
        self.open_now = open_now
        self.titles = set()
        self.lent = {}

    def add(self, title: str) -> None:
        self.titles.add(title)

    def lend(self, title: str, reader: str) -> bool:
        if self.open_now == True and title in self.titles:
            self.titles.remove(title)
            self.lent[title] = reader
            return True
        return False

    def give_back(self, title: str) -> str | None:
        reader = self.lent.pop(title, None)
        if reader is not None:
            self.titles.add(title)
        return reader
---
$library<library|archive|shelf> = $Library(`@word`, city=`Oslo`)
$library.add(`@word`)
$library.add(`@word`)
if $library.lend(`@word`, `@person`):
    print(`lent`)
else:
    print(`not there`)
print(len($library.titles))
===
class $List<Playlist|Queue|Program>:
    def __init__(self, title: str, items: list[str] | None = None, repeat: bool = False) -> None:
        self.title = title
        self.items = items or []
        self.repeat = repeat
        self.place = 0

    def __iter__(self):
        return self

    def __next__(self) -> str:
        if self.place >= len(self.items):
            raise StopIteration
        item = self.items[self.place]
        self.place += 1
        return item

    def __contains__(self, item: str) -> bool:
        return item in self.items
---
$list2<playlist|evening|program> = $List(`@phrase`, @words)
for $item<item|song|part> in $list2:
    print($item)
---
$list2<playlist|evening|program> = $List(`@phrase`, items=@words)
print(`@word` in $list2)
===
class $Log<Log|Journal|Diary>:
    def __init__(self, name: str, level: int = 1) -> None:
        self.name = name
        self.level = level
        self.text = ``
        self.seen = set()

    def write(self, message: str, level: int = 1) -> None:
        if level < self.level or message in self.seen:
            return
        self.seen.add(message)
        self.text += f`{self.name}: {message}\n`
---
$log<journal|diary|notes> = $Log(`$thing`)
for $message<message|line|note> in [`@phrase`, `@phrase`, `@word`]:
    $log.write($message)
print($log.text)
===
class $Schedule<Schedule|Calendar|Timetable>:
    DAYS = [`monday`, `tuesday`, `wednesday`]

    def __init__(self, owner: str = `@person`) -> None:
        self.owner = owner
        self.plans = {day: [] for day in self.DAYS}

    def add(self, day: str, plan: str, hour: int | None = None) -> None:
        if day not in self.plans:
            raise KeyError(day)
        self.plans[day].append(plan if hour is None else f`{plan} at {hour}`)

    def busiest(self) -> str:
        best = self.DAYS[0]
        for day, plans in self.plans.items():
            if len(plans) > len(self.plans[best]):
                best = day
        return best
---
$week<week|calendar|schedule> = $Schedule()
$week.add(`monday`, `@verb the @noun`)
$week.add(`tuesday`, `@verb`, hour=@count)
print($week.plans)
print($week.busiest())
""")
