"""Look at the built site as a visitor would: ``make docs-check``.

python docs/check_site.py SITE [--out FOLDER] [--no-browser]

Serves the folder SITE on this machine and visits every page. It fails on links and pictures
that lead nowhere within the site, and on pages that a browser does not show without a JavaScript
error or a failed request. The browser also takes a screenshot of each page.

Links and pictures need the standard library only. The browser needs playwright, and a Chromium
of the system or of playwright's own; without one the check fails, unless --no-browser is given.
"""

import argparse
import os
import shutil
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
NO_BROWSER = (
    "no browser, so the pages were not shown: install playwright and a Chromium, as by playwright "
    "install chromium, or leave it out with --no-browser (make docs-check FLAGS=--no-browser)"
)
# Where a page refers to something: tag, and the attribute that names it.
REFERENCES = {
    "a": "href",
    "img": "src",
    "link": "href",
    "script": "src",
    "source": "src",
    "iframe": "src",
}


class Page(HTMLParser):
    """What a page refers to, and the anchors that it has."""

    def __init__(self, text):
        super().__init__()
        self.references, self.anchors, self.faults = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note references, anchors, and pictures that nobody described."""
        attributes = dict(attrs)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        target = attributes.get(REFERENCES.get(tag))
        if target:
            self.references.append(target)
        if tag == "img" and "alt" not in attributes:
            self.faults.append(f"a picture without a description: {target}")


def pages_of(site):
    """Return the pages of the site; a theme may have templates among its files."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def check_references(site):
    """Return what is wrong with references between files of the site, as lines."""
    pages = {path: Page(path.read_text()) for path in pages_of(site)}
    faults = [f"{path.relative_to(site)}: {f}" for path, page in pages.items() for f in page.faults]
    n_references = 0
    for path, page in pages.items():
        for reference in page.references:
            if urlsplit(reference).scheme or reference.startswith("//"):
                continue  # another site, or data
            n_references += 1
            address, anchor = urldefrag(urljoin(f"/{path.relative_to(site)}", reference))
            target = site / unquote(urlsplit(address).path).lstrip("/")
            if target.is_dir():
                target /= "index.html"
            target = target.resolve()
            if not target.is_file():
                faults.append(f"{path.relative_to(site)}: {reference} leads nowhere")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                faults.append(f"{path.relative_to(site)}: {reference} has no such anchor")
    print(f"{len(pages)} pages, {n_references} references within the site")
    return faults


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *args):
        """Say nothing."""


def visit(site, out):
    """Open every page in a browser; return what went wrong, or None where there is no browser."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    out.mkdir(parents=True, exist_ok=True)
    faults = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    # A Chromium run by root, as in a container, refuses its sandbox.
    arguments = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    try:
        with sync_playwright() as playwright:
            try:
                browser = playwright.chromium.launch(executable_path=found, args=arguments)
            except Error:
                return None
            paths = [path.relative_to(site) for path in pages_of(site)]
            for scheme, width in (("light", 1280), ("dark", 420)):
                size = {"width": width, "height": 900}
                context = browser.new_context(viewport=size, color_scheme=scheme)
                for path in paths:
                    faults += _visit_page(context, address, path, out / scheme)
            print(f"{len(paths)} pages shown by {browser.version}, wide and narrow; see {out}")
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    return faults


def _visit_page(context, address, path, out):
    """Show one page, photograph it, and return what went wrong."""
    faults = []
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(f"{path}: {error}"))
    page.on(
        "console",
        lambda said: faults.append(f"{path}: {said.text}") if said.type == "error" else None,
    )
    page.on("requestfailed", lambda request: faults.append(f"{path}: {request.url} failed"))
    page.on(
        "response",
        lambda answer: (
            faults.append(f"{path}: {answer.url} {answer.status}") if answer.status >= 400 else None
        ),
    )
    page.goto(f"{address}/{path}", wait_until="load")
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    blank = page.evaluate(
        "async () => { const all = [...document.images]; const blank = [];"
        " for (const i of all) { await i.decode().catch(() => blank.push(i.src)); }"
        " return blank; }"
    )
    faults += [f"{path}: {source} is no picture" for source in blank]
    room = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if room > 0:
        faults.append(f"{path}: {room} pixels wider than a window of {page.viewport_size['width']}")
    picture = out / path.with_suffix(".png")
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=True)
    page.close()
    return faults


def main():
    """Run the checks and say what they found."""
    parser = argparse.ArgumentParser(description="Look at the built site as a visitor would.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--out", type=Path, help="folder for screenshots")
    parser.add_argument("--no-browser", action="store_true", help="do not show the pages")
    options = parser.parse_args()
    site = options.site.resolve()
    if not (site / "index.html").is_file():
        sys.exit(f"{options.site} holds no site; run make docs first")
    faults = check_references(site)
    if options.no_browser:
        print("pages were not shown")
    else:
        shown = visit(site, options.out or site.parent / "screenshots")
        faults += [NO_BROWSER] if shown is None else shown
    faults = list(dict.fromkeys(faults))
    print("\n".join(faults) if faults else "nothing is wrong")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
