"""A training step that is recorded once and replayed: on a GPU a CUDA graph, whose hundreds of kernels start as one.

`torch.compile` records no graph of a network whose batch normalisation moves its running means, so it is done by hand.
What is recorded reads and writes fixed places in memory: the batch is copied into buffers before each replay, the class
weights are a buffer of the loss, and the three numbers of Adam that change from step to step lie on the device too.
Elsewhere than on a GPU the "recording" is the function itself, called on the same buffers.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from viscera.core.errors import first_line
from viscera.engine.feed import NetworkInput
from viscera.engine.forward_pass import Forward
from viscera.engine.optimiser import AdamOnDevice

log = logging.getLogger(__name__)
_WARM_UP = 3  # libraries choose algorithms and take memory at the first, which no recording may hold
_TOLERANCE = 0.2  # of a change; rounding is far below it, a step that is left out or done twice is 1 away
State = Mapping[str, Sequence[Tensor]]


class CapturedStep:
    """Forward pass, gradient and Adam of one training, as one recording.

    A recording is compared with the plain step on the same batch. Where it fails or does something else, one warning
    says so, and all steps are plain.
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Adam, forward: Callable[[NetworkInput], Forward]
    ) -> None:
        self._network, self._optimizer, self._forward = network, optimizer, forward
        self.failed = False
        self.forget()

    def forget(self) -> None:
        """Record anew at the next step, as after the optimiser's state has been replaced."""
        self._adam: AdamOnDevice | None = None
        self._buffers: NetworkInput | None = None
        self._replay: Callable[[], Forward] | None = None

    def __call__(self, inputs: NetworkInput) -> Forward | None:
        """One step on a batch; None where it is left to the caller: Adam has no state yet, or recording has failed.

        The logits hold until the next step; loss and (L,) are copies that stay.
        """
        if self.failed or not self._optimizer.state:
            return None
        self._adam = self._adam or AdamOnDevice(self._optimizer)
        self._adam.set_numbers()
        if self._replay is not None and self._buffered(inputs):
            forward: Forward | None = self._replay()
        else:
            forward = self._recorded(inputs, self._adam)
        if forward is None:
            return None
        self._adam.count()
        return forward._replace(loss=forward.loss.clone(), dice_losses=forward.dice_losses.clone())

    def _buffered(self, inputs: NetworkInput) -> bool:
        """Copy a batch into the buffers; whether it fits into them."""
        buffers = self._buffers or inputs
        if inputs.labelled is None and buffers.labelled is not None:
            inputs = inputs._replace(labelled=torch.ones_like(buffers.labelled))  # equal to the last bit
        pairs = [(buffer, given) for buffer, given in zip(buffers, inputs, strict=True) if given is not None]
        fits = all(b is not None and (b.shape, b.dtype) == (given.shape, given.dtype) for b, given in pairs)
        for buffer, given in pairs if fits else ():
            if buffer is not None:
                buffer.copy_(given, non_blocking=True)
        return fits

    def _recorded(self, inputs: NetworkInput, adam: AdamOnDevice) -> Forward | None:
        """Record, and do the step by a replay; None, with everything as it was, where that does not work."""
        labelled, kept = (given if given is None else given.clone() for given in inputs[2:])
        buffers = NetworkInput(inputs.x.clone(), inputs.labels.clone(), labelled, kept)
        self._buffers, self._replay, compute = buffers, None, self._forward

        def step() -> Forward:
            forward = compute(buffers)
            adam.update(torch.autograd.grad(forward.loss, adam.parameters))
            return Forward(*(each.detach() for each in forward))

        before = _copied(self._state(adam))
        try:
            expected = self._warmed_up(step, adam, before)
            self._replay = recorded(step, inputs.x.device)
            forward = self._replay()
            wrong = _difference(expected, {"loss": [forward.loss], **self._state(adam)}, before)
        except RuntimeError as error:  # of CUDA; too little memory is one
            wrong = first_line(error)
        if not wrong:
            return forward
        self.failed = True
        self.forget()
        _restore(self._state(adam), before)
        log.warning("The training step could not be recorded (%s); its kernels are started one by one instead.", wrong)
        return None

    def _warmed_up(self, step: Callable[[], Forward], adam: AdamOnDevice, before: State) -> State:
        """The loss and the state that a step leads to, computed plainly; the state is put back."""
        device = adam.parameters[0].device
        aside = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if aside is not None:
            aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):  # does nothing where there is none
            for _ in range(1 if aside is None else _WARM_UP):
                _restore(self._state(adam), before)
                loss = step().loss
            after = {"loss": [loss.clone()], **_copied(self._state(adam))}
        if aside is not None:
            torch.cuda.current_stream(device).wait_stream(aside)
        _restore(self._state(adam), before)
        return after

    def _state(self, adam: AdamOnDevice) -> State:
        """All that a step changes."""
        weights = [each.detach() for each in adam.parameters]
        buffers = [*self._network.buffers()]
        return {"weights": weights, "moments": adam.moments} | ({"batch statistics": buffers} if buffers else {})


def recorded(function: Callable[[], Forward], device: torch.device) -> Callable[[], Forward]:
    """A function that does again what this one does, without asking Python; on a CPU the function itself."""
    if device.type != "cuda":
        return function
    graph, cached = torch.cuda.CUDAGraph(), torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # each replay converts the weights as they are then
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    try:  # another thread may be loading windows meanwhile
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            forward = function()
    finally:
        torch.set_autocast_cache_enabled(cached)

    def replay() -> Forward:
        graph.replay()
        return forward

    return replay


def _copied(state: State) -> State:
    return {name: [each.clone() for each in tensors] for name, tensors in state.items()}


def _restore(state: State, before: State) -> None:
    for name, tensors in state.items():
        for now, then in zip(tensors, before[name], strict=True):
            now.copy_(then)


def _difference(expected: State, found: State, before: State) -> str:
    """What a replay changed otherwise than the plain step, beyond rounding; empty where there is no such thing."""
    for name, tensors in expected.items():
        start = before.get(name, [torch.zeros_like(each) for each in tensors])
        error, change = _distance(found[name], tensors), _distance(tensors, start)
        if not error <= _TOLERANCE * change:
            return f"a replay changes {name} by {error:.2g} of {change:.2g} otherwise than the plain step"
    return ""


def _distance(ends: Sequence[Tensor], starts: Sequence[Tensor]) -> float:
    pairs = zip(ends, starts, strict=True)
    return float(torch.stack([(end.double() - start.double()).square().sum() for end, start in pairs]).sum().sqrt())
