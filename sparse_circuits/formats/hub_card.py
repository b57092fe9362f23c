"""The model card of a Hub folder: what the model is, how to use it, and what was measured of it."""

import re
from typing import Any

from sparse_circuits.card.measure import matrices
from sparse_circuits.model import GPT

_USE = """```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

name = "THIS-FOLDER-OR-REPOSITORY"
tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True, torch_dtype="auto")
ids = tokenizer("def square_sum(xs):\\n    return sum(x * x for x in xs)\\n\\nsquare_sum([1, 2, 3])\\n",
                return_tensors="pt", add_special_tokens=False)["input_ids"]
out = model.generate(ids, max_new_tokens=64, do_sample=True, temperature=0.8, top_p=0.95)
print(tokenizer.decode(out[0], skip_special_tokens=True))
```

`modeling_sparse_circuits.py` in this folder is all the code there is: it needs `torch` and `transformers` only. With
`sparse-circuits` installed, `import sparse_circuits.formats.huggingface` makes `trust_remote_code` unnecessary, and
`sparse_circuits.load(folder)` reads the same folder for pruning circuits.

## Looking inside

Every activation passes through a module named by its site, so that a forward hook can read or replace it:

```python
def silence(module, arguments, activation):
    return torch.zeros_like(activation)

handle = model.sites["0.attn.q"].register_forward_hook(silence)
changed = model(ids).logits
handle.remove()
```

The sites of block 0 are {sites}; `final_resid` comes before the last norm. Values are those after AbsTopK.
"""


def card(model: GPT) -> str:
    """The page, in Markdown with the Hub's front matter."""
    from sparse_circuits.sites import BLOCK_SITES

    config = model.config
    sites = ", ".join(f"`0.{site}`" for site in BLOCK_SITES)
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags:",
            "- sparse-circuits",
            "- interpretability",
            "- code",
            "---",
            "",
            f"# {_title(model)}",
            "",
            f"A weight-sparse transformer: {config.n_layer} layers, width {config.d_model}, {config.n_head} heads of "
            f"{config.head_width} channels, {config.vocab_size} tokens, {config.block_size} positions.",
            "",
            *_facts(model),
            "",
            "## Use",
            "",
            _USE.replace("{sites}", sites),
            *_measured(model),
        ]
    )


def _title(model: GPT) -> str:
    return model.folder.resolve().name if model.folder is not None else "A weight-sparse transformer"


def _facts(model: GPT) -> list[str]:
    """A table of what the config and the weights say."""
    config = model.config
    counted = matrices(model)
    nonzeros = sum(each["nonzeros"] for each in counted)
    entries = sum(each["rows"] * each["columns"] for each in counted)
    kept = "none" if config.abs_topk is None else f"{config.abs_topk:g} at {', '.join(config.abs_topk_sites)}"
    rows: list[tuple[str, Any]] = [
        ("nonzero matrix entries", f"{nonzeros:,} of {entries:,} (density {nonzeros / entries:.5f})"),
        ("parameters with the zeros", f"{sum(each.numel() for each in model.state_dict().values()):,}"),
        ("AbsTopK", kept),
        ("norm", {"rms": "RMSNorm", "layer": "LayerNorm"}[config.norm]),
        ("positions", config.positions.replace("_", ", ")),
        ("attention sink", "yes" if config.sink else "no"),
        ("bigram table", config.bigram_table),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _measured(model: GPT) -> list[str]:
    """The card that `sparse-circuits card` wrote beside the model, one level deeper; nothing where there is none."""
    path = None if model.folder is None else model.folder / "card.md"
    if path is None or not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace").split("\n")
    deeper = [f"#{line}" if re.match(r"#+ ", line) else line for line in text]
    return ["## How it was made and what it can do", "", *deeper[1:]]
