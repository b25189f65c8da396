"""Optimizers and schedules by name: baselines, families with a decay, the catalogue, any text.

Your own package can add more: see `nos_repro.optim.registry`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import ParamsT

from nos_repro.errors import ConfigError, NosError, in_a_line
from nos_repro.optim.foreign import MARK, fitted_options, marked, missing
from nos_repro.optim.lookup import SPLIT, FoundOptimizer, alone, check_options, find_optimizer
from nos_repro.optim.options import whole
from nos_repro.optim.registry import SCHEDULES, Factor, keywords, wants_names
from nos_repro.optim.schedules import Schedule
from nos_repro.optim.tryout import STEPS, Tried, tried


def make_optimizer(
    name: str,
    params: ParamsT,
    *,
    lr: float,
    weight_decay: float = 0.0,
    total_steps: int | None = None,
    seed: int | None = None,
    **options: Any,
) -> Optimizer:
    """The optimizer for a name, or for an update rule's text.

    Args:
        name: one of
            "sgd", "momentum", "adam", "rmsprop" (torch's), "adam-tf",
            "rmsprop-tf" (TensorFlow's);
            a family, with or without a decay: "powersign", "addsign-ld",
            "powersign-rd20";
            a rule that the papers print, by its name in the catalogue: "table6-13";
            the text of a rule: "g + drop(m, 0.3)", or "rule: adam" for a text that
            is a name too;
            any optimizer by where it is: "torch.optim.AdamW",
            "pytorch_optimizer.SOAP", "my_package.my_module";
            "split": several optimizers, each with its own parameters.
        params: the parameters to train, their (name, parameter) pairs, or groups of
            either. Only an optimizer that asks for names gets them.
        lr: the learning rate, a number > 0.
        weight_decay: passed to the optimizer; an error if it takes none.
        total_steps: the number of updates in the whole training; needed with a
            decay.
        seed: the seed of a rule's noise and drops (default: one of its own).
        **options: the optimizer's own, such as `base` for "powersign" or `betas`
            for "adam"; `groups`, what differs among parameters; for "split"
            `split`, the optimizers (`optim.grouping` has both).

    Returns:
        A `torch.optim.Optimizer`: torch's own for most baselines, else a
        `RuleOptimizer`.

    Raises:
        ConfigError: a name or option is unknown (the error shows the nearest one),
            or a value is impossible.
        RuleError: the text is not a rule, or `total_steps` is missing.

    Examples:
        >>> import torch
        >>> from nos_repro import make_optimizer
        >>> weights = [torch.nn.Parameter(torch.ones(2))]
        >>> optimizer = make_optimizer("powersign", weights, lr=0.1, base=2.0)
        >>> optimizer.rule_of(optimizer.param_groups[0])
        '2**(sign(g) * sign(m)) * g'
        >>> make_optimizer("table6-18", weights, lr=0.1).defaults["rule"]
        'm * exp(g2)'
        >>> make_optimizer("powersing", weights, lr=0.1)
        Traceback (most recent call last):
        ...
        nos_repro.errors.ConfigError: unknown optimizer 'powersing'
          did you mean 'powersign'?  ...
    """
    if not (isinstance(lr, int | float) and math.isfinite(lr) and lr > 0):
        raise ConfigError(f"lr must be a finite number > 0, got {lr!r}")
    found = find_optimizer(name)
    if "groups" in options and found.origin != SPLIT:
        groups, own = options.pop("groups"), {"name": name, **options}
        name, found = "split", find_optimizer("split")
        options = {"split": {"rest": own}, "groups": groups}
    make, accepted, fixed = found.make, found.accepted, found.fixed
    check_options(name, options, found.options)
    mark = {} if found.ships else options.pop(MARK, {})
    if not found.ships:
        options = fitted_options(name, make, options)
    given = {"weight_decay": weight_decay, "total_steps": total_steps, "seed": seed}
    if weight_decay != 0 and "weight_decay" not in accepted:
        raise ConfigError(f"optimizer '{name}' takes no weight_decay, got {weight_decay}")
    handed = {key: value for key, value in given.items() if key in accepted}
    try:
        made = make(marked(_handed(params, name, found), mark), lr=lr, **handed, **fixed, **options)
    except NosError:
        raise
    except Exception as error:
        if not found.ships:
            why = missing(make, {"lr": lr, **handed, **options}, error) or in_a_line(error)
            raise ConfigError(f"optimizer '{name}' cannot be made: {why}") from error
        if isinstance(error, (TypeError, ValueError, LookupError)):
            raise ConfigError(f"optimizer '{name}': {error}") from error
        raise
    if not isinstance(made, Optimizer):
        raise ConfigError(f"optimizer '{name}' made a {type(made).__name__}, no torch optimizer")
    return made


def make_schedule(
    name: str, optimizer: Optimizer, *, total_steps: int, seed: int = 0, **options: Any
) -> LRScheduler:
    """The learning-rate schedule for a name; step it once after every update.

    Args:
        name: "constant", "cosine", "cosine_restarts", "stepwise", "linear_cosine"
            or "noisy_linear_cosine" (sec. 5.2), or your own:
            "my_package.my_module".
        optimizer: the optimizer whose rates it sets. Their current values are the
            initial rates.
        total_steps: T, the number of updates in the whole training. After that the
            rates stay the same.
        seed: the seed of the noise in "noisy_linear_cosine".
        **options: the schedule's own, such as `alpha` for "cosine"; the defaults
            are the paper's.

    Returns:
        An `LRScheduler` whose only state is the step. It can be pickled, chained
        after a warm-up of torch's, and built before or after the optimizer's state
        is loaded.

    Raises:
        ConfigError: a name or option is unknown (the error shows the nearest one),
            or a value is impossible.

    Examples:
        >>> import torch
        >>> from nos_repro import PowerSign, make_schedule
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = PowerSign([w], lr=0.1)
        >>> schedule = make_schedule("linear_cosine", optimizer, total_steps=4)
        >>> for step in range(4):
        ...     print(f"step {step}: rate {optimizer.param_groups[0]['lr']:.4f}")
        ...     optimizer.step()
        ...     schedule.step()
        step 0: rate 0.1000
        step 1: rate 0.0640
        step 2: rate 0.0250
        step 3: rate 0.0037
    """
    length, seed = whole("total_steps", total_steps, least=1), whole("seed", seed)
    return Schedule(optimizer, _factor(name, length, seed, options))


def check_optimizer(name: str, **options: Any) -> None:
    """Raises what `make_optimizer` would raise, before there are parameters; of an optimizer that
    does not ship also what shows in a few updates (`optim.tryout`).

    One that refuses some shapes passes: whether a task has such parameters shows when there is one.
    """
    for where, part, own in alone(name, options):
        try:
            if find_optimizer(part).ships:
                _check_shipped(part, own)
            else:
                try_optimizer(part, own)
        except NosError as error:
            raise type(error)(f"{where}{error}") from None


def _check_shipped(name: str, options: dict[str, Any]) -> None:
    """Tries it on a matrix and a vector and, if it refuses them, on the matrix alone."""
    settings = {"lr": 0.1, "total_steps": 1, **options}
    matrix, vector = (torch.nn.Parameter(torch.zeros(size)) for size in ((2, 2), (2,)))
    try:
        make_optimizer(name, [("weight", matrix), ("bias", vector)], **settings)
    except ConfigError:
        try:
            make_optimizer(name, [("weight", matrix)], **settings)
            return
        except NosError:
            pass
        raise


def try_optimizer(name: str, options: Mapping[str, Any]) -> Tried:
    """What a few updates show of an optimizer that does not ship. Raises ConfigError if it cannot
    train here."""
    given = {"lr": 0.1, "total_steps": STEPS, **options}
    return tried(name, lambda named: make_optimizer(name, named, **given), given)


def starts_over(name: str, options: Mapping[str, Any]) -> str:
    """Why an interrupted trial of this optimizer cannot go on from its checkpoint; "" if it can."""
    for where, part, own in alone(name, options):
        if not find_optimizer(part).ships and (why := try_optimizer(part, own).starts_over):
            return f"{where}{part}: {why}"
    return ""


def check_schedule(name: str, **options: Any) -> None:
    """Raises what `make_schedule` would raise, before there is an optimizer."""
    factor = _factor(name, 100, 0, options)
    first = factor(0) if callable(factor) else factor
    if not callable(factor) or not isinstance(first, SupportsFloat):
        raise ConfigError(
            f"schedule '{name}': expected a function from the step to a factor, such as"
            f" `lambda t: 1.0`; got {'one that returns ' if callable(factor) else ''}{first!r}"
        )


def _factor(name: str, total_steps: int, seed: int, options: dict[str, Any]) -> Factor:
    make = SCHEDULES.find(name)
    accepted = keywords(make)
    given = {"total_steps": total_steps, "seed": seed}
    check_options(name, options, accepted - given.keys())
    handed = {key: value for key, value in given.items() if key in accepted}
    try:
        return make(**handed, **options)
    except NosError:
        raise
    except (TypeError, ValueError, LookupError) as error:
        raise ConfigError(f"schedule '{name}': {error}") from error


def _handed(params: Any, name: str, found: FoundOptimizer) -> Any:
    """The parameters in the form that the maker takes."""
    if found.origin == SPLIT:
        return params
    return list(_pairs(params, name)) if wants_names(found.make) else _unnamed(params)


def _pairs(params: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The (name, parameter) pairs among ``params``, in groups or not."""
    for item in params:
        match item:
            case (str(), Tensor()):
                yield item
            case {"params": members}:
                yield from _pairs([members] if isinstance(members, Tensor) else members, name)
            case _:
                raise ConfigError(f"optimizer '{name}' needs the names of the parameters, as in"
                                  " model.named_parameters()")  # fmt: skip


def _unnamed(params: Any) -> Any:
    """The parameters or groups, without names."""
    if isinstance(params, Tensor):
        return params  # torch says what is wrong with that

    def plain(item: Any) -> Any:
        match item:
            case (str(), Tensor() as parameter):
                return parameter
            case {"params": members}:
                members = members if isinstance(members, Tensor) else _unnamed(members)
                return {**item, "params": members}
            case _:
                return item

    return [plain(item) for item in params]
