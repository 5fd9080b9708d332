"""``fmnist predict``: classifies pictures with a run's model."""

from __future__ import annotations

import json

import numpy as np

from fmnist.commands.models import load_run_model, training_data
from fmnist.console import aside
from fmnist.errors import printable
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
    mirrored_help = "mean of each picture's and its mirror image's probabilities"
    parser.add_argument("--mirrored", action="store_true", help=mirrored_help)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)

    from fmnist.data.pictures import as_trained, read_pictures

    read = [picture for image in options.images for picture in read_pictures(image, options.background)]
    run = RunFolder(open_store(options.artifacts), options.run)
    # First: an unfinished run has no model and may have no data.
    run.manifest()
    trained = training_data(run)
    pictures = [as_trained(picture, trained.pixels) if trained.pixels else picture for picture in read]
    if trained.pixels and trained.pixels.light_background:
        aside.print(f"run {run.run_id} was trained on dark clothing on light: the pictures are brought to that")
    model = load_run_model(run)
    from fmnist.training.inference import probabilities

    predicted = probabilities(model, np.stack([picture.pixels for picture in pictures]), options.mirrored)
    answers = []
    for picture, row in zip(pictures, predicted, strict=True):
        label = int(row.argmax())
        chances = {name: round(float(chance), 6) for name, chance in zip(trained.names, row, strict=True)}
        name, background = trained.names[label], picture.background
        answer = {"image": picture.name, "background": background, "label": label, "class": name}
        answers.append({**answer, "notes": picture.notes, "probabilities": chances})
        if not options.json:
            print(f"{printable(picture.name)} ({background} background assumed): {printable(name)}")
            for note in picture.notes:
                print(f"  note: {note}")
            for name, chance in sorted(chances.items(), key=lambda item: -item[1]):
                print(f"  {printable(name):<12} {chance:7.2%} {'█' * round(30 * chance)}".rstrip())
    if options.json:
        print(json.dumps({"run": options.run, "predictions": answers}, indent=2))
    return 0
