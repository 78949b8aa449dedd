"""AdamW over all parameters at once: one Triton kernel reads bfloat16 gradients, clips, updates and writes the weights
in both precisions.

What an optimiser step costs on a GPU is its traffic: for BERT-base PyTorch's fused AdamW moves 3.1 GB, casting the
gradients, clipping them and casting the weights another 2.6 GB; here it is 3.7 GB together. Owns the flat memory that
the parameters and AdamW's moments become views of; for everybody else they stay what they were. Must not know forward
passes or graphs.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import nn

_BLOCK = 2_048
"""Numbers a program of the kernel; every parameter begins a new one."""


@triton.jit  # type: ignore[untyped-decorator]
def _update(  # type: ignore[no-untyped-def]
    masters,
    firsts,
    seconds,
    shadows,
    gradients,
    group_of,
    rates,
    decays,
    norm,
    corrections,
    max_norm,
    beta1,
    rest1,
    beta2,
    rest2,
    epsilon,
    block: tl.constexpr,
):
    """Loshchilov and Hutter 2019, algorithm 2. corrections: (2,), 1 - beta ** step. rest: 1 - beta."""
    program = tl.program_id(0)
    places = program * block + tl.arange(0, block)
    group = tl.load(group_of + program)
    rate = tl.load(rates + group)
    scale = tl.minimum(max_norm / (tl.load(norm) + 1e-6), 1.0)
    gradient = tl.load(gradients + places).to(tl.float32) * scale
    first = beta1 * tl.load(firsts + places) + rest1 * gradient
    second = beta2 * tl.load(seconds + places) + rest2 * gradient * gradient
    denominator = tl.sqrt(second) / tl.sqrt(tl.load(corrections + 1)) + epsilon
    master = tl.load(masters + places) * (1.0 - rate * tl.load(decays + group))
    master -= rate / tl.load(corrections) * first / denominator
    tl.store(firsts + places, first)
    tl.store(seconds + places, second)
    tl.store(masters + places, master)
    tl.store(shadows + places, master.to(tl.bfloat16))


class FlatAdamW:
    """Takes over what an optimiser trains: its parameters, its moments and the bfloat16 copies of the weights.

    shadows: leaves that forward passes use, one a parameter, in the order of `parameters`.
    """

    def __init__(
        self, optimizer: torch.optim.AdamW, parameters: Sequence[nn.Parameter], shadows: Sequence[torch.Tensor]
    ) -> None:
        self._optimizer, self._parameters = optimizer, parameters
        where = parameters[0].device
        blocks = [-(-part.numel() // _BLOCK) for part in parameters]
        size = _BLOCK * sum(blocks)
        self._masters, self._firsts, self._seconds = torch.zeros(3, size, device=where).unbind()
        self._shadows, self._gradients = torch.zeros(2, size, dtype=torch.bfloat16, device=where).unbind()
        self._steps = torch.zeros(len(parameters), device=where)
        group_of = {id(part): place for place, group in enumerate(optimizer.param_groups) for part in group["params"]}
        groups = [group_of[id(part)] for part, count in zip(parameters, blocks, strict=True) for _ in range(count)]
        self._group_of = torch.tensor(groups, dtype=torch.int32, device=where)
        self._decays = torch.tensor([float(group["weight_decay"]) for group in optimizer.param_groups], device=where)
        self._betas = torch.tensor(optimizer.param_groups[0]["betas"], dtype=torch.float64, device=where)
        starts = torch.tensor([0, *blocks[:-1]]).cumsum(0).mul(_BLOCK).tolist()
        self._spans = [(start, start + part.numel()) for start, part in zip(starts, parameters, strict=True)]
        with torch.no_grad():
            for span, part, shadow in zip(self._spans, parameters, shadows, strict=True):
                self._of(self._masters, span, part).copy_(part)
                self._of(self._shadows, span, part).copy_(part)
                part.data = self._of(self._masters, span, part)
                shadow.data = self._of(self._shadows, span, part)
        self._grads = [
            self._of(self._gradients, span, part) for span, part in zip(self._spans, parameters, strict=True)
        ]

    def adopt(self) -> bool:
        """Take the optimiser's state as it is now; False where its parameters did not all take the same steps."""
        held = [self._optimizer.state.get(part, {}) for part in self._parameters]
        steps = {float(state["step"]) if state else 0.0 for state in held}
        if len(steps) > 1:
            return False
        self._steps.fill_(steps.pop())
        self._decays.copy_(torch.tensor([float(group["weight_decay"]) for group in self._optimizer.param_groups]))
        for place, (span, part, state) in enumerate(zip(self._spans, self._parameters, held, strict=True)):
            views = {"exp_avg": self._of(self._firsts, span, part), "exp_avg_sq": self._of(self._seconds, span, part)}
            for name, view in views.items():
                if not state:
                    view.zero_()
                elif state[name].data_ptr() != view.data_ptr():
                    view.copy_(state[name])
            self._optimizer.state[part] = {"step": self._steps[place], **views}
        return True

    def step(self, gradients: Sequence[torch.Tensor], rates: torch.Tensor, max_norm: float) -> None:
        """gradients: bfloat16, one a parameter. rates: (groups,). max_norm: 0 clips nothing."""
        group = self._optimizer.param_groups[0]
        torch._foreach_copy_(self._grads, list(gradients))
        norm = torch.linalg.vector_norm(self._gradients, dtype=torch.float32)
        self._steps += 1.0
        corrections = (1.0 - self._betas ** self._steps[0]).float()
        beta1, beta2 = group["betas"]
        _update[(len(self._group_of),)](
            self._masters,
            self._firsts,
            self._seconds,
            self._shadows,
            self._gradients,
            self._group_of,
            rates,
            self._decays,
            norm,
            corrections,
            max_norm if max_norm > 0 else float("inf"),
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            group["eps"],
            block=_BLOCK,
            num_warps=8,
        )

    def _of(self, flat: torch.Tensor, span: tuple[int, int], part: torch.Tensor) -> torch.Tensor:
        return flat[span[0] : span[1]].view(part.shape)


def try_out(where: torch.device) -> None:
    """Compile the kernel and take a step with it. Raises what Triton raises where it can't."""
    part = nn.Parameter(torch.ones(3, device=where))
    flat = FlatAdamW(torch.optim.AdamW([part], lr=0.0), [part], [part.detach().to(torch.bfloat16)])
    flat.adopt()
    flat.step([torch.ones(3, dtype=torch.bfloat16, device=where)], torch.zeros(1, device=where), 1.0)
