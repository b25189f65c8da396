"""Known optimizers as rules of the papers' language, for `rule TEXT` to name what it equals.

An optimizer is here only if its update is a rule: it keeps no average but m, v and gamma, and sees
one element at a time. A row's text is the optimizer's own update, so that a factor before its name
is one of the learning rate. Where it holds only with a condition, `but` says so; the rule's betas
are the optimizer's.

*Readings*: m and v are averages with bias correction. Many optimizers have none, and a constant
factor or a sign hides it; in a sum with the gradient it shows in the first steps, and `but` says
"but for the bias correction of m". A mask (u * g > 0) is 1/2 + sign(u) * sign(g) / 2, which differs
from it only where u or g is exactly 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nos_repro.registry import Table

NO_NUMBERS = "names what others call a rule (experiments.digest)"

DIGITS = 6


@dataclass(frozen=True)
class KnownOptimizer:
    """An optimizer that somebody has published.

    text: its update, w <- w - lr * update, with its constants under their names.
    source: the arXiv number, or who and when.
    but: what has to be said for that to be true.
    constants: the names of positive numbers in the text that may have any value.
    options: the optimizer's own options, in words, from the values of the constants.
    """

    name: str
    text: str
    source: str
    but: str = ""
    constants: tuple[str, ...] = ()
    options: Callable[..., str] = lambda: ""


def shown(value: float) -> str:
    """A number with at most six digits."""
    return f"{value:.{DIGITS}g}"


def _decay(k: float) -> str:
    return f"weight_decay = {shown(k)}"


def _base(k: float) -> str:
    return "base e" if math.isclose(k, 1) else f"base {shown(math.exp(k))}"


def _lion(k: float) -> str:
    default = " (0.9 if that is 0.99)" if math.isclose(k, 10) else ""
    return f"beta1 = {shown(k / (1 + k))} betas[0]{default}, beta2 = betas[0]"


def _momentum_is(beta: float) -> str:
    return f"where betas[0] is {shown(beta)}"


# fmt: off
BIAS = "but for the bias correction of m"
NO_RESCALING = "without its rescaling"
RAW_CAUTIOUS = f"{NO_RESCALING}, {BIAS}"
KNOWN = Table(
    KnownOptimizer("SGD",        "g",             "Robbins & Monro 1951"),
    KnownOptimizer("SGD with weight decay (L2)", "g + k * w", "Hanson & Pratt 1988", "",
                   ("k",), _decay),
    KnownOptimizer("SGD with an L1 penalty", "g + k * sign(w)", "Tibshirani 1996", "",
                   ("k",), lambda k: f"penalty {shown(k)}"),
    KnownOptimizer("SGD with its gradient clipped by value", "clip(g, k)", "Mikolov 2012", "",
                   ("k",), lambda k: f"bound {shown(k)}"),
    KnownOptimizer("momentum",   "m",             "Polyak 1964",
                   f"at 1 - betas[0] times its rate, {BIAS}"),
    KnownOptimizer("SGDW",       "m + k * w",     "1711.05101",
                   f"with dampening equal to its momentum, {BIAS}", ("k",), _decay),
    KnownOptimizer("Nesterov momentum", "g + k * m", "Nesterov 1983", BIAS,
                   ("k",), lambda k: _momentum_is(k / (1 + k))),
    KnownOptimizer("QHM",        "(1 - k) * g + k * m", "1810.06801", BIAS,
                   ("k",), lambda k: f"nu = {shown(k)}"),
    KnownOptimizer("ACClip with a constant tau", "clip(m, k)", "1912.03194", BIAS,
                   ("k",), lambda k: f"tau = {shown(k)}"),
    KnownOptimizer("Powerball",  "sign(g) * sqrt(g)", "1603.07421", "at gamma = 1/2"),
    KnownOptimizer("SGD with annealed gradient noise", "g + k * annealed_noise", "1511.06807", "",
                   ("k",), lambda k: f"eta = {shown(k * k)}"),
    KnownOptimizer("SGD with constant gradient noise", "g + k * noise", "1511.06807", "",
                   ("k",), lambda k: f"standard deviation {shown(k / 10)}"),
    KnownOptimizer("SGLD",       "g + k * noise", "Welling & Teh 2011",
                   "where g is the gradient of the negative log posterior",
                   ("k",), lambda k: f"at lr = {shown(200 / k**2)}"),
    KnownOptimizer("gradient dropout", "drop(g, k)", "2004.05859", NO_RESCALING,
                   ("k",), lambda k: f"dropping {shown(k)}"),
    KnownOptimizer("PowerSign",  "exp(k * sign(g) * sign(m)) * g", "1709.07417", "",
                   ("k",), _base),
    KnownOptimizer("AddSign",    "(k + sign(g) * sign(m)) * g", "1709.07417", "",
                   ("k",), lambda k: f"alpha = {shown(k)}"),
    # signs
    KnownOptimizer("signSGD",    "sign(g)",       "1802.04434"),
    KnownOptimizer("noisy signSGD", "sign(g + k * noise)", "1906.01736", "",
                   ("k",), lambda k: f"standard deviation {shown(k / 10)}"),
    KnownOptimizer("Signum",     "sign(m)",       "1802.04434"),
    KnownOptimizer("Signum with weight decay", "sign(m) + k * w", "1802.04434", "",
                   ("k",), _decay),
    KnownOptimizer("Lion",       "sign(g + k * m)", "2302.06675", BIAS, ("k",), _lion),
    KnownOptimizer("Lion with weight decay", "sign(g + k * m) + j * w", "2302.06675", BIAS,
                   ("k", "j"), lambda k, j: f"{_lion(k)}, {_decay(j)}"),
    # divided by the root of v
    KnownOptimizer("RMSProp",    "rmsprop",       "Tieleman & Hinton 2012",
                   "but for the bias correction of v; Adam at beta1 = 0 is exactly that"),
    KnownOptimizer("RMSProp with epsilon inside the root", "g / sqrt(v + k)", "TensorFlow",
                   "but for the start of v", ("k",), lambda k: f"epsilon = {shown(k)}"),
    KnownOptimizer("RMSProp without the root", "g / v", "2402.03496", "but for the start of v"),
    KnownOptimizer("Adam",       "adam",          "1412.6980"),
    KnownOptimizer("Adam with epsilon inside the root", "m / sqrt(v + k)", "optax, eps_root", "",
                   ("k",), lambda k: f"eps_root = {shown(k)}"),
    KnownOptimizer("AdamW",      "adam + k * w",  "1711.05101", "", ("k",), _decay),
    KnownOptimizer("NAdam",      "((1 - k) * g + k * m) / sqrt(v)", "Dozat 2016",
                   f"with a constant momentum, {BIAS}", ("k",), _momentum_is),
    KnownOptimizer("NAdamW",     "((1 - k) * g + k * m) / sqrt(v) + j * w", "2306.07179",
                   f"with a constant momentum, {BIAS}",
                   ("k", "j"), lambda k, j: f"{_momentum_is(k)}, {_decay(j)}"),
    KnownOptimizer("QHAdam with nu2 = 1", "((1 - k) * g + k * m) / sqrt(v)", "1810.06801", "",
                   ("k",), lambda k: f"nu1 = {shown(k)}"),
    KnownOptimizer("QHAdam",     "((1 - k) * g + k * m) / sqrt((1 - j) * g2 + j * v)",
                   "1810.06801", "",
                   ("k", "j"), lambda k, j: f"nu1 = {shown(k)}, nu2 = {shown(j)}"),
    KnownOptimizer("Padam at p = 1/4", "m / sqrt(sqrt(v))", "1806.06763",
                   "without AMSGrad's maximum, but for the bias correction of m and v"),
    KnownOptimizer("Padam at p = 1/8", "m / sqrt(sqrt(sqrt(v)))", "1806.06763",
                   "without AMSGrad's maximum, but for the bias correction of m and v"),
    KnownOptimizer("SAdam",      "m / (0.02 * log(1 + exp(50 * sqrt(v))))", "1908.00700",
                   "at beta = 50"),
    KnownOptimizer("MAS",        "adam + k * g",  "2011.08042",
                   "with one rate for both, SGD without momentum",
                   ("k",), lambda k: f"lambda_s = {shown(k)} lambda_a"),
    # what agrees in sign
    KnownOptimizer("Grams",      "sign(g) * sign(m) * adam", "2412.17107"),
    KnownOptimizer("Grams on momentum", "sign(g) * sign(m) * m", "2412.17107",
                   f"with momentum in the place of Adam, {BIAS}"),
    KnownOptimizer("cautious SGD", "g * (0.5 + 0.5 * sign(g) * sign(m))", "2411.16085",
                   f"{NO_RESCALING}, the mask being momentum's"),
    KnownOptimizer("cautious momentum", "m * (0.5 + 0.5 * sign(g) * sign(m))", "2411.16085",
                   RAW_CAUTIOUS),
    KnownOptimizer("cautious Adam", "adam * (0.5 + 0.5 * sign(g) * sign(m))", "2411.16085",
                   NO_RESCALING),
    KnownOptimizer("cautious AdamW", "adam * (0.5 + 0.5 * sign(g) * sign(m)) + k * w", "2411.16085",
                   NO_RESCALING, ("k",), _decay),
    KnownOptimizer("cautious Signum", "sign(m) * (0.5 + 0.5 * sign(g) * sign(m))", "2411.16085",
                   NO_RESCALING),
    KnownOptimizer("cautious Lion",
                   "sign(g + k * m) * (0.5 + 0.5 * sign(g) * sign(g + k * m))", "2411.16085",
                   RAW_CAUTIOUS, ("k",), _lion),
    KnownOptimizer("AdamW with cautious weight decay",
                   "adam + k * (w + w * sign(m) * sign(w))", "2510.12402", "",
                   ("k",), lambda k: _decay(2 * k)),
    KnownOptimizer("Lion with cautious weight decay",
                   "sign(g + k * m) + j * (w + w * sign(g + k * m) * sign(w))", "2510.12402", BIAS,
                   ("k", "j"), lambda k, j: f"{_lion(k)}, {_decay(2 * j)}"),
)

# Rules of the second edition, with the optimizers' usual constants.
DEFAULTS = "at its defaults"
KNOWN_2 = Table(
    KnownOptimizer("SGD with momentum", "velocity(g, 0.9)", "Polyak 1964", "at momentum 0.9"),
    KnownOptimizer("SGD with Nesterov momentum", "u <- 0.9 * u + g; g + 0.9 * u", "Nesterov 1983",
                   "at momentum 0.9"),
    KnownOptimizer("Signum",     "sign(ema(g, 0.9))", "1802.04434", "at momentum 0.9"),
    KnownOptimizer("Adam",       "average(g, 0.9) / sqrt(average(g * g, 0.999))", "1412.6980",
                   DEFAULTS),
    KnownOptimizer("RMSProp",    "g / sqrt(ema(g * g, 0.99))", "torch", DEFAULTS),
    KnownOptimizer("Adagrad",    "s <- s + g * g; g / sqrt(s)", "Duchi et al. 2011"),
    KnownOptimizer("Lion",       "u <- 0.99 * u + 0.01 * g; sign(0.9 * old(u) + 0.1 * g)",
                   "2302.06675", DEFAULTS),
    KnownOptimizer("cautious Adam",
                   "u <- 0.9 * u + 0.1 * g; agree <- max(sign(u * g), 0);"
                   " average(g, 0.9) / sqrt(average(g * g, 0.999)) * agree"
                   " * max(mean(agree), 1e-3)**-1",
                   "2411.16085", DEFAULTS),
    KnownOptimizer("AdaBelief",
                   "u <- 0.9 * u + 0.1 * g;"
                   " average(g, 0.9) / sqrt(average((g - u)**2, 0.999))",
                   "2010.07468", "without its second epsilon"),
    KnownOptimizer("LARS",       "unit(g) * norm(w)", "1708.03888", "without weight decay"),
    KnownOptimizer("Muon",       "u <- 0.95 * u + 0.05 * g; orthogonal(0.05 * g + 0.95 * u)",
                   "Jordan 2024", "but for the factor of its rate that depends on the shape"),
    KnownOptimizer("schedule-free SGD",
                   "d <- (1 - step**-1) * (d + 0.9 * g);"
                   " old(d) * step**-1 + (0.1 + 0.9 * step**-1) * g",
                   "2405.15682", "at a constant rate, while it trains"),
)
# fmt: on
