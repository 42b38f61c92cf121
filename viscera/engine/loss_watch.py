"""The losses of a training, read one by one on a CPU and together on a GPU, where each reading is a wait."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class NotFinite(NamedTuple):
    """The first loss that is no number: `value` at `step`."""

    step: int
    value: float


@dataclass
class LossWatch:
    """Losses that are known, and those that still lie on the device.

    Attributes:
        step: of the newest loss.
        newest: the newest loss that was read, no unit; NaN before the first.
    """

    step: int
    newest: float = math.nan
    _unread: list[Tensor] = field(default_factory=list)

    def add(self, loss: float | Tensor) -> None:
        """The loss of the next step: a number, or a scalar tensor that is left where it is until `read`."""
        self.step += 1
        self._unread.append(torch.as_tensor(loss, dtype=torch.float64) if isinstance(loss, float) else loss)

    def read(self) -> NotFinite | None:
        """Read what is unread, in one transfer; says which was the first that is not finite."""
        if not self._unread:
            return None
        values: list[float] = torch.stack(self._unread).tolist()
        first = self.step - len(values) + 1
        self._unread.clear()
        self.newest = values[-1]
        bad = ((number, value) for number, value in enumerate(values, start=first) if not math.isfinite(value))
        return next((NotFinite(*each) for each in bad), None)
