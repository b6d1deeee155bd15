"""Headless Chromium, where it is installed: what a page does there, what it says on the console, and how it looks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
HARNESS = """<!doctype html><iframe src="copy.html" width="WIDTH" height="900"></iframe><pre id="told"></pre>
<script>onmessage = (event) => { document.getElementById("told").textContent = JSON.stringify(event.data); };</script>"""


def command(folder: Path, *options: str) -> list[str]:
    """The command line, with a profile in the folder. As root it does without its sandbox; the page is our own."""
    assert CHROMIUM is not None
    plain = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
    return [CHROMIUM, *plain, f"--user-data-dir={folder}/profile", *options]


def driven(page: Path, script: str, folder: Path, width: int = 420) -> tuple[Any, list[str]]:
    """What a script gives that runs at the end of a copy of the page, and the messages on the console.

    The copy is in a frame of this width, since windows have a least one, and without the page's security policy, which keeps
    other scripts from running.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    run = f"<script>parent.postMessage((() => {{{script}}})(), '*');</script>"
    (folder / "copy.html").write_text(text.replace("</body>", f"{run}</body>"))
    (folder / "harness.html").write_text(HARNESS.replace("WIDTH", str(width)))
    options = ("--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom", (folder / "harness.html").as_uri())
    done = subprocess.run(command(folder, *options), capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(unescape(found[1])) if found and found[1] else None, console(done.stderr)


def opened(page: Path, folder: Path) -> list[str]:
    """The messages on the console of the page as it is."""
    options = ("--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom", page.as_uri())
    return console(subprocess.run(command(folder, *options), capture_output=True, text=True, timeout=120, check=True).stderr)


def console(text: str) -> list[str]:
    """The lines of Chromium's log that pages wrote."""
    return [line.partition("] ")[2] for line in text.splitlines() if "CONSOLE" in line]


__all__ = ["CHROMIUM", "command", "driven", "opened"]
