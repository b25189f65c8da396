"""A function that contains `step()` compiles with one break, whatever the number of updates."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nos_repro import AddSign, PowerSign, RuleOptimizer


@pytest.mark.parametrize(
    "make",
    [
        lambda params: PowerSign(params, 0.1, decay="ld", total_steps=20),
        lambda params: AddSign(params, 0.1, foreach=False),
        lambda params: RuleOptimizer(params, "drop(adam, 0.3) + noise", 0.1, seed=1),
    ],
)
def test_a_compiled_training_step_compiles_no_update_and_never_again(make: Any) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def train(*, compiled: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        optimizer = make(model.parameters())

        def update(x: Tensor) -> None:
            model(x).pow(2).sum().backward()
            optimizer.step()

        function = torch.compile(update, backend=backend) if compiled else update
        for i in range(12):
            optimizer.zero_grad()
            function(torch.full((2, 4), float(i)))
        return [p.detach() for p in model.parameters()]

    torch._dynamo.reset()
    weights = train(compiled=True)
    assert len(graphs) == 1, "the model's"
    assert all(map(torch.equal, weights, train(compiled=False)))
    torch._dynamo.reset()
