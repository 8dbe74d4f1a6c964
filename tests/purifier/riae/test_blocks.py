import pytest
import torch
from torch import Tensor

from impure.purifier.riae.blocks import Block, CrossBlock, LayerNorm
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig
from tests.purifier.conftest import SMALL
from tests.purifier.riae.test_model import MASKS, train_pass


@pytest.mark.parametrize("decoder", ["copies", "cross"])
@pytest.mark.parametrize("mask", MASKS)
def test_under_autocast_no_block_reads_or_writes_float32(mask: str, decoder: str) -> None:
    """Twice the bytes of what matrix products take anyway; weights and their gradients stay float32."""
    model = RIAE(RIAEConfig(mask=mask, decoder=decoder, **SMALL))  # type: ignore[arg-type]
    seen: set[torch.dtype] = set()

    def note(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.update(each.dtype for each in (*inputs, output) if isinstance(each, Tensor))

    for module in model.modules():
        if isinstance(module, Block | CrossBlock | LayerNorm):
            module.register_forward_hook(note)
    with torch.autocast("cpu", torch.bfloat16):
        output = train_pass(model, torch.rand(2, 3, 16, 24))
    output.float().abs().mean().backward()
    assert seen == {torch.bfloat16}
    assert {each.grad.dtype for each in model.parameters() if each.grad is not None} == {torch.float32}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_autocast_breaks_no_graph() -> None:
    """Each break would cost a compiled network kernels that could have been one."""
    model = RIAE(RIAEConfig(**SMALL))  # type: ignore[arg-type]
    images = torch.rand(2, 3, 16, 16)
    randomness = model.draw_training(images, torch.Generator().manual_seed(0))
    compiled = torch.compile(model, dynamic=False, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(images, randomness), model(images, randomness))
