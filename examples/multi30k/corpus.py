"""Put one language pair of Multi30k into a directory as plain text, held to its checksums.

Called by prepare.sh. For each part and language it writes `INTO/PART.LANGUAGE`, e.g. `train.en`.
"""

import argparse
import gzip
import zlib
from pathlib import Path

from recipe.download import Archive, check, fetch, read_sums
from recipe.errors import RecipeError, run, say

PARTS = ("train", "val", "test_2016_flickr")
COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
TASK_1 = f"https://raw.githubusercontent.com/multi30k/dataset/{COMMIT}/data/task1"
# Where the repository keeps each protocol's files, and how it names them.
FOLDERS = {"tokenised": "tok", "raw": "raw"}
NAMES = {"tokenised": "{part}.lc.norm.tok.{language}", "raw": "{part}.{language}.gz"}


def find(directory: Path, folder: str, name: str) -> Path:
    """A file of a copy at hand: a directory of files, or a clone of the dataset's repository."""
    for place in (directory, directory / folder, directory / "data" / "task1" / folder):
        if (place / name).is_file():
            return place / name
    raise RecipeError(f"--from: {directory} has no {name}")


def read_copy(path: Path) -> bytes:
    """The bytes of a file of a copy at hand."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(f"--from: {path} cannot be read: {error.strerror}") from None


def plain_text(origin: str, content: bytes) -> bytes:
    """The text of a file, unpacked if need be, as UTF-8 whose every line has an end."""
    if origin.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise RecipeError(f"{origin}: not a gzip file, or one cut short") from None
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{origin}: not UTF-8 at byte {error.start}") from None
    if not content.endswith(b"\n"):
        raise RecipeError(f"{origin}: empty, or its last line is cut short")
    return content


def obtain(args: argparse.Namespace, sums: dict[str, str], part: str, language: str) -> int:
    """Write one file of the corpus; returns its number of lines."""
    folder = FOLDERS[args.protocol]
    name = NAMES[args.protocol].format(part=part, language=language)
    known = {"sha256": sums[name]} if name in sums else {}
    if args.copy is None:
        archive = Archive(name, f"{TASK_1}/{folder}/{name}", sums=known)
        path = fetch(archive, args.into, "--out")
        origin, content = archive.address, read_copy(path)
        path.unlink()
    else:
        path = find(args.copy, folder, name)
        origin, content = str(path), read_copy(path)
        check(path, Archive(name, "", sums=known))
    if not known:
        say(f"{origin}: no checksum is known, taken as it is")
    text = plain_text(origin, content)
    (args.into / f"{part}.{language}").write_bytes(text)
    return text.count(b"\n")


def keep_first(args: argparse.Namespace, there_are: int) -> None:
    """Cut both sides of the training text after the first `args.pairs` lines."""
    if args.pairs > there_are:
        raise RecipeError(f"--pairs: got {args.pairs}; train has {there_are}")
    for language in args.languages:
        path = args.into / f"train.{language}"
        lines = path.read_bytes().split(b"\n")[: args.pairs]
        path.write_bytes(b"".join(line + b"\n" for line in lines))


def prepare(args: argparse.Namespace) -> None:
    """Write all parts of both languages, which must be parallel line by line."""
    sums = read_sums(args.sums)
    for part in PARTS:
        lines = [obtain(args, sums, part, language) for language in args.languages]
        if lines[0] != lines[1]:
            sides = " and ".join(
                f"{n} lines of {language}"
                for n, language in zip(lines, args.languages, strict=True)
            )
            raise RecipeError(f"{part}: {sides}; the two sides must be parallel")
        if part == "train" and args.pairs is not None:
            keep_first(args, lines[0])
            lines = [args.pairs]
        say(f"{part}: {lines[0]:,} pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", required=True, choices=sorted(NAMES))
    parser.add_argument("--languages", required=True, nargs=2)
    parser.add_argument("--into", required=True, type=Path)
    parser.add_argument(
        "--from", dest="copy", type=Path, help="a copy at hand instead of the download"
    )
    parser.add_argument("--pairs", type=int, help="of the training text, the first (default: all)")
    parser.add_argument("--sums", type=Path, default=Path(__file__).with_name("SHA256SUMS"))
    prepare(parser.parse_args())


if __name__ == "__main__":
    run(main)
