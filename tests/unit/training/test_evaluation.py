import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, classification_report, log_loss

from fmnist.data import CLASS_NAMES
from fmnist.errors import TrainingError
from fmnist.training.evaluation import Evaluation, evaluate, predictions_table, worst_mistakes


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Labels and a real, imperfect model's probabilities, from ten other classes of small grey images."""
    pixels, labels = load_digits(return_X_y=True)
    model = LogisticRegression(C=0.1).fit(pixels[:300] / 16, labels[:300])
    return labels[300:], model.predict_proba(pixels[300:] / 16)


def one_hot(*labels: int) -> np.ndarray:
    return np.eye(10)[list(labels)]


def test_loss_and_accuracy_equal_scikit_learns(digits):
    labels, probabilities = digits
    result = evaluate(labels, probabilities)
    assert result.accuracy == accuracy_score(labels, probabilities.argmax(axis=1))
    assert 0.8 < result.accuracy < 1
    assert result.loss == pytest.approx(log_loss(labels, probabilities), rel=1e-9)
    assert result.images == len(labels)


def test_per_class_scores_equal_scikit_learns_report(digits):
    labels, probabilities = digits
    report = classification_report(labels, probabilities.argmax(axis=1), target_names=CLASS_NAMES, output_dict=True)
    for score in evaluate(labels, probabilities).per_class:
        expected = report[score.name]
        assert [score.precision, score.recall, score.f1, score.support] == pytest.approx(
            [expected["precision"], expected["recall"], expected["f1-score"], expected["support"]]
        )


def test_confusion_matrix_has_true_classes_as_rows_and_predictions_as_columns():
    matrix = np.array(evaluate(np.array([9, 9, 2]), one_hot(7, 9, 2)).confusion_matrix)
    assert matrix.shape == (10, 10)
    assert matrix[9, 7] == matrix[9, 9] == matrix[2, 2] == 1
    assert matrix.sum() == 3


def test_interval_is_wilsons():
    # 912 of 1000, by the formula: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    labels = np.zeros(1000, np.uint8)
    result = evaluate(labels, one_hot(*([0] * 912 + [1] * 88)))
    z, n, p = 1.959963984540054, 1000, 0.912
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert result.accuracy_low == pytest.approx((centre - half) / (1 + z * z / n), abs=1e-9)
    assert result.accuracy_high == pytest.approx((centre + half) / (1 + z * z / n), abs=1e-9)


def test_certain_and_wrong_gives_a_large_but_finite_loss():
    result = evaluate(np.array([0]), one_hot(1).astype(np.float32))
    assert result.loss == pytest.approx(-math.log(1e-7))


def test_class_that_does_not_occur_scores_zero_instead_of_failing():
    scores = evaluate(np.array([0], np.uint8), one_hot(0)).per_class
    assert [score.support for score in scores] == [1] + [0] * 9
    assert scores[5].precision == scores[5].recall == scores[5].f1 == 0


def test_evaluation_survives_json(digits):
    result = evaluate(*digits)
    values = json.loads(json.dumps(asdict(result)))
    assert TypeAdapter(Evaluation).validate_python(values) == result
    assert values["per_class"][1]["name"] == "Trouser"
    assert set(values) == {
        "loss", "accuracy", "accuracy_low", "accuracy_high", "images", "per_class", "confusion_matrix",
    }  # fmt: skip


def test_non_finite_probabilities_are_refused_with_their_number():
    probabilities = one_hot(0, 1, 2)
    probabilities[1, 4] = np.nan
    with pytest.raises(TrainingError, match="not finite for 1 of 3 images"):
        evaluate(np.array([0, 1, 2]), probabilities)


@pytest.mark.parametrize("shape", [(0, 10), (3, 10), (2, 9)])
def test_shapes_that_do_not_belong_together_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        evaluate(np.zeros(0 if shape[0] == 0 else 2, np.uint8), np.zeros(shape))


def test_worst_mistakes_are_the_most_certain_wrong_ones():
    labels = np.array([0, 0, 0, 0])
    probabilities = np.zeros((4, 10))
    probabilities[0, [0, 1]] = 0.1, 0.9  # wrong, 90 % certain
    probabilities[1, [0, 1]] = 1.0, 0.0  # right
    probabilities[2, [0, 2]] = 0.01, 0.99  # wrong, 99 % certain
    probabilities[3, [0, 3]] = 0.4, 0.6  # wrong, 60 % certain
    assert worst_mistakes(labels, probabilities, 2).tolist() == [2, 0]
    assert worst_mistakes(labels, probabilities, 99).tolist() == [2, 0, 3]


def test_predictions_table_names_label_prediction_and_all_probabilities(digits):
    labels, probabilities = digits
    table = predictions_table(labels, probabilities)
    every_class = [f"probability_{label}" for label in range(10)]
    assert list(table.columns) == ["index", "label", "predicted", "probability", *every_class]
    np.testing.assert_array_equal(table["label"], labels)
    np.testing.assert_array_equal(table.filter(like="probability_"), probabilities)
    assert (table["label"] == table["predicted"]).mean() == evaluate(labels, probabilities).accuracy
    assert (table["probability"] == probabilities.max(axis=1)).all()


@examples(40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_numbers_of_one_evaluation_agree_with_each_other(seed, images):
    random = np.random.default_rng(seed)
    labels, probabilities = random.integers(0, 10, images), random.dirichlet(np.ones(10), images)
    result = evaluate(labels, probabilities)
    assert 0 <= result.accuracy_low <= result.accuracy <= result.accuracy_high <= 1
    assert np.trace(result.confusion_matrix) == round(result.accuracy * images)
    assert [score.support for score in result.per_class] == np.asarray(result.confusion_matrix).sum(axis=1).tolist()
    assert len(worst_mistakes(labels, probabilities, images)) == images - np.trace(result.confusion_matrix)
