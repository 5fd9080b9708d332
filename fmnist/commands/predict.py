"""``fmnist predict``: classifies pictures with a run's model."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np

from fmnist.commands.models import check_model, load_run_model
from fmnist.data import CLASS_NAMES
from fmnist.options import add_run, command_parser
from fmnist.runs import RunFolder
from fmnist.storage import open_store


def predict(
    location: str, run_id: str, images: list[str], background: Literal["auto", "light", "dark"], as_json: bool
) -> int:
    """Prints the predicted class of each picture, with the probabilities of all classes."""
    from fmnist.data.pictures import read_pictures

    pictures = [picture for image in images for picture in read_pictures(image, background)]
    run = RunFolder(open_store(location), run_id)
    check_model(run)
    from fmnist.training.inference import probabilities

    predicted = probabilities(load_run_model(run), np.stack([picture.pixels for picture in pictures]))
    answers: list[dict[str, Any]] = [
        {
            "image": picture.name,
            "background": picture.background,
            "label": int(chances.argmax()),
            "class": CLASS_NAMES[int(chances.argmax())],
            "probabilities": dict(zip(CLASS_NAMES, (round(float(chance), 6) for chance in chances), strict=True)),
        }
        for picture, chances in zip(pictures, predicted, strict=True)
    ]
    if as_json:
        print(json.dumps({"run": run_id, "predictions": answers}, indent=2))
        return 0
    for answer in answers:
        print(f"{answer['image']} ({answer['background']} background assumed): {answer['class']}")
        for name, chance in sorted(answer["probabilities"].items(), key=lambda item: -item[1]):
            print(f"  {name:<12} {chance:7.2%} {'█' * round(30 * chance)}".rstrip())
    return 0


def run(arguments: list[str]) -> int:
    """Runs ``fmnist predict`` with the arguments behind its name; returns the exit code."""
    parser = command_parser("fmnist predict", "Classifies pictures: PNG, JPEG or .npy of any size.")
    add_run(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture, or a .npy array of one or several")
    parser.add_argument(
        "--background",
        choices=("auto", "light", "dark"),
        default="auto",
        help="of the pictures (default: auto)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)

    return predict(options.artifacts, options.run, options.images, options.background, options.json)
