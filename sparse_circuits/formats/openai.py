"""Released checkpoint folders: `beeg_config.json` beside `final_model.pt`, and their tokenizer where there is one.

Source: the files published with the paper, of all their ages. What `write` makes the published inference code loads
with equal logits; with a sink only if it is told `flash=True`, since its slow attention has none.
"""

import warnings
from pathlib import Path

from sparse_circuits.checkpoint import write_torch
from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json, write_json, written_together
from sparse_circuits.formats import gpt2_pair
from sparse_circuits.formats.openai_weights import model_from_released, model_to_released
from sparse_circuits.formats.tensor_files import read_state
from sparse_circuits.formats.tokenizers import fitting, read_tokenizer
from sparse_circuits.model import GPT
from sparse_circuits.tokenizer import Tokenizer

CONFIG, WEIGHTS = "beeg_config.json", "final_model.pt"


def read(folder: Path) -> GPT:
    """The model in the released checkpoint folder `folder`, in float32 on the CPU.

    Raises:
        InputError: a file is missing, damaged, or they do not fit each other.
    """
    state, path = read_state(folder, [Path(WEIGHTS).stem])
    model = model_from_released(read_json(folder / CONFIG), state, str(folder / CONFIG), str(path))
    model.tokenizer = find_tokenizer(folder, model.config.vocab_size)
    model.folder = folder
    return model


def write(model: GPT, out: Path) -> list[str]:
    """Write `model` to the folder `out` in the released form.

    Raises:
        InputError: the published code cannot compute such a model, or the disk refuses.
    """
    described, state = model_to_released(model)
    owned = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    with written_together(out, CONFIG, stale=("tokenizer.json", *gpt2_pair.FILES)) as folder:
        write_torch(folder / WEIGHTS, owned)
        if model.tokenizer is not None:
            model.tokenizer.save(folder / "tokenizer.json")
            gpt2_pair.write(model.tokenizer, folder)
        write_json(folder / CONFIG, described)
    return ["load it with flash=True: without, the published code drops the attention sink"] * model.config.sink


def find_tokenizer(folder: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer in `folder`, if there is one; a warning where it is unreadable.

    Raises:
        InputError: it has more than `vocab_size` tokens.
    """
    present = any((folder / name).is_file() for name in ("tokenizer.json", "encoder.json", "vocab.json"))
    if not present and not any(folder.glob("*.tiktoken")):
        return None
    try:
        tokenizer = read_tokenizer(folder)
    except InputError as error:
        warnings.warn(f"the tokenizer is left out: {error}", stacklevel=2)
        return None
    return fitting(tokenizer, vocab_size, folder)
