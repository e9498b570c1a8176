"""Textbook detectors on the same rows: scaled by the training rows, a limit from folds that the fit did not see, and the
product's own rule of opening and closing, so that the scores are compared and not the rules.

Each takes the values (rows x fields) and the number of training rows, and returns a score for each row whose limit is 1.
"""
import numpy as np

FOLDS = 4
CLOSE_RATIO, CLOSE_AFTER = 0.8, 10  # episode.close_ratio and episode.close_after as they are built in
RIDGE = 1e-6


def alerting(scores, start):
    """Whether each row is in an alert: it opens above 1 and closes after ten rows at 0.8 or less."""
    flags = np.zeros(len(scores), bool)
    is_open, quiet = False, 0
    for at in range(start, len(scores)):
        if not is_open:
            is_open, quiet = scores[at] > 1, 0
        else:
            quiet = quiet + 1 if scores[at] <= CLOSE_RATIO else 0
            is_open = quiet < CLOSE_AFTER
        flags[at] = is_open
    return flags


def scaled(values, train):
    mean, sd = values[:train].mean(axis=0), values[:train].std(axis=0)
    return (values - mean) / np.where(sd > 0, sd, np.maximum(1e-3 * np.abs(mean), 1e-3))


def lengths(vectors, fitted):
    """Mahalanobis lengths of vectors, with mean and covariance of those that are fitted."""
    mean = fitted.mean(axis=0)
    covariance = np.cov(fitted, rowvar=False, bias=True).reshape(fitted.shape[1], -1)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance + RIDGE * np.eye(len(covariance))))
    return np.sqrt((((vectors - mean) @ whiten.T) ** 2).sum(axis=1))


def with_limit(of, vectors, train):
    """Scores of all rows divided by the largest one of a row whose fold was left out."""
    rows = np.arange(train)
    largest = 1e-9
    for fold in np.array_split(rows, FOLDS):
        rest = np.setdiff1d(rows, fold)
        largest = max(largest, of(vectors[fold], vectors[rest]).max())
    return of(vectors, vectors[:train]) / largest


def t_squared(values, train):
    """Hotelling's T-squared (Hotelling, "Multivariate Quality Control", 1947)."""
    return with_limit(lengths, scaled(values, train), train)


def mewma(values, train, weight=0.05):
    """The multivariate EWMA chart (Lowry, Woodall, Champ, Rigdon, Technometrics 34(1), 1992)."""
    z = scaled(values, train)
    smoothed = np.empty_like(z)
    last = np.zeros(z.shape[1])
    for at, row in enumerate(z):
        last = last + weight * (row - last)
        smoothed[at] = last
    return with_limit(lengths, smoothed, train)


def dpca(values, train, lags=2, kept=0.95):
    """Dynamic principal components, T-squared and squared prediction error, whichever is larger (Ku, Storer, Georgakis,
    "Disturbance detection and isolation by dynamic principal component analysis", Chemometrics 30(1), 1995)."""
    z = scaled(values, train)
    shifted = [np.vstack([np.repeat(z[:1], lag, axis=0), z[:len(z) - lag]]) for lag in range(lags + 1)]
    vectors = np.hstack(shifted)

    def parts(fitted):
        mean = fitted.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(fitted, rowvar=False, bias=True).reshape(fitted.shape[1], -1))
        variances, axes = variances[::-1], axes[:, ::-1]
        explained_by = np.cumsum(variances) / max(variances.sum(), RIDGE)
        count = min(1 + int(np.searchsorted(explained_by, kept)), len(variances))
        return mean, np.maximum(variances[:count], RIDGE), axes[:, :count]

    def explained(rows, fitted):
        mean, variances, axes = parts(fitted)
        return np.sqrt((((rows - mean) @ axes) ** 2 / variances).sum(axis=1))

    def left(rows, fitted):
        mean, _, axes = parts(fitted)
        centred = rows - mean
        return np.sqrt(((centred - centred @ axes @ axes.T) ** 2).sum(axis=1))

    return np.maximum(with_limit(explained, vectors, train), with_limit(left, vectors, train))


METHODS = {"Hotelling's T2": t_squared, "MEWMA": mewma, "DPCA": dpca}
