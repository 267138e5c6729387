"""Early warning when a contrastive critic collapses: what tells it, and when to say so."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import math

import torch
from torch import Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows

CHANCE_LOSS = 2.0 * math.log(2.0)  # of all logits 0: of a critic that tells nothing apart
# Right goals in a batch by guessing: Poisson of mean 1, so five or more come once in 270 batches.
LUCKY_GUESSES = 5
FLAT_SPREAD = 0.01  # logits; a cold start leaves it within some ten steps
FEWEST_DIRECTIONS = 1.05  # effective rank; 1 is one direction for everything
LARGEST_LOGIT = 1000.0  # healthy critics end within some hundred
GRACE_STEPS = 300  # for a critic to begin to learn; warm-up comes on top
PATIENCE = 3  # log rows that must agree, to warn and to give the all-clear ...
LASTING_STEPS = 50  # ... over at least so many steps

REMEDIES = {
    'flat': 'a lower learning_rate, augment_critic=false, or another seed',
    'diverged': 'a lower learning_rate, a smaller discount, or normalise_representations=true',
    'one_direction': 'a lower learning_rate, a larger representation_size, or another seed',
    'chance': 'a lower learning_rate, critic_norm=centred, or more and more varied data',
}


@torch.no_grad()
def effective_rank(representations: Tensor) -> Tensor:
    """
    Count the directions that representations use: exp of the entropy of the singular values.

    Source: Roy & Vetterli 2007, 'The effective rank'.

    :param representations: shape (E, B, R), E critics.
    :returns: mean over the critics, 1 .. R; 0 where all are 0 or one is not finite.
    """
    # Scaled first: a cold start's 1e-12 would vanish when squared.
    values = torch.nan_to_num(representations.double(), 0.0, 0.0, 0.0)
    values = values / values.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    gram = values.mT @ values
    singular = torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt()  # (E, R)
    share = singular / singular.sum(1, keepdim=True).clamp(min=1e-300)
    rank = torch.special.entr(share).sum(1).exp()
    return torch.where(singular.sum(1) > 0.0, rank, 0.0).mean()


@torch.no_grad()
def critic_metrics(phi: Tensor, psi: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """
    Measure what a collapse shows in.

    :param phi: of states and actions, shape (E, B, R).
    :param psi: of goals, shape (E, B, R).
    :param logits: f(s_i, a_i, g_j), shape (B, B, E); row i belongs with goal i.
    :returns: `rank_phi` and `rank_psi`, 1 .. R; `logit_spread`, the standard deviation within
        the batch; `contrastive_loss`, positives and negatives weighing the same: `CHANCE_LOSS`
        where nothing is told apart.
    """
    logits = logits.mean(-1)
    same = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return {'rank_phi': effective_rank(phi), 'rank_psi': effective_rank(psi),
            'logit_spread': logits.std(),
            'contrastive_loss': F.softplus(-logits[same]).mean()
            + F.softplus(logits[~same]).mean()}


def symptoms(metrics: Mapping[str, float], batch_size: int) -> dict[str, str]:
    """
    Name what is wrong with a critic; empty where all is well or there is no such critic.

    :param metrics: of one detailed update, `critic/...` by name.
    :returns: findings in words by key of `REMEDIES`, the plainest first.
    """
    value = {name.removeprefix('critic/'): metrics[name] for name in metrics}
    if not {'categorical_accuracy', 'logit_spread', 'contrastive_loss'} <= set(value):
        return {}
    found = {}
    spread = value['logit_spread']
    if spread < FLAT_SPREAD:
        found['flat'] = f'all logits are equal (spread {spread:.2g})'
    largest = max(spread, abs(value['logits_positive']), abs(value['logits_negative']))
    if largest > LARGEST_LOGIT:
        found['diverged'] = f'logits have grown to {largest:.0f}'
    rank = min(value['rank_phi'], value['rank_psi'])
    if rank < FEWEST_DIRECTIONS:
        found['one_direction'] = f'representations use one direction (rank {rank:.2f})'
    guessed = value['categorical_accuracy'] * batch_size < LUCKY_GUESSES
    if guessed and value['contrastive_loss'] > 0.99 * CHANCE_LOSS:
        found['chance'] = (f'goals are told apart no better than by chance (loss '
                           f'{value["contrastive_loss"]:.3f}, at chance {CHANCE_LOSS:.3f})')
    return found


@dataclass
class HealthEvent:
    """When a collapse was noticed or over, and what it showed in."""

    step: int  # of the warning
    since: int  # first step of what it is about
    collapsed: bool
    findings: str


class CriticWatch:
    """
    Judge the critic at every log row and speak up once per change.

    A critic that never learned is given `grace` steps; one that did and lost it is not.

    :param batch_size: goals that each state is scored against.
    :param grace: gradient steps before a critic must have begun to learn.
    """

    def __init__(self, batch_size: int, grace: int = GRACE_STEPS) -> None:
        self.batch_size = batch_size
        self.grace = grace
        self.collapsed = False
        self.events: list[HealthEvent] = []
        self._learned = False
        self._row: list[int] = []  # steps of the last log rows that contradict `collapsed`

    def observe(self, step: int, metrics: Mapping[str, float],
                ) -> tuple[dict[str, float], str | None]:
        """
        Take a log row.

        :returns: metrics to log, and a line to show when the judgement changed.
        """
        if 'critic/contrastive_loss' not in metrics:
            return {}, None
        found = symptoms(metrics, self.batch_size)
        self._row = [] if bool(found) == self.collapsed else [*self._row, step]
        self._learned |= not found
        lasting = len(self._row) >= PATIENCE and step - self._row[0] >= LASTING_STEPS
        cold = not self._learned and step <= self.grace
        message = self._change(step, found) if lasting and not cold else None
        return {'health/collapsed': float(self.collapsed),
                'health/accuracy_over_chance':
                    metrics['critic/categorical_accuracy'] * self.batch_size,
                'health/loss_over_chance': metrics['critic/contrastive_loss'] / CHANCE_LOSS,
                }, message

    def _change(self, step: int, found: Mapping[str, str]) -> str:
        self.collapsed = bool(found)
        since, self._row = self._row[0], []
        event = HealthEvent(step, since, self.collapsed, ', '.join(found.values()))
        self.events.append(event)
        if not found:
            return f'step {step}: the critic tells goals apart again, since step {since}'
        began = f'has collapsed, since step {since}' if self._learned else 'has not begun to learn'
        return (f'step {step}: the critic {began}: {event.findings}; '
                f'try {REMEDIES[next(iter(found))]}')

    def describe(self) -> dict:
        """Return the judgement as plain values, for a checkpoint's metadata."""
        return {'collapsed': self.collapsed, 'events': [asdict(event) for event in self.events]}

    def state_dict(self) -> dict:
        """Return everything the next judgement depends on, as plain values."""
        return {**self.describe(), 'learned': self._learned, 'row': self._row}

    def load_state_dict(self, state: Mapping) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.collapsed, self._learned = state['collapsed'], state['learned']
        self.events = [HealthEvent(**event) for event in state['events']]
        self._row = list(state['row'])
