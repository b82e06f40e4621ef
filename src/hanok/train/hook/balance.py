"""Balance without a loss: after each step, the routers' biases move towards even loads."""

from __future__ import annotations

import torch

from hanok.nn.router.sigmoid_group import SigmoidGroup
from hanok.train.hook import Hook, Record
from hanok.train.state import TrainState


class Balance(Hook):
    """Calls `rebalance` on every router that has a bias: b += rate * sign(mean load - load) (arXiv 2408.15664).

    It goes before the hook that saves, so that a checkpoint holds the bias that the next step will use.
    """

    @torch.no_grad()
    def after_step(self, state: TrainState, record: Record) -> None:
        """Use the loads of this step's training batches."""
        for module in state.model.modules():
            if isinstance(module, SigmoidGroup):
                module.rebalance(state.ranks.sum)
