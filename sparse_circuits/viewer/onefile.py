"""One HTML file that needs no other and no network: the page's modules, its style sheet and a bundle, all inside.

The modules are joined by `_joined`: each becomes a function that returns what it exports, in the order of their
imports. They use the plain forms `import { a, b } from "./file.js"`, `export function`, `export const` and
`export { a } from "./file.js"`, so that this takes no bundler. A content security policy lets nothing run but that one
script, by its hash: no string of the data can become code.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from sparse_circuits.files import atomic_write
from sparse_circuits.viewer.bundle import as_json
from sparse_circuits.viewer.schema import WEB, check

_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\./[^"]+)";\n', re.MULTILINE)
_REEXPORT = re.compile(r'^export \{([^}]*)\} from "(\./[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function|const|class|let) (\w+)", re.MULTILINE)
_VENDORED = re.compile(r"export\{([^}]*)\};?\s*$")


def export_html(bundle: dict[str, Any], path: str | Path, state: dict[str, Any] | None = None) -> int:
    """Write `bundle` as one HTML file.

    Args:
        state: what is to be open, pinned, noted, as the page keeps it in its address.

    Returns:
        the file's size in bytes.

    Raises:
        InputError: it is no bundle of this version, or the file cannot be written.
    """
    check(bundle)
    text = page(bundle, state)
    atomic_write(path, text)
    return len(text.encode())


def page(bundle: dict[str, Any], state: dict[str, Any] | None = None) -> str:
    """The text of that file."""
    script = _joined("main.js")
    style = (WEB / "style.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src blob: data:; "
        "base-uri 'none'; form-action 'none'"
    )
    schema = json.loads((WEB / "schema.json").read_text(encoding="utf-8"))
    blocks = {"bundle": bundle, "schema": schema, "state": state or {}}
    data = "\n".join(
        f'<script type="application/json" id="{name}">{_harmless(as_json(value))}</script>'
        for name, value in blocks.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Circuits</title>\n'
        f"<style>{style}</style>\n</head>\n"
        '<body><div id="app"><p class="message">Opening the circuit. This page needs JavaScript.</p></div>\n'
        f'{data}\n<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def _harmless(text: str) -> str:
    """JSON that says the same and holds no markup: `</script>` and `<!--` in a string would end or hide the block."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _joined(entry: str) -> str:
    """All modules that `entry` needs, each before the first that needs it, as one script."""
    parts: list[str] = []
    names: dict[str, str] = {}
    _add(entry, parts, names, ())
    text = "\n".join(parts)
    assert "</script" not in text.lower(), "a module holds what would end its own block"
    return text


def _add(file: str, parts: list[str], names: dict[str, str], above: tuple[str, ...]) -> str:
    """Append `file` and what it imports; returns the name of the object that holds its exports."""
    if file in names:
        return names[file]
    assert file not in above, f"{file} imports itself by way of {above}"
    text = (WEB / file).read_text(encoding="utf-8")
    exports = _EXPORT.findall(text)

    def take(match: re.Match[str]) -> str:
        other = _add(_beside(file, match[2]), parts, names, (*above, file))
        return f"const {{{match[1]}}} = {other};\n"

    def pass_on(match: re.Match[str]) -> str:
        exports.extend(name.strip() for name in match[1].split(",") if name.strip())
        return take(match)

    vendored = _VENDORED.search(text)
    if file.startswith("vendor/") and vendored is not None:
        pairs = [pair.split(" as ") for pair in vendored[1].split(",")]
        body = text[: vendored.start()]
        result = ", ".join(f"{public.strip()}: {own.strip()}" for own, public in pairs)
    else:
        body = _EXPORT.sub(
            lambda match: match[0].removeprefix("export "), _REEXPORT.sub(pass_on, _IMPORT.sub(take, text))
        )
        result = ", ".join(exports)
    names[file] = f"$module{len(names)}"
    parts.append(f"const {names[file]} = (() => {{\n{body}\nreturn {{ {result} }};\n}})();")
    return names[file]


def _beside(file: str, relative: str) -> str:
    """What `relative` means in `file`, from the folder of all."""
    return str((Path(file).parent / relative).as_posix())
