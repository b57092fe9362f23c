"""Files: read and written by `with` and without, in a mode that the name of the file tells.

Input files are only read and output files only written. Who runs such a program puts its inputs beside it: every
program here copes with lines that are whole numbers, in a `.csv` two of them with a comma.
"""

from sparse_circuits.corpus.idioms import expressions, growth, literals, names
from sparse_circuits.corpus.idioms.author import INDENT, Author
from sparse_circuits.corpus.idioms.choices import weighted
from sparse_circuits.corpus.idioms.definition import Definition
from sparse_circuits.corpus.idioms.words import plural, split

TWICE = INDENT * 2
INPUTS = split(
    """input input input input_data source data config settings words old original raw given incoming questions
    read_me names numbers received today list entries start before template"""
)
OUTPUTS = split(
    """output output output output_data target result results report summary copy new final saved answers
    written sent backup finished total after export changed made"""
)
ENDINGS = (".txt", ".txt", ".txt", ".txt", ".csv", ".log")
HANDLES = split("f f f file handle stream")
READERS = split("source reader infile f_in incoming")
WRITERS = split("out target writer outfile f_out output_file")
PATHS = split("path path file_name filename name file_path source target log_path location title where")


def file_name(author: Author, reading: bool, ending: str = "") -> str:
    """The literal name of an input or an output file."""
    stem = author.pick(INPUTS if reading else OUTPUTS)
    draw = author.random()
    if draw < 0.2:
        stem = f"{author.pick(author.theme.things)}_{stem}"
    elif draw < 0.3:
        stem = f"{stem}_{plural(author.pick(author.theme.things))}"
    elif draw < 0.35:
        stem = f"{stem}{author.between(1, 9)}"
    return author.quote(stem + (ending or author.pick(ENDINGS)))


def any_name(author: Author) -> str:
    """The literal name of a file that may be read or written."""
    stem = author.pick(author.theme.values) if author.chance(0.8) else plural(author.pick(author.theme.things))
    return author.quote(f"{stem}{author.pick(ENDINGS)}")


def mode(author: Author, letter: str) -> str:
    return f", {author.quote(letter)}"


def open_it(author: Author, pad: str, target: str, handle: str, managed: bool) -> str:
    """The line that opens the file; returns the indentation of what is done with it."""
    if managed:
        author.write(pad, f"with open({target}) as {handle}:")
        return pad + INDENT
    author.write(pad, f"{handle} = open({target})")
    return pad


def read_it(author: Author, pad: str, target: str, result: str = "") -> None:
    """Read a file and do something; leave what was found in `result` where that is given."""
    handle = names.loop_name(author, author.pick(HANDLES), "handle")
    managed = author.chance(0.5)
    x = names.loop_name(author, author.pick(("line", "row", "entry", "text_line")), "text")
    draw = author.random()
    if result and draw < 0.5:
        author.write(pad, f"{result} = {author.pick(('[]', '[]', 'set()', author.quote('')))}")
        kind = author.lines[-1]
        inner = open_it(author, pad, target, handle, managed)
        author.write(inner, f"for {x} in {handle}:")
        piece = f"{x}.strip()"
        grown = (
            f"{result}.append({piece})"
            if kind.endswith("[]")
            else f"{result}.add({piece})"
            if kind.endswith("()")
            else f"{result} += {piece}"
        )
        author.write(inner + INDENT, grown)
    elif result:
        inner = open_it(author, pad, target, handle, managed)
        call = author.pick(("read()", "readlines()", "read().split()", "readline()", "read().strip()"))
        author.write(inner, f"{result} = {handle}.{call}")
    elif draw < 0.5:
        inner = open_it(author, pad, target, handle, managed)
        author.write(inner, f"for {x} in {handle}:")
        author.write(inner + INDENT, f"print({x}.strip())" if draw < 0.35 else f"print({literals.word(author)}, {x})")
    elif draw < 0.75:
        count = names.claim(author, author.pick(("count", "lines_read", "n", "number")), "number")
        author.write(pad, f"{count} = 0")
        inner = open_it(author, pad, target, handle, managed)
        author.write(inner, f"for {x} in {handle}:", f"{INDENT}{count} += 1")
    else:
        inner = open_it(author, pad, target, handle, managed)
        author.write(inner, f"{x} = {handle}.readline()", f"while {x}:")
        author.write(inner + INDENT, f"print({x}.strip())", f"{x} = {handle}.readline()")
    if not managed:
        author.write(pad, f"{handle}.close()")


def write_it(author: Author, pad: str, target: str, items: str = "") -> None:
    """Write a file: the elements of a list, or strings."""
    handle = names.loop_name(author, author.pick(HANDLES), "handle")
    managed = author.chance(0.5)
    newline = author.quote("\\n")
    inner = open_it(author, pad, target, handle, managed)
    draw = author.random()
    if items and draw < 0.6:
        x = names.loop_name(author, author.pick(("item", "line", "entry", "word")), "text")
        author.write(inner, f"for {x} in {items}:")
        author.write(inner + INDENT, f"{handle}.write({author.pick((f'{x} + {newline}', f'str({x}) + {newline}'))})")
    elif items and draw < 0.8:
        author.write(inner, f"{handle}.write({newline}.join({items}))")
    else:
        for _ in range(author.between(1, 3)):
            text = literals.phrase(author) + ("\\n" if author.chance(0.7) else "")
            author.write(inner, f"{handle}.write({author.quote(text)})")
    if not managed:
        author.write(pad, f"{handle}.close()")


def read_input(author: Author, pad: str) -> None:
    """Read an input file."""
    target = file_name(author, True)
    given = target + mode(author, "r") if author.chance(0.85) else target
    if author.chance(0.6):
        result = names.claim(author, author.pick(("lines", "text", "data", "content", "words", "rows")), "other")
        read_it(author, pad, given, result)
        author.write(pad, f"print(len({result}))" if author.chance(0.5) else expressions.show(author, result))
    else:
        read_it(author, pad, given)


def write_output(author: Author, pad: str) -> None:
    """Write an output file."""
    items = author.pick(author.scope.words)[0] if author.scope.words and author.chance(0.6) else ""
    write_it(author, pad, file_name(author, False) + mode(author, author.pick(("w", "w", "w", "w", "a"))), items)


def copy(author: Author, pad: str) -> None:
    """Read one file and write another."""
    first = names.loop_name(author, author.pick(READERS), "handle")
    second = names.loop_name(author, author.pick(WRITERS), "handle")
    x = names.claim(author, author.pick(("text", "data", "content", "lines")), "other")
    source, target = file_name(author, True) + mode(author, "r"), file_name(author, False) + mode(author, "w")
    line = names.loop_name(author, author.pick(("line", "row", "line")), "text")
    draw = author.random()
    changed = author.pick((x, f"{x}.upper()", f"{x}.strip()", f"{x}.replace({author.quote(' ')}, {author.quote('-')})"))
    if draw < 0.3:
        author.write(pad, f"with open({source}) as {first}:", f"{INDENT}{x} = {first}.read()")
        author.write(pad, f"with open({target}) as {second}:", f"{INDENT}{second}.write({changed})")
    elif draw < 0.5:
        author.write(pad, f"with open({source}) as {first}, open({target}) as {second}:")
        author.write(pad + INDENT, f"for {line} in {first}:", f"{INDENT}{second}.write({line})")
    elif draw < 0.75:
        author.write(pad, f"{first} = open({source})", f"{second} = open({target})")
        author.write(pad, f"for {line} in {first}:", f"{INDENT}{second}.write({line})")
        author.write(pad, f"{first}.close()", f"{second}.close()")
    else:
        author.write(pad, f"{first} = open({source})", f"{x} = {first}.read()", f"{first}.close()")
        author.write(pad, f"{second} = open({target})", f"{second}.write({changed})", f"{second}.close()")


def by_path(author: Author, pad: str) -> None:
    """The name of the file in a variable."""
    path = names.claim(author, author.pick(PATHS), "path")
    author.write(pad, f"{path} = {any_name(author)}")
    if author.chance(0.2):
        author.write(pad, f"print({literals.string(author)}, {path})")
    if author.chance(0.75):
        result = names.claim(author, author.pick(("lines", "text", "data", "content")), "other")
        read_it(author, pad, path + (mode(author, "r") if author.chance(0.2) else ""), result)
        author.write(pad, expressions.show(author, result))
    else:
        write_it(author, pad, path + mode(author, "w"))


def every_file(author: Author, pad: str) -> None:
    """The same for several files, one after another."""
    path = names.loop_name(author, author.pick(("path", "file_name", "filename", "name")), "path")
    found = list(dict.fromkeys(any_name(author) for _ in range(author.between(2, 3))))
    author.write(pad, f"for {path} in [{', '.join(found)}]:")
    if author.chance(0.3):
        author.write(pad + INDENT, f"print({path})")
    read_it(author, pad + INDENT, path + (mode(author, "r") if author.chance(0.2) else ""))


def read_function(author: Author) -> None:
    """A function that reads a file of a given name, and a call with the name of an input file."""
    noun = author.pick((plural(author.pick(author.theme.things)), "lines", "text", "names", "numbers", "settings"))
    definition = Definition(author)
    path = author.pick(PATHS)
    definition.open(author.pick(("read", "load", "get", "open", "fetch")), noun, [(path, "path")], f"read the {noun}")
    result = author.pick(("lines", "result", "found", "data", "content"))
    author.scope.used[result] = "other"
    given = path + (mode(author, "r") if author.chance(0.3) else "")
    if author.chance(0.25):
        handle = author.pick(HANDLES)
        author.write(INDENT, f"with open({given}) as {handle}:", f"{INDENT}return {handle}.read()")
    else:
        read_it(author, INDENT, given, result)
        author.write(INDENT, f"return {result}")
    definition.close("other", called=False)
    author.calls.append(f"print({definition.name}({file_name(author, True)}))")


def write_function(author: Author) -> None:
    """A function that writes a list to a file, and a call with the name of an output file."""
    noun = plural(author.pick(author.theme.things))
    definition = Definition(author)
    path = author.pick(PATHS)
    verb = author.pick(("save", "write", "store", "export", "keep"))
    fixed = author.chance(0.3)
    definition.open(verb, noun, [(noun, "words")] if fixed else [(path, "path"), (noun, "words")], f"save {noun}")
    target = file_name(author, False) if fixed else path
    write_it(author, INDENT, target + mode(author, "w"), noun)
    definition.close("none", called=False)
    words = literals.row_of(literals.words(author, "", 1, 3))
    author.calls.append(f"{definition.name}({words if fixed else f'{file_name(author, False)}, {words}'})")


def sum_function(author: Author) -> None:
    """A function that adds up the numbers in a file, line by line."""
    measure = author.pick(author.theme.measures)
    definition = Definition(author)
    path = author.pick(PATHS)
    definition.open("total", measure, [(path, "path")], f"add up the {plural(measure)} in a file")
    handle, x = author.pick(HANDLES), author.pick(("line", "row"))
    managed = author.chance(0.5)
    author.write(INDENT, "total = 0")
    inner = open_it(author, INDENT, path, handle, managed)
    author.write(inner, f"for {x} in {handle}:", f"{INDENT}total += int({x})")
    if not managed:
        author.write(INDENT, f"{handle}.close()")
    author.write(INDENT, "return total")
    definition.close("number", called=False)
    author.calls.append(f"print({definition.name}({file_name(author, True, '.txt')}))")


def read_table(author: Author, pad: str) -> None:
    """A file of pairs with a comma between."""
    first, second = author.pick(author.theme.labels), author.pick(author.theme.measures)
    table = names.claim(author, f"{second}_by_{first}", "other")
    handle = names.loop_name(author, author.pick(HANDLES), "handle")
    a, b = names.loop_name(author, first, "text"), names.loop_name(author, second, "text")
    author.write(pad, f"{table} = {{}}")
    managed = author.chance(0.5)
    given = file_name(author, True, ".csv") + (mode(author, "r") if author.chance(0.8) else "")
    inner = open_it(author, pad, given, handle, managed)
    line = names.loop_name(author, "line", "text")
    author.write(inner, f"for {line} in {handle}:", f"{INDENT}{a}, {b} = {line}.split({author.quote(',')})")
    author.write(inner, f"{INDENT}{table}[{a}] = int({b})")
    if not managed:
        author.write(pad, f"{handle}.close()")
    author.write(pad, expressions.show(author, table))


def distinct_lines(author: Author, pad: str) -> None:
    """Every different line of a file once, or all of them joined."""
    made = author.pick(growth.KINDS)
    name = growth.grown_name(author, made)
    author.scope.frozen.append(name)
    handle = names.loop_name(author, author.pick(HANDLES), "handle")
    author.write(pad, f"{name} = {growth.empty(author, made)}")
    managed = author.chance(0.5)
    inner = open_it(author, pad, file_name(author, True) + mode(author, "r"), handle, managed)
    line = names.loop_name(author, author.pick(("line", "row", "entry")), "text")
    author.scope.frozen.pop()
    author.write(inner, f"for {line} in {handle}:", INDENT + growth.grow(author, name, made, f"{line}.strip()", "text"))
    if not managed:
        author.write(pad, f"{handle}.close()")
    growth.look(author, pad, name, made)


FILE_WORK = weighted(
    (7, read_input), (10, write_output), (4, copy), (7, by_path), (2, every_file), (1, read_table), (2, distinct_lines)
)
FILE_FUNCTIONS = weighted((4, read_function), (4, write_function), (1, sum_function))
