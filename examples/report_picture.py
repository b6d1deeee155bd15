"""Draws docs/report.png, the picture of the report in README.md, from the page of `make parity` with headless Chromium.

make parity
python -m examples.report_picture              # reads out/parity/index.html, writes docs/report.png
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HOME = Path(__file__).parents[1]
SIZE = (1200, 900)
COLORS = 128
"""Colours of the picture's palette, which keeps the file small."""


def draw(page: Path, out: Path) -> None:
    """The upper part of the page as a picture. SystemExit where there is no Chromium."""
    chromium = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if chromium is None:
        sys.exit("There is no Chromium: install it (apt-get install chromium).")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        options = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            f"--user-data-dir={folder}/profile",
        )
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        subprocess.run(
            [chromium, *options, size, f"--screenshot={shot}", page.resolve().as_uri()], check=True, capture_output=True, timeout=120
        )
        Image.open(shot).convert("RGB").quantize(COLORS).save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--page", type=Path, default=HOME / "out" / "parity" / "index.html", help="page of make parity")
    parser.add_argument("--out", type=Path, default=HOME / "docs" / "report.png", help="picture to write (default: docs/report.png)")
    args = parser.parse_args()
    draw(args.page, args.out)
    print(f"Wrote {args.out}.")


if __name__ == "__main__":
    main()
