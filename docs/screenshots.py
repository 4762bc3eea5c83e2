"""Screenshots of the site for README and docs: `python docs/screenshots.py`, where Chromium and playwright are.

The site is built from the records that are here. Each picture has a palette, which keeps it below 200 kB.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from latentbench.report.findings import read_findings
from latentbench.report.site import build
from PIL import Image

FOLDER = Path(__file__).parent / "site"
WIDTH, HEIGHT = 1280, 860
#: Picture -> page, where on it, and the system's theme.
PICTURES = {
    "overview": ("index.html", "", "light"),
    "paper": ("papers/vgae.html", "#tables", "light"),
    "claims": ("papers/vae.html", "#claims", "light"),
    "leaderboard": ("boards/bridge-16d.html", "", "dark"),
    "rankings": ("rankings.html", "", "light"),
    "compare": ("compare/beta-tcvae.html", "", "light"),
}
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def small(png: bytes) -> bytes:
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or sys.exit("no chromium: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        site = Path(scratch) / "site"
        build(read_findings(), site, built="today")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, (page, place, scheme) in PICTURES.items():
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            tab = context.new_page()
            tab.goto((site / page).as_uri())
            if place:
                tab.locator(place).evaluate("e => e.scrollIntoView()")
            content = small(tab.screenshot())
            (FOLDER / f"{name}.png").write_bytes(content)
            print(f"{name}: {len(content) // 1000} kB")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
