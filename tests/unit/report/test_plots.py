import io
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fmnist.data import CLASS_NAMES, Images
from fmnist.report import data_plots, plots, style
from fmnist.report.style import to_png
from fmnist.training.evaluation import evaluate, worst_mistakes


def random_images(n: int, seed: int = 0) -> Images:
    """Images whose brightness rises with the label, on a border that is always black."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, n).astype(np.uint8)
    pixels = np.zeros((n, 28, 28), np.uint8)
    pixels[:, 2:-2, 2:-2] = (random.integers(0, 150, (n, 24, 24)) + 10 * labels[:, None, None]).astype(np.uint8)
    return Images(pixels, labels)


def probabilities_for(images: Images, seed: int = 1) -> np.ndarray:
    """Mostly right, never quite certain: float64 [n, 10]."""
    guesses = np.random.default_rng(seed).dirichlet(np.ones(10), len(images))
    return 0.8 * guesses + 0.2 * np.eye(10)[images.labels]


def history_of(epochs: int) -> pd.DataFrame:
    steps = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": steps,
            "loss": 1 / steps,
            "accuracy": 1 - 0.5 / steps,
            "val_loss": 1 / steps + 0.1,
            "val_accuracy": 0.9 - 0.4 / steps,
        }
    )


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def drawn(figure: Figure) -> np.ndarray:
    """The figure as a reader sees it: uint8 [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB"))


def test_correlations_equal_pandas_on_pixels_and_label():
    images = random_images(300)
    table = pd.DataFrame(images.pixels.reshape(300, -1)).assign(label=images.labels)
    np.testing.assert_allclose(data_plots.correlations(images), table.corr().to_numpy(), atol=1e-5)


def test_correlations_do_not_depend_on_the_block_length(monkeypatch):
    images = random_images(100)
    whole = data_plots.correlations(images)
    monkeypatch.setattr(data_plots, "BLOCK", 7)
    np.testing.assert_allclose(data_plots.correlations(images), whole, atol=1e-6)


def test_pixel_that_never_changes_has_no_correlation_and_is_drawn_grey():
    matrix = data_plots.correlations(random_images(50))
    assert np.isnan(matrix[0]).all()
    assert np.isnan(matrix[:, 783]).all()
    centre = 14 * 28 + 14
    assert matrix[centre, centre] == 1
    figure = data_plots.label_correlation(matrix)
    assert figure.axes[0].images[0].get_array().mask.sum() == 28 * 28 - 24 * 24
    assert (drawn(figure) == 0xC8).all(axis=2).any()


def test_correlation_figures_can_be_drawn_of_a_single_image():
    matrix = data_plots.correlations(random_images(1))
    assert np.isnan(matrix).all()
    for draw in (data_plots.pixel_correlation, data_plots.label_correlation):
        assert drawn(draw(matrix)).any()


def test_pixel_correlation_has_a_tick_for_each_row_of_the_image_and_labels_that_do_not_touch():
    axes = data_plots.pixel_correlation(data_plots.correlations(random_images(50))).axes[0]
    axes.figure.canvas.draw()
    ticks = sorted({*axes.get_xticks(), *axes.get_xticks(minor=True)})
    assert [tick for tick in ticks if 0 <= tick < 784] == list(range(0, 784, 28))
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_class_balance_shows_the_count_of_every_class_and_split():
    splits = {"train": random_images(200, 0), "val": random_images(50, 1), "test": random_images(100, 2)}
    figure = data_plots.class_balance(splits)
    (axes,) = figure.axes
    for bars, images in zip(axes.containers, splits.values(), strict=True):
        assert [bar.get_width() for bar in bars] == np.bincount(images.labels, minlength=10).tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CLASS_NAMES)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train (200)", "val (50)", "test (100)"]


def test_image_grid_has_one_row_a_class_with_its_name():
    images = random_images(300)
    axes = data_plots.image_grid(images).axes[0]
    mosaic = axes.images[0].get_array()
    of_bags = images.pixels[images.labels == 8]
    np.testing.assert_array_equal(mosaic[8 * 30 : 8 * 30 + 28, 30 : 30 + 28], of_bags[1])
    assert axes.get_yticklabels()[8].get_text() == "Bag"
    assert 8 * 30 < axes.get_yticks()[8] < 8 * 30 + 28


def test_image_grid_leaves_the_places_of_a_missing_class_empty():
    images = Images(np.zeros((1, 28, 28), np.uint8), np.array([3], np.uint8))
    mosaic = data_plots.image_grid(images).axes[0].images[0].get_array()
    assert (mosaic == 0).sum() == 28 * 28


@pytest.mark.parametrize(("epochs", "best_epoch"), [(1, 1), (6, 4), (30, 30)])
def test_learning_curves_mark_the_epoch_that_was_kept(epochs, best_epoch):
    history = history_of(epochs)
    figure = plots.learning_curves(history, best_epoch)
    for axes, quantity in zip(figure.axes, ("loss", "accuracy"), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        np.testing.assert_array_equal(lines["train"].get_ydata(), history[quantity])
        np.testing.assert_array_equal(lines["val"].get_ydata(), history[f"val_{quantity}"])
        assert set(lines["best epoch"].get_xdata()) == {best_epoch}
        assert lines["best"].get_ydata()[0] == history[f"val_{quantity}"][best_epoch - 1]
        assert texts(axes)[0].startswith(f"epoch {best_epoch}: ")
    assert drawn(figure).shape[1] == 572
    assert all(tick == int(tick) for tick in figure.axes[1].get_xticks())


def test_learning_curves_of_a_resumed_history_find_the_epoch_by_its_number():
    later = history_of(9).iloc[4:]
    lines = {line.get_label(): line for line in plots.learning_curves(later, 6).axes[0].lines}
    assert lines["best"].get_ydata()[0] == pytest.approx(1 / 6 + 0.1)


def test_learning_curves_mark_where_the_number_of_workers_changes():
    history = history_of(6)
    for workers, marks in (
        ([2] * 6, []),
        ([1, 1, 2, 2, 1, 1], [(0.5, "1 worker"), (2.5, "2 workers"), (4.5, "1 worker")]),
        ([np.nan, np.nan, 1, 1, 2, 2], [(2.5, "1 worker"), (4.5, "2 workers")]),
    ):
        axes = plots.learning_curves(history.assign(workers=workers), 4).axes[0]
        found = [(text.xy[0], text.get_text()) for text in axes.texts if "worker" in text.get_text()]
        assert found == marks


def test_confusion_matrix_colours_by_share_of_the_true_class_and_writes_counts():
    labels = np.array([0] * 8 + [1] * 2)
    predicted = np.array([0] * 6 + [2] * 2 + [1] * 2)
    axes = plots.confusion_matrix(evaluate(labels, np.eye(10)[predicted])).axes[0]
    shares = axes.images[0].get_array()
    assert (shares[0, 0], shares[0, 2], shares[1, 1]) == (0.75, 0.25, 1)
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "6"),
        ((2, 0), "2"),
        ((1, 1), "2"),
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_per_class_bars_are_precision_and_recall():
    images = random_images(200)
    evaluation = evaluate(images.labels, probabilities_for(images))
    precision, recall = plots.per_class(evaluation).axes[0].containers
    assert [bar.get_width() for bar in precision] == [score.precision for score in evaluation.per_class]
    assert [bar.get_width() for bar in recall] == [score.recall for score in evaluation.per_class]


def test_worst_mistakes_show_picture_true_and_predicted_class_and_certainty():
    images = random_images(200)
    probabilities = probabilities_for(images)
    axes = plots.worst_mistakes_grid(images, probabilities, 5).axes[0]
    worst = worst_mistakes(images.labels, probabilities, 5)
    assert len(axes.images) == len(axes.texts) == 5
    for shown, caption, index in zip(axes.images, texts(axes), worst, strict=True):
        np.testing.assert_array_equal(shown.get_array(), images.pixels[index])
        true, predicted = CLASS_NAMES[images.labels[index]], CLASS_NAMES[probabilities[index].argmax()]
        assert caption == f"{true}\n→ {predicted}\n{100 * probabilities[index].max():.1f} %"


def test_model_without_mistakes_is_said_to_have_none():
    images = random_images(20)
    assert texts(plots.worst_mistakes_grid(images, np.eye(10)[images.labels]).axes[0]) == ["no mistakes"]


def test_all_figures_of_a_run_are_small_pngs_of_one_width():
    train, val, test = random_images(400, 0), random_images(100, 1), random_images(100, 2)
    probabilities = probabilities_for(test)
    evaluation = evaluate(test.labels, probabilities)
    of_result = plots.train_plots(history_of(5), 3, evaluation, test, probabilities)
    of_data = data_plots.data_plots({"train": train, "val": val, "test": test})
    assert list(of_result) == ["learning_curves", "confusion_matrix", "per_class", "worst_mistakes"]
    assert list(of_data) == ["class_balance", "image_grid", "pixel_correlation", "label_correlation"]
    for name, png in (of_result | of_data).items():
        with Image.open(io.BytesIO(png)) as picture:
            assert (picture.format, picture.width) == ("PNG", 572)
        if name not in {"image_grid", "pixel_correlation"}:  # random pixels compress worse than clothing
            assert len(png) < 150_000


def test_two_threads_can_draw_at_once():
    history = history_of(3)
    expected, settings = to_png(plots.learning_curves(history, 2)), dict(matplotlib.rcParams)
    with ThreadPoolExecutor(4) as pool:
        drawings = list(pool.map(lambda _: to_png(plots.learning_curves(history, 2)), range(12)))
    assert set(drawings) == {expected}
    assert dict(matplotlib.rcParams) == settings


def test_figures_look_the_same_whatever_the_process_settings_are():
    history = history_of(3)
    expected = to_png(plots.learning_curves(history, 2))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert to_png(plots.learning_curves(history, 2)) == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_no_text_is_cut_off_by_the_edge_of_the_figure():
    images = random_images(200)
    evaluation = evaluate(images.labels, probabilities_for(images))
    matrix = data_plots.correlations(images)
    for figure in (
        plots.learning_curves(history_of(30), 30),
        plots.learning_curves(history_of(1), 1),
        plots.confusion_matrix(evaluation),
        plots.per_class(evaluation),
        plots.worst_mistakes_grid(images, probabilities_for(images)),
        data_plots.class_balance({"train": images, "val": images}),
        data_plots.image_grid(images),
        data_plots.pixel_correlation(matrix),
        data_plots.label_correlation(matrix),
    ):
        edges = np.concatenate([part.reshape(-1, 3) for part in _outermost_pixels(drawn(figure))])
        assert (edges == 255).all()


def _outermost_pixels(picture: np.ndarray) -> tuple[np.ndarray, ...]:
    return picture[0], picture[-1], picture[:, 0], picture[:, -1]


def test_figure_that_cannot_be_drawn_is_a_line_and_the_others_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    def unreadable() -> Figure:
        raise ValueError("no such colour")

    drawn = style.drawn({"first": unreadable, "second": lambda: style.new_figure(1)})

    assert list(drawn) == ["second"]
    assert capsys.readouterr().err == "fmnist: figure first was not drawn: no such colour\n"
