"""Fits a classical head on the vectors of utterances: train learns, dev chooses the strength."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

from affetto.evaluation.metrics import mean_ccc, uar
from affetto.models.heads import KernelHead, LinearHead

LOGISTIC_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SVM_STRENGTHS = (1.0, 3.0, 10.0)
RIDGE_STRENGTHS = (10.0, 100.0, 1e3, 1e4, 1e5)

_TOLERANCE = 0.05
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_STEPS = 300  # at most, in the search for a regression
_FLAT = 1e-4  # slope of the mean loss at which it ends, as in scikit-learn

Vectors = NDArray[np.float64]
Rows = NDArray[np.int64]


def fit_logistic(
    values: Tensor,
    targets: Tensor,
    train: Rows,
    dev: Rows,
    weights: Tensor | None,
    blocks: Sequence[Tensor] = (),
) -> tuple[LinearHead, dict[str, Any]]:
    """Fits logistic regression to standardised vectors ``(N, D)`` and target distributions ``(N, K)``.

    The strength is chosen on dev by the cross-entropy at the best temperature, every class with the same
    weight: on few dev utterances it is steadier than a count of right answers. It is the weakest whose loss
    is at most ``_TOLERANCE`` above the lowest: speakers of the same corpus hardly tell these apart, and on
    other corpora weaker ones are better by up to ten points. For ``blocks`` see :func:`block_path`.
    """
    goals, learned = targets[dev].cpu(), (values[train], targets[train])
    tried: list[tuple[float, Regression]] = []  # the best share of each strength
    for heads in block_path(*learned, LOGISTIC_STRENGTHS, values[dev], goals, blocks, weights):
        losses = [balanced_loss((values[dev] @ each.weight.T + each.bias).cpu(), goals) for each in heads]
        tried.append(min(zip(losses, heads, strict=True), key=itemgetter(0)))
        limit = (1 + _TOLERANCE) * min(tried, key=itemgetter(0))[0]
        if tried[-1][0] > limit:  # past the lowest: stronger ones, which take longest, are worse still
            break
    best = next(each for loss, each in tried if loss <= limit)
    head = LinearHead(values.shape[1], targets.shape[1])
    head.assign(best.weight, best.bias)
    found = (values[dev] @ best.weight.T + best.bias).argmax(1).cpu().numpy()
    choices = {"dev_uar": uar(goals.argmax(1).numpy(), found), "strength": best.strength}
    return head, choices | ({"share": best.share} if len(blocks) > 1 else {})


class Regression(NamedTuple):
    """Logistic regression: how far it follows the labels, and its weight ``(K, D)`` and bias ``(K,)``."""

    strength: float
    share: float  # of the second of two blocks in the scores
    weight: Tensor
    bias: Tensor


def block_path(
    values: Tensor,
    targets: Tensor,
    strengths: Sequence[float],
    dev_values: Tensor,
    dev_targets: Tensor,
    blocks: Sequence[Tensor] = (),
    weights: Tensor | None = None,
) -> Iterator[list[Regression]]:
    """Yields regressions as :func:`logistic_path` has them, from weak to strong, one or more a strength.

    A block is a mask ``(D,)`` of dimensions; other dimensions get no weight. Of two, each is fitted by
    itself, since the larger one would drown the other where labels are few. Their scores are brought to their
    best temperatures on dev and added in each of the shares ``_SHARES``.
    """
    blocks = blocks or [torch.ones(values.shape[1], dtype=torch.bool)]
    paths = [logistic_path(values[:, block], targets, strengths, weights) for block in blocks]
    for fitted in zip(*paths, strict=True):
        heads = []
        for block, (_, weight, bias) in zip(blocks, fitted, strict=True):
            wide = weight.new_zeros(len(weight), values.shape[1])
            wide[:, block] = weight
            scale = fit_temperature(dev_values @ wide.T + bias, dev_targets) if len(blocks) > 1 else 1.0
            heads.append((wide / scale, bias / scale))
        (first, low), (last, high) = heads[0], heads[-1]
        yield [
            Regression(
                fitted[0][0], share, (1 - share) * first + share * last, (1 - share) * low + share * high
            )
            for share in (_SHARES if len(blocks) > 1 else (1.0,))
        ]


def logistic_path(
    values: Tensor, targets: Tensor, strengths: Sequence[float], weights: Tensor | None = None
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yields strength, weight ``(K, D)`` and bias ``(K,)`` of logistic regressions, from weak to strong.

    Each minimises ``strength * sum of losses + |weight|^2 / 2`` and starts from the one before. The loss is
    the cross-entropy to target distributions ``(N, K)``; ``weights (K,)`` are factors of the classes. A class
    without any target gets a bias of -20.
    """
    basis = None
    if values.shape[1] > 2 * len(values):  # the solution is within the span of the vectors
        basis = torch.linalg.qr(values.T).Q
        values = values @ basis
    present = targets.sum(0) > 0
    goals = targets[:, present] if weights is None else (targets * weights)[:, present]
    weight = values.new_zeros(goals.shape[1], values.shape[1], requires_grad=True)
    bias = values.new_zeros(goals.shape[1], requires_grad=True)
    for strength in sorted(strengths):
        search = torch.optim.LBFGS(
            [weight, bias], max_iter=_STEPS, tolerance_grad=_FLAT, line_search_fn="strong_wolfe"
        )

        def loss(strength: float = strength, search: torch.optim.Optimizer = search) -> Tensor:
            search.zero_grad()
            shares = F.linear(values, weight, bias).log_softmax(1)
            penalty = weight.square().sum() / (2 * strength * len(goals))
            total = penalty - (goals * shares).sum() / len(goals)
            torch.autograd.backward(total)
            return total

        search.step(loss)  # type: ignore[no-untyped-call]
        full = values.new_zeros(len(present), values.shape[1])
        offset = values.new_full((len(present),), -20.0)
        full[present], offset[present] = weight.detach(), bias.detach()
        yield strength, full if basis is None else full @ basis.T, offset


def balanced_loss(scores: Tensor, targets: Tensor) -> float:
    """Returns the cross-entropy of ``scores (N, K)`` at their best temperature, classes weighted alike."""
    sizes = targets.sum(0)
    evened = targets / sizes.clamp_min(1e-9) / (sizes > 0).sum()
    temperature = fit_temperature(scores, evened * len(scores))
    return float(-(evened * (scores / temperature).log_softmax(1)).sum())


def fit_temperature(scores: Tensor, target: Tensor) -> float:
    """Returns the best temperature of ``scores (N, K)`` for classes ``(N,)`` or shares (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    target = target.double() if target.is_floating_point() else target

    def loss(log_temperature: float) -> float:
        scaled = scores.double() / float(np.exp(log_temperature))
        return float(F.cross_entropy(scaled, target))

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))


def fit_svm(
    values: Vectors, truth: Rows, train: Rows, dev: Rows, classes: int, weights: str | None
) -> tuple[KernelHead, dict[str, Any]]:
    """Fits a support vector machine a class against the rest, with a radial kernel."""
    best: dict[str, Any] = {"dev_uar": -1.0}
    gamma = 1.0 / (values.shape[1] * values[train].var())
    inside, across = (rbf_kernel(values[rows], values[train], gamma) for rows in (train, dev))
    for strength in SVM_STRENGTHS:
        coefficients, bias = np.zeros((classes, len(train))), np.full(classes, -20.0)
        for label in np.unique(truth[train]):
            machine = SVC(C=strength, kernel="precomputed", class_weight=weights)
            machine.fit(inside, truth[train] == label)
            coefficients[label, machine.support_] = machine.dual_coef_[0]
            bias[label] = machine.intercept_[0]
        score = uar(truth[dev], (across @ coefficients.T + bias).argmax(1))
        if score > best["dev_uar"]:
            best, chosen = {"dev_uar": score, "strength": strength}, (coefficients, bias)
    coefficients, bias = chosen
    used = np.flatnonzero(np.abs(coefficients).sum(0))
    head = KernelHead(values.shape[1], classes, len(used))
    head.support.copy_(torch.from_numpy(values[train[used]]))
    head.coefficients.copy_(torch.from_numpy(coefficients[:, used]))
    head.bias.copy_(torch.from_numpy(bias))
    head.gamma.fill_(gamma)
    return head, best


def fit_ridge(values: Vectors, targets: Vectors, train: Rows, dev: Rows) -> tuple[LinearHead, dict[str, Any]]:
    """Fits ridge regression to dimensions ``(N, K)`` at once; dev chooses by their mean concordance."""
    best: dict[str, Any] = {"dev_ccc": -2.0}
    head = LinearHead(values.shape[1], targets.shape[1])
    for strength in RIDGE_STRENGTHS:
        model = Ridge(alpha=strength).fit(values[train], targets[train])
        weight, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        score = mean_ccc(targets[dev], values[dev] @ weight.T + bias)
        if score > best["dev_ccc"]:
            best = {"dev_ccc": score, "strength": strength}
            head.assign(weight, bias)
    return head, best
