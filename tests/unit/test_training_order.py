"""The order of samples, the learning rate and the averaged weights: all functions of the iteration."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from tdtrack.config import OptimizerConfig
from tdtrack.errors import ConfigError
from tdtrack.training.ema import AveragedWeights
from tdtrack.training.order import PositionBatches, sample_at, sample_generator
from tdtrack.training.schedule import learning_rate_at


@pytest.mark.parametrize("num_samples", [1, 2, 7, 50])
def test_every_epoch_visits_every_sample_once(num_samples: int) -> None:
    for epoch in range(3):
        visited = [sample_at(epoch * num_samples + place, num_samples, seed=5) for place in range(num_samples)]
        assert sorted(visited) == list(range(num_samples))


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {tuple(sample_at(e * 20 + p, 20, seed) for p in range(20)) for e in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_every_position_has_its_own_stream() -> None:
    draws = {sample_generator(position, seed).random() for position in range(50) for seed in range(4)}
    assert len(draws) == 200
    assert sample_generator(3, 1).random() == sample_generator(3, 1).random()


def test_batches_resumed_are_the_rest_of_the_batches() -> None:
    whole = list(PositionBatches(4, 0, 10))
    assert list(PositionBatches(4, 6, 10)) == whole[6:]
    assert [position for batch in whole for position in batch] == list(range(40))
    assert len(PositionBatches(4, 6, 10)) == 4


def test_devices_share_every_batch() -> None:
    whole = list(PositionBatches(6, 2, 5))
    shares = [list(PositionBatches(6, 2, 5, rank=rank, world_size=3)) for rank in range(3)]
    assert [[position for part in parts for position in part] for parts in zip(*shares)] == whole


def test_an_uneven_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size is 6.*multiple of 4"):
        PositionBatches(6, 0, 1, world_size=4)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = OptimizerConfig(learning_rate=0.15, warmup_learning_rate=0.001, warmup_steps=2000, steps=12_000)
    assert learning_rate_at(0, config) == 0.001
    assert learning_rate_at(1000, config) == pytest.approx(0.0755)
    assert learning_rate_at(2000, config) == 0.15
    assert learning_rate_at(7000, config) == pytest.approx(0.075)
    assert learning_rate_at(4500, config) == pytest.approx(0.15 * (0.5 + math.sqrt(0.125)))
    assert 0 < learning_rate_at(11_999, config) < 1e-7
    rates = [learning_rate_at(step, config) for step in range(2000, 12_000)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 10), (10, 10)])
def test_the_edges_of_the_schedule(warmup: int, steps: int) -> None:
    config = OptimizerConfig(learning_rate=1.0, warmup_learning_rate=0.1, warmup_steps=warmup, steps=steps)
    rates = [learning_rate_at(step, config) for step in range(steps)]
    assert rates[0] == (0.1 if warmup else 1.0)
    assert all(0 < rate <= 1 for rate in rates)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def test_the_average_follows_its_formula() -> None:
    model, decay = small_model(), 0.9
    average = AveragedWeights(model, decay)
    expected = {name: value.double().clone() for name, value in model.state_dict().items()}
    for update in range(120):
        model(torch.randn(2, 3, 8, 8))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        average.update(model)
        kept = min(decay, (1 + update) / (10 + update))
        for name, value in model.state_dict().items():
            expected[name] = kept * expected[name] + (1 - kept) * value.double()
    state = average.state_dict()
    assert state["1.num_batches_tracked"] == 120
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(state[name].double(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_average_is_lent_and_taken_back() -> None:
    model = small_model()
    average = AveragedWeights(model, 0.5)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    average.update(model)
    own = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="inside"), average.applied(model):
        assert torch.equal(model.state_dict()["0.weight"], average.state_dict()["0.weight"])
        assert not torch.equal(model.state_dict()["0.weight"], own["0.weight"])
        raise RuntimeError("inside")
    assert all(torch.equal(model.state_dict()[name], own[name]) for name in own)


def test_a_saved_average_goes_on_as_the_original() -> None:
    model = small_model()
    first, second = AveragedWeights(model, 0.99), AveragedWeights(model, 0.99)
    for _ in range(3):
        with torch.no_grad():
            model[0].weight.mul_(1.1)
        first.update(model)
    second.load_state_dict(first.state_dict(), first.updates)
    for average in (first, second):
        average.update(model)
    assert all(torch.equal(first.state_dict()[name], second.state_dict()[name]) for name in first.state_dict())
