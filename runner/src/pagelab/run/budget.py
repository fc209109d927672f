"""The budget of a configuration: which combinations are repeated once more, because their speed is not known well."""

import random
from collections.abc import Sequence

from pagelab.analysis.precision import relative_interval
from pagelab.config.factors import key_of
from pagelab.run.plan import Plan
from pagelab.store.record import TrialRecord


def to_repeat(plan: Plan, trials: Sequence[TrialRecord]) -> list[int]:
    """The combinations that are to have one more trial, each by the number of its first one, in their order.

    Those are the ones whose interval is wider than the budget says, or not known, and that have not had all of their
    trials. The order is random and follows from `order_seed` and the length of the plan.

    Args:
        plan: all trials up to now, whose turn is over.
        trials: what became of them; invalid ones say nothing of the speed.
    """
    budget = plan.config.until
    if budget is None:
        return []
    planned: dict[tuple[str, ...], list[int]] = {}
    for one in plan.trials:
        planned.setdefault(key_of(one.factors), []).append(one.number)
    rates: dict[tuple[str, ...], list[float]] = {key: [] for key in planned}
    for trial in trials:
        rate = trial.decode.tokens_per_second
        if trial.validity.valid and rate is not None and (key := key_of(trial.factors)) in rates:
            rates[key].append(rate)
    wide = [
        min(numbers)
        for key, numbers in planned.items()
        if len(numbers) < budget.at_most and not _is_narrow(rates[key], budget.interval)
    ]
    shuffler = random.Random(f"{plan.config.order_seed}/{len(plan.trials)}")  # noqa: S311 - no secret
    shuffler.shuffle(wide)
    return wide


def _is_narrow(rates: Sequence[float], interval: float) -> bool:
    width = relative_interval(rates)
    return width is not None and width <= interval
