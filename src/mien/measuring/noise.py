"""Labels that a cross-validated classifier doubts: cleanlab's method, by the library. Needs the audit extra."""

import numpy as np
from jaxtyping import Float, Int, Int64

from mien.errors import need_extra
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer

FOLDS = 5


def cross_validated(faces: FaceSet, recognizer: Recognizer) -> Float[np.ndarray, "N C"]:
    """Probabilities of labelled faces, each from a logistic regression on a network's logits that did not see it.

    Exact twins share a fold. The network itself may have seen what it is asked about: of images that it learned from
    it knows the labels, wrong ones too, and doubts too few.

    Args:
        faces: Labelled rows, `FOLDS` different images or more of each expression that occurs.
        recognizer: Whose logits to take.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    need_extra("audit", "looking for doubtful labels", "sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    logits = np.concatenate([recognizer.logits(faces.images[k : k + 512]) for k in range(0, len(faces), 512)])
    probabilities = np.zeros((len(faces), logits.shape[1]))
    probabilities[:, np.unique(faces.labels)] = cross_val_predict(
        LogisticRegression(max_iter=200),
        logits.astype(np.float64),
        faces.labels,
        groups=faces.twin_numbers(),
        cv=StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0),
        method="predict_proba",
    )
    return probabilities


def doubtful(labels: Int[np.ndarray, "N"], probabilities: Float[np.ndarray, "N C"]) -> Int64[np.ndarray, "k"]:
    """Indices of labels that are probably wrong, the least probable label first.

    Both of cleanlab's ways must agree on a row, by the rate of noise of its class and by the pair of classes: the
    shorter list with the higher precision (benchmarks/LOG.md).

    Raises:
        MissingExtra: cleanlab is not installed.

    Source: https://github.com/cleanlab/cleanlab; arXiv 1911.00068.
    """
    need_extra("audit", "looking for doubtful labels", "cleanlab")
    from cleanlab.filter import find_label_issues

    present, codes = np.unique(labels, return_inverse=True)
    shares = np.maximum(probabilities[:, present], 1e-12)
    shares /= shares.sum(1, keepdims=True)
    ranked = find_label_issues(
        codes, shares, return_indices_ranked_by="self_confidence", filter_by="both", n_jobs=1
    )
    return np.asarray(ranked, np.int64)
