"""Makes `transformers` know our models when imported, so that no `trust_remote_code` is needed.

    import sparse_circuits.formats.huggingface
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder)

This is the only module here that imports `transformers`. `to_transformers` and `from_transformers` go between the two
kinds of model in memory.
"""

try:
    from transformers import AutoConfig, AutoModelForCausalLM
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("transformers is not installed; pip install 'sparse-circuits[hub]'") from error

from sparse_circuits.fields import to_json
from sparse_circuits.formats.hub import OURS, assemble, config_of
from sparse_circuits.formats.modeling_sparse_circuits import SparseCircuitsConfig, SparseCircuitsForCausalLM
from sparse_circuits.model import GPT

AutoConfig.register(OURS, SparseCircuitsConfig, exist_ok=True)
AutoModelForCausalLM.register(SparseCircuitsConfig, SparseCircuitsForCausalLM, exist_ok=True)
# So that `save_pretrained` writes the code beside the weights.
SparseCircuitsConfig.register_for_auto_class()
SparseCircuitsForCausalLM.register_for_auto_class("AutoModelForCausalLM")


def to_transformers(model: GPT) -> SparseCircuitsForCausalLM:
    """The same model for `transformers`, with a copy of its weights, in their precision and on their device."""
    first = next(model.parameters())
    theirs = SparseCircuitsForCausalLM(SparseCircuitsConfig(**to_json(model.config.resolved())))
    theirs.to(device=first.device, dtype=first.dtype).load_state_dict(model.state_dict())
    if model.tokenizer is not None:
        end = model.tokenizer.end_of_text
        theirs.generation_config.update(bos_token_id=end, eos_token_id=end, pad_token_id=end)
    return theirs.eval()


def from_transformers(theirs: SparseCircuitsForCausalLM) -> GPT:
    """The same model of ours, in float32 on the CPU, without a tokenizer; it shares float32 weights that lie there.

    Raises:
        InputError: its weights are not all finite.
    """
    state = {name: tensor.cpu() for name, tensor in theirs.state_dict().items()}
    return assemble(config_of(theirs.config.to_dict(), "the config"), state, "the model")
