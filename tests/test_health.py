"""The watch over the critic: what it calls a collapse, and how often it speaks."""

from learning_samples import OVERRIDES, small_agent, write_dots
import numpy as np
import pytest
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.health import (
    CHANCE_LOSS,
    critic_metrics,
    CriticWatch,
    effective_rank,
    symptoms,
)
from stable_crl_ros.crl.losses import contrastive_metrics
from stable_crl_ros.crl.networks import all_logits
from stable_crl_ros.crl.run_log import read_metrics
from stable_crl_ros.crl.train import train
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.sampling import BatchSampler
from stable_crl_ros.images import ImageSpec
import torch

BATCH = 32


def measure(phi, psi):
    logits = all_logits(phi, psi)
    found = contrastive_metrics(logits) | critic_metrics(phi, psi, logits)
    return {f'critic/{name}': float(value) for name, value in found.items()}


def orthogonal(seed, rows, columns):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(matrix).Q


def good():
    phi = 10 * torch.eye(BATCH)[None]
    return measure(phi, phi - 5)


def bad():
    return measure(torch.zeros(1, BATCH, 4), torch.ones(1, BATCH, 4))


@pytest.mark.parametrize('scale', [1.0, 1e-12, 1e12])
@pytest.mark.parametrize('directions', [1, 3, 8])
def test_rank_counts_directions_at_any_scale(directions, scale):
    values = scale * orthogonal(0, 50, directions) @ orthogonal(1, 16, directions).T
    assert float(effective_rank(values[None])) == pytest.approx(directions, rel=1e-3)


def test_rank_is_the_exponential_of_the_entropy_of_the_singular_values():
    values = torch.diag(torch.tensor([4.0, 2.0, 2.0, 0.0]))
    share = np.array([0.5, 0.25, 0.25])
    expected = np.exp(-(share * np.log(share)).sum())
    twins = torch.stack([values, torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.0]))])
    assert float(effective_rank(values[None])) == pytest.approx(expected)
    assert float(effective_rank(twins)) == pytest.approx((expected + 1.0) / 2)


@pytest.mark.parametrize('value', [0.0, float('nan'), float('inf')])
def test_rank_of_nothing_is_zero(value):
    assert float(effective_rank(torch.full((2, 8, 4), value))) == 0.0


def test_critic_that_tells_nothing_apart_stands_at_two_log_two():
    assert bad()['critic/contrastive_loss'] == pytest.approx(2 * np.log(2))
    assert pytest.approx(2 * np.log(2)) == CHANCE_LOSS


def noise(seed, size):
    return torch.randn(1, BATCH, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(('phi', 'psi', 'expected'), [
    (torch.zeros(1, BATCH, 4), torch.ones(1, BATCH, 4), {'flat', 'one_direction', 'chance'}),
    (1000 * torch.eye(BATCH)[None], 10 * torch.eye(BATCH)[None], {'diverged'}),
    (torch.ones(1, BATCH, 4), noise(1, 4), {'one_direction', 'chance'}),
    (noise(2, 16), noise(3, 16), {'chance'}),
    (10 * torch.eye(BATCH)[None], 10 * torch.eye(BATCH)[None] - 5, set())])
def test_symptoms_are_told_apart(phi, psi, expected):
    assert set(symptoms(measure(phi, psi), BATCH)) == expected


def test_learner_without_a_contrastive_critic_is_left_alone():
    assert CriticWatch(BATCH).observe(1000, {'actor/loss': 1.0}) == ({}, None)


def feed(watch, first, count, metrics, every=100):
    """Give rows from step `first` on; return what was said."""
    return [message for step in range(first, first + count * every, every)
            if (message := watch.observe(step, metrics)[1])]


def test_cold_start_is_given_time():
    watch = CriticWatch(BATCH, grace=1000)
    assert feed(watch, 100, 10, bad()) == []
    (message,) = feed(watch, 1100, 20, bad())
    assert 'step 1100: the critic has not begun to learn: all logits are equal' in message
    assert 'learning_rate' in message


def test_collapse_is_said_once_and_so_is_recovery():
    watch = CriticWatch(BATCH, grace=1000)
    assert feed(watch, 100, 3, good()) == []
    (message,) = feed(watch, 400, 10, bad())
    assert message.startswith('step 600: the critic has collapsed, since step 400: ')
    assert '\n' not in message
    assert watch.observe(1400, bad())[0]['health/collapsed'] == 1.0
    (message,) = feed(watch, 1500, 10, good())
    assert message == 'step 1700: the critic tells goals apart again, since step 1500'
    assert watch.observe(2500, good())[0]['health/collapsed'] == 0.0
    assert [(event['step'], event['collapsed']) for event in watch.describe()['events']] == [
        (600, True), (1700, False)]


def test_a_passing_fit_and_rows_in_quick_succession_are_no_collapse():
    watch = CriticWatch(BATCH, grace=0)
    assert feed(watch, 100, 3, good()) == []
    for first in (400, 700, 1000):
        assert feed(watch, first, 2, bad()) + feed(watch, first + 200, 1, good()) == []
    assert feed(watch, 1300, 40, bad(), every=1) == []


def test_judgement_continues_after_a_resume():
    whole, first = CriticWatch(BATCH, grace=100), CriticWatch(BATCH, grace=100)
    feed(first, 100, 2, good())
    feed(first, 300, 2, bad())
    second = CriticWatch(BATCH, grace=100)
    second.load_state_dict(first.state_dict())
    feed(whole, 100, 2, good())
    assert feed(whole, 300, 5, bad()) == feed(second, 500, 3, bad()) != []
    assert whole.state_dict() == second.state_dict()


def train_watched(path, steps, **changes):
    """Train on dots under the watch; return it and what it said."""
    write_dots(path, episodes=20, steps=15)
    sampler = BatchSampler(build_cache(path, ImageSpec(16, 16)), BATCH, 0, 0.8)
    agent = small_agent(batch_size=BATCH, discount=0.8, **changes)
    watch, said = CriticWatch(BATCH), []
    for step in range(1, steps + 1):
        metrics = agent.update(sampler.sample(), detailed=step % 20 == 0)
        if step % 20 == 0:
            said += [watch.observe(step, metrics)[1]]
    return watch, [message for message in said if message]


def test_too_high_a_learning_rate_is_noticed(tmp_path):
    watch, said = train_watched(tmp_path / 'd', 340, critic_loss='td', learning_rate=0.1)
    assert watch.collapsed
    assert len(said) == 1 and 'all logits are equal' in said[0]


def test_collapse_is_shown_logged_and_kept_in_the_checkpoint(tmp_path, capsys):
    write_dots(tmp_path / 'd')
    latest = train([tmp_path / 'd'], tmp_path / 'run', steps=380, threads=1, device='cpu',
                   log_every=20, progress=False,
                   overrides={**OVERRIDES, 'critic_loss': 'mc', 'learning_rate': 0.1})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('warning: step 320: the critic has not begun to learn: ')
    rows = read_metrics(tmp_path / 'run' / 'metrics.csv')
    assert [row['step'] for row in rows if float(row['health/collapsed'])] == [
        '320', '340', '360', '380']
    assert float(rows[-1]['health/loss_over_chance']) == pytest.approx(1.0, abs=0.01)
    assert float(rows[-1]['critic/rank_psi']) < 1.05
    health = load_checkpoint(latest).metadata['health']
    assert health['collapsed'] and [event['step'] for event in health['events']] == [320]


@pytest.mark.parametrize('critic_loss', ['mc', 'td'])
def test_healthy_training_is_not_disturbed(tmp_path, critic_loss):
    watch, said = train_watched(tmp_path / 'd', 340, critic_loss=critic_loss)
    assert (watch.collapsed, said, watch.events) == (False, [], [])
