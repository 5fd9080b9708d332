"""``fmnist predict``: classifies pictures with a run's model."""

from __future__ import annotations

import json

import numpy as np

from fmnist.commands.models import load_run_model
from fmnist.data import CLASS_NAMES
from fmnist.options import CommandParser
from fmnist.runs import RunFolder
from fmnist.storage import open_store


def run(arguments: list[str]) -> int:
    """Runs ``fmnist predict``: prints each picture's predicted class, with the probabilities of all classes."""
    parser = CommandParser(
        prog="fmnist predict", description="Classifies pictures: PNG, JPEG or .npy of any size.", allow_abbrev=False
    )
    parser.add_run()
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a picture, or a .npy array of one or several")
    backgrounds = ("auto", "light", "dark")
    parser.add_argument("--background", choices=backgrounds, default="auto", help="of the pictures (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)

    from fmnist.data.pictures import read_pictures

    pictures = [picture for image in options.images for picture in read_pictures(image, options.background)]
    model = load_run_model(RunFolder(open_store(options.artifacts), options.run))
    from fmnist.training.inference import probabilities

    predicted = probabilities(model, np.stack([picture.pixels for picture in pictures]))
    answers = []
    for picture, row in zip(pictures, predicted, strict=True):
        label = int(row.argmax())
        chances = {name: round(float(chance), 6) for name, chance in zip(CLASS_NAMES, row, strict=True)}
        answer = {"image": picture.name, "background": picture.background, "label": label, "class": CLASS_NAMES[label]}
        answers.append({**answer, "notes": picture.notes, "probabilities": chances})
        if not options.json:
            print(f"{picture.name} ({picture.background} background assumed): {CLASS_NAMES[label]}")
            for note in picture.notes:
                print(f"  note: {note}")
            for name, chance in sorted(chances.items(), key=lambda item: -item[1]):
                print(f"  {name:<12} {chance:7.2%} {'█' * round(30 * chance)}".rstrip())
    if options.json:
        print(json.dumps({"run": options.run, "predictions": answers}, indent=2))
    return 0
