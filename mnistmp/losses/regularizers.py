"""The penalties that other methods add: on filters, on activations, on logits."""

from __future__ import annotations

import torch

from mnistmp.errors import InputError, check_choice, require


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """float64 as it is, everything else as float32: sums of thousands of bfloat16 numbers lose most of them."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_batch(name: str, samples: torch.Tensor) -> None:
    """InputError unless `samples` is a floating-point tensor with a sample at least."""
    fits = isinstance(samples, torch.Tensor) and samples.is_floating_point() and samples.ndim
    require(fits, name, samples, "give a floating-point tensor, a sample in each row")
    if not len(samples):
        raise InputError(f"the batch {tuple(samples.shape)} is empty; a loss needs one sample at least.")


def double_soft_orthogonality(weight: torch.Tensor, norm: str = "squared") -> torch.Tensor:
    """Double soft orthogonality of a convolution's filters (Bansal et al. 2018, DSO).

    With W of shape (Cin*k*k, Cout), a filter a column:
    ||W'W - I||_F^2 + ||WW' - I||_F^2, the squares summed over all entries.

    Args:
        weight: (Cout, Cin, k, k) float.
        norm: "squared" as in their formula; "unsquared" norms, or "mean", the squares
            averaged over the entries of each matrix.

    Returns:
        Scalar >= 0. "squared" cannot go below |Cin*k*k - Cout|, the part of the larger identity
        that the smaller side cannot span.

    Raises:
        ValueError: an unknown norm.
    """
    check_choice("norm", norm, ("squared", "unsquared", "mean"))
    filters = at_least_float32(weight).flatten(1)  # W', a filter a row
    smaller, larger = sorted(filters.shape)
    gram = _gram(filters if len(filters) == smaller else filters.T)
    soft = (gram - torch.eye(smaller, device=gram.device, dtype=gram.dtype)).square().sum()
    # Both Gram matrices share their non-zero eigenvalues; the larger has (larger - smaller)
    # zeros more, each of which misses the identity by 1. So the second norm needs no product.
    soft_larger = soft + (larger - smaller)
    if norm == "squared":
        return soft + soft_larger
    if norm == "mean":
        return soft / smaller**2 + soft_larger / larger**2
    return _sqrt(soft) + _sqrt(soft_larger)


def decorrelation(features: torch.Tensor, layout: str = "positions", reduction: str = "sum") -> torch.Tensor:
    """DeCov: half the squared off-diagonal covariances (Cogswell et al. 2016, Eq. 1 and 2).

    Args:
        features: (N, C, H, W) float, before dropout; or (N, D).
        layout: how maps become rows: "positions", every position of every image is a sample of
            the C channels; "pooled", the mean over positions; "flat", every position of every
            channel is a variable of its own. No matter for (N, D).
        reduction: "sum" over the off-diagonal entries as published, or their "mean".

    Returns:
        Scalar >= 0. The covariance is the biased one (divided by the number of rows).

    Raises:
        ValueError: another shape, an empty batch, an unknown layout or reduction.
    """
    check_choice("layout", layout, ("positions", "pooled", "flat"))
    check_choice("reduction", reduction, ("sum", "mean"))
    check_batch("features", features)
    if features.ndim not in (2, 4):
        raise ValueError(f"features {tuple(features.shape)} do not fit; expected (N, C, H, W) or (N, D).")
    rows = at_least_float32(features)
    if rows.ndim == 4 and layout == "positions":
        rows = rows.permute(0, 2, 3, 1).flatten(0, 2)
    elif rows.ndim == 4:
        rows = rows.mean((2, 3)) if layout == "pooled" else rows.flatten(1)
    count, variables = rows.shape
    centred = rows - rows.mean(0)
    if count >= variables:
        covariance = _gram(centred.T) / count
        penalty = (covariance - covariance.diagonal().diag()).square().sum() / 2
    else:
        # The entries of A'A and AA' have the same sum of squares: take the smaller matrix.
        # Only rounding can make the difference negative.
        squares = (_gram(centred) / count).square().sum()
        variances = centred.square().mean(0)
        penalty = (squares - variances.square().sum()).clamp_min(0) / 2
    return penalty if reduction == "sum" else penalty / max(variables * (variables - 1), 1)


def spectral_decoupling(
    logits: torch.Tensor, labels: torch.Tensor | None = None, reduction: str = "mean"
) -> torch.Tensor:
    """Squared logits (Pezeshki et al. 2021).

    Args:
        logits: (N, K) float.
        labels: (N,) int64, needed by "true-logit" only.
        reduction: "mean" over all N*K entries, as in the authors' code and DomainBed; "sum" over
            classes and mean over samples; "half-mean", half of the first; "true-logit", half the
            square of the true class's logit.

    Returns:
        Scalar >= 0.

    Raises:
        ValueError: an empty batch, an unknown reduction, or labels that are missing.
    """
    check_choice("reduction", reduction, ("mean", "sum", "half-mean", "true-logit"))
    check_batch("logits", logits)
    squares = at_least_float32(logits).square()
    if reduction == "sum":
        return squares.sum(1).mean()
    if reduction == "true-logit":
        if labels is None:
            raise ValueError("reduction 'true-logit' needs the labels.")
        return squares.gather(1, labels[:, None]).mean() / 2
    return squares.mean() if reduction == "mean" else squares.mean() / 2


def _gram(rows: torch.Tensor) -> torch.Tensor:
    """Inner products of rows, in the precision of `rows` inside an autocast region too."""
    if not torch.amp.is_autocast_available(rows.device.type):
        return rows @ rows.T
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ rows.T


def _sqrt(value: torch.Tensor) -> torch.Tensor:
    # The square root's slope is infinite at 0, where the filters are exactly orthonormal.
    return torch.where(value > 0, value.clamp_min(1e-12).sqrt(), 0)
