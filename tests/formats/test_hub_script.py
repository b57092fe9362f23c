"""The script that people run on a model of the Hub runs on our folders, in a process that cannot import our package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_models import randomised, small

from sparse_circuits.formats import hub
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer

PROMPT = "def square_sum(xs):\n    return sum(x * x for x in xs)\n\nsquare_sum([1, 2, 3])\n"

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sparse_circuits":
            raise ModuleNotFoundError(f"{name} is not there")
        return None

sys.meta_path.insert(0, Blocked())
try:
    import sparse_circuits
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the package can be imported")
"""
"""Before everything else: an installation in which our package is missing."""

SCRIPT = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

name, device, prompt = sys.argv[1], "cpu", sys.argv[2]
tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True, torch_dtype="auto")
model.to(device)
ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"].to(device)
torch.manual_seed(0)
with torch.no_grad():
    out = model.generate(
        ids, max_new_tokens=64, do_sample=True, temperature=0.8, top_p=0.95, return_dict_in_generate=False
    )
print(tokenizer.decode(out[0], skip_special_tokens=True))
"""

MORE = """
import json

print("=====")

results = {"sampled": out[0].tolist(), "module": type(model).__module__, "dtype": str(model.dtype)}
greedy = lambda batch, **how: model.generate(**batch, max_new_tokens=16, do_sample=False, **how)
results["greedy"] = greedy({"input_ids": ids})[0].tolist()
results["greedy without cache"] = greedy({"input_ids": ids}, use_cache=False)[0].tolist()
prompts = json.loads(sys.argv[3])
batch = tokenizer(prompts, return_tensors="pt", padding=True)
width = batch["input_ids"].shape[1]
results["batch"] = greedy(batch)[:, width:].tolist()
results["one by one"] = []
for prompt in prompts:
    one = tokenizer(prompt, return_tensors="pt")
    results["one by one"].append(greedy(one)[0, one["input_ids"].shape[1]:].tolist())
results["beams"] = model.generate(**batch, max_new_tokens=4, num_beams=2).shape[0]
card = {}
exec(sys.argv[4], card)
results["a hook changes logits"] = not torch.equal(card["changed"], card["model"](card["ids"]).logits)
results["ours"] = [module for module in sys.modules if module.startswith("sparse_circuits")]
print("=====")
print(json.dumps(results))
"""


SEPARATOR = "\n=====\n"


def run(folder: Path, cache: Path, *arguments: str) -> list[str]:
    """What the scripts print; their process gets no path to this package, and no network."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)  # one may hold another version of transformers
    others = [path for path in paths if path and not (Path(path) / "sparse_circuits").exists()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(others)}
    environment |= {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + SCRIPT + MORE, str(folder), *arguments],
        capture_output=True,
        cwd=cache,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().removesuffix("\n").split(SEPARATOR)  # as bytes, so that no "\\r" is changed


@pytest.fixture(scope="module")
def model() -> GPT:
    """A tiny model with everything that can go wrong: a sink, AbsTopK, positions, a bigram table."""
    ours = randomised(small(vocab_size=270, block_size=96, positions="learned_concat", d_position=4)).float().eval()
    ours.tokenizer = Tokenizer.train([PROMPT] * 3, 270)
    return ours


@pytest.mark.timeout(600)  # a process that imports everything anew, on a busy machine
def test_the_hub_script_runs_without_our_package(model: GPT, tmp_path: Path) -> None:
    hub.write(model, tmp_path / "mine-1.0")  # names with dots and dashes have been trouble
    prompts = ["def f(", "x", PROMPT[:40]]
    card = (tmp_path / "mine-1.0" / "README.md").read_text().replace("THIS-FOLDER-OR-REPOSITORY", "mine-1.0")
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))
    text, of_card, last = run(tmp_path / "mine-1.0", tmp_path, PROMPT, json.dumps(prompts), blocks)
    results: dict[str, Any] = json.loads(last)
    assert of_card.startswith("def square_sum(xs):")
    assert results["a hook changes logits"]
    assert results["ours"] == []
    assert results["module"].startswith("transformers_modules.")
    assert results["dtype"] == "torch.float32"
    tokenizer = model.tokenizer
    assert tokenizer is not None
    ids, end = tokenizer.encode(PROMPT), tokenizer.end_of_text
    assert results["sampled"][: len(ids)] == ids
    plain = [each for each in results["sampled"] if each != end]
    assert text == tokenizer.decode(plain)
    (expected,) = model.generate([ids], 16, temperature=0.0, stop=end)
    assert results["greedy"] == results["greedy without cache"] == expected
    unpadded = [row[: row.index(end) + 1] if end in row else row for row in results["batch"]]
    assert unpadded == results["one by one"]
    assert results["beams"] == len(prompts)


def test_the_script_is_the_one_people_run() -> None:
    """What the released model's page shows is in the script above, word for word but for its name."""
    squeezed = "".join(SCRIPT.split())
    for call in (
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        'AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True, torch_dtype="auto")',
        'tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]',
        "max_new_tokens=64, do_sample=True, temperature=0.8, top_p=0.95, return_dict_in_generate=False",
        "tokenizer.decode(out[0], skip_special_tokens=True)",
    ):
        assert "".join(call.split()) in squeezed
