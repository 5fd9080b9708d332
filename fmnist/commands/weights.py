"""``fmnist weights``: pretrained weights, put where a cluster finds them."""

from __future__ import annotations

from fmnist.console import aside
from fmnist.errors import UserError
from fmnist.options import CommandParser


def run(arguments: list[str]) -> int:
    """Runs ``fmnist weights``: puts pretrained weights into a folder or a bucket, one file a backbone."""
    from fmnist.workflows.transfer.recipes import FACTS

    parser = CommandParser(
        prog="fmnist weights", description="Stages pretrained weights for transfer learning.", allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="fetch")
    fetch = actions.add_parser("fetch", help="obtain a backbone's weights and put them where a cluster finds them")
    fetch.add_argument("--backbone", required=True, choices=[*FACTS, "all"], help="the network, or all of them")
    fetch.add_argument("--to", required=True, metavar="DIR", help="folder or s3://bucket/prefix that gets the files")
    fetch.add_argument(
        "--from",
        dest="source",
        default="imagenet",
        help="imagenet for those that Keras publishes, or a file, a folder or an s3:// address (default: imagenet)",
    )
    options = parser.parse_args(arguments)

    from fmnist.workflows.transfer.weights import SUFFIX, stage_weights

    backbone, source = options.backbone, options.source
    if backbone == "all" and source.endswith(SUFFIX):
        raise UserError(f"weights fetch: --backbone: found all, expected the one whose weights {source} holds")
    for name in FACTS if backbone == "all" else [backbone]:
        weights, place = stage_weights(name, source, options.to, aside.print)
        path, sha256 = weights.path, weights.record.sha256
        print(f"{path.name}: {path.stat().st_size:,} bytes, sha256 {sha256}, now {place}")
    return 0
