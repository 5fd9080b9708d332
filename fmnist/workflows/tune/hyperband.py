"""Hyperband's brackets: the number of trials and of epochs at each rung, and Ray Tune's scheduler for them.

Source: Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization", JMLR 18 (2018), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket


@dataclass(frozen=True)
class Bracket:
    """One bracket of a search; ``sizes`` and ``epochs`` have a value for each rung, [halvings + 1]."""

    halvings: int  # rungs below the maximum, keras-tuner's number of the bracket; 0 is plain random search
    sizes: tuple[int, ...]  # trials that train up to the rung; the first is all of them
    epochs: tuple[int, ...]  # of a trial at the rung; the last is the search's maximum

    @property
    def budget(self) -> int:
        """Epochs of all trials of the bracket together."""
        steps = zip(self.epochs, (0, *self.epochs[:-1]), strict=True)
        return sum(size * (end - begin) for size, (end, begin) in zip(self.sizes, steps, strict=True))


def brackets(max_epochs: int, factor: int) -> list[Bracket]:
    """Returns the brackets of one Hyperband iteration, the one of most rungs first.

    Sizes are the paper's: 9, 5 and 3 trials for 10 epochs and factor 3. Epochs are rounded up as in keras-tuner, so
    that every bracket ends at ``max_epochs``. Where ``max_epochs`` is not a power of ``factor``, keras-tuner computes
    the sizes from a larger number of brackets: 12, 6 and 4 trials for 10 and 3.

    Args:
        max_epochs: of a trial, 1 or more.
        factor: reduction factor, 2 or more; 1/factor of the trials survive each rung.
    """
    # All in integers: a power or a quotient of floats may round to the wrong side.
    most = 0
    while factor ** (most + 1) <= max_epochs:
        most += 1
    plan = []
    for halvings in range(most, -1, -1):
        first = -(-(most + 1) * factor**halvings // (halvings + 1))
        sizes = tuple(-(-first // factor**rung) for rung in range(halvings + 1))
        epochs = tuple(-(-max_epochs // factor ** (halvings - rung)) for rung in range(halvings + 1))
        plan.append(Bracket(halvings, sizes, epochs))
    return plan


def stretch(max_epochs: int, factor: int, trial: int, done: int) -> int:
    """Returns how many epochs a trial trains in one go: those between two rungs of its bracket.

    Args:
        max_epochs, factor: as for `brackets`.
        trial: number, from 1; trials fill the brackets one after the other.
        done: epochs that the trial has trained, below ``max_epochs``.
    """
    plan = brackets(max_epochs, factor)
    place = (trial - 1) % sum(bracket.sizes[0] for bracket in plan)
    for bracket in plan:
        if place < bracket.sizes[0]:
            break
        place -= bracket.sizes[0]
    return next(end - begin for begin, end in pairwise((0, *bracket.epochs)) if done < end)


class Hyperband(HyperBandScheduler):
    """Ray Tune's synchronous Hyperband with the brackets of `brackets`.

    Trials join the brackets in the order of their creation. The bracket of most rungs runs first, because it takes
    longest; then the others, from the one without a rung below the maximum: if one of its long trials ran last, the
    other processors would be idle. Ray's own brackets round epochs down: for 10 epochs and factor 3 they end at 9.

    Args:
        metric: the reported value to compare trials by; higher is better.
        max_epochs: of a trial; one report is one epoch.
        factor: reduction factor, 2 or more.
    """

    def __init__(self, metric: str, max_epochs: int, factor: int) -> None:
        super().__init__(metric=metric, mode="max", max_t=max_epochs, reduction_factor=factor)
        self._plan = brackets(max_epochs, factor)
        self._s_max_1 = len(self._plan)
        self._get_n0 = lambda place: self._plan[place].sizes[0]
        self._get_r0 = lambda place: self._plan[place].epochs[0]

    def _create_bracket(self, s: int) -> _PlannedBracket:
        return _PlannedBracket(self._plan[s], self._time_attr, self._eta)

    def bracket_of(self, trial: Trial) -> int:
        """Returns the number of halvings of a trial's bracket."""
        bracket: _PlannedBracket = self._trial_info[trial][0]
        return bracket.plan.halvings

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if trial not in self._trial_info:
            super().on_trial_add(tune_controller, trial)
        else:
            # Restarted after a crash: it keeps its bracket, and has not reported yet.
            self._trial_info[trial][0]._live_trials[trial] = None

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # A trial that Tune restarts has the status ERROR here; one that has failed for good does not have it yet. If a
        # restarted trial lost its bracket, it would join a bracket of its own, and win it.
        if not (trial.status == Trial.ERROR and trial.should_recover()):
            super().on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        action: str = super().on_trial_result(tune_controller, trial, result)
        # A trial at the maximum need not wait. Ray pauses it until the last trial of its bracket is there, and then
        # stops the paused trials. It misses a trial whose checkpoint is still being saved, and all of them if the last
        # trial ends early or fails: those would stay paused for ever.
        return TrialScheduler.STOP if result[self._time_attr] >= self._max_t_attr else action

    def _process_bracket(self, tune_controller: Any, bracket: _Bracket) -> str:
        action: str = super()._process_bracket(tune_controller, bracket)
        # Ray leaves it set after a bracket's first rung; if the last trial then ends early, the others wait for ever.
        bracket.is_being_processed = False
        return action

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        for band in self._hyperbands:
            for bracket in [*band[:1], *band[:0:-1]]:
                for trial in bracket.current_trials():
                    waiting = trial.status == Trial.PAUSED and trial in bracket.trials_to_unpause
                    if waiting or trial.status == Trial.PENDING:
                        return trial
        return None


class _PlannedBracket(_Bracket):
    """Ray's bracket, with the epochs of a `Bracket`."""

    def __init__(self, plan: Bracket, time_attr: str, factor: float) -> None:
        super().__init__(
            time_attr=time_attr,
            max_trials=plan.sizes[0],
            init_t_attr=plan.epochs[0],
            max_t_attr=plan.epochs[-1],
            eta=factor,
            s=plan.halvings,
        )
        self.plan = plan

    # Ray compares the trials that have not ended, and Tune creates 200 at once: a trial that ended before the last was
    # created would leave room for one of the next bracket, and which one would depend on time.
    def filled(self) -> bool:
        return len(self._all_trials) == self.plan.sizes[0]

    def cur_iter_done(self) -> bool:
        done: bool = super().cur_iter_done()
        return self.filled() and done

    def successive_halving(self, metric: str, metric_op: float) -> tuple[list[Trial], list[Trial]]:
        good, bad = super().successive_halving(metric, metric_op)
        self._r = self._cumul_r = self.plan.epochs[-1 - self._halves]
        return good, bad
