"""Opens a page in headless Chromium over its debugging pipe and checks what report_chromium.sh says.

    report_chromium.py BROWSER PAGE PROFILE SCREENSHOTS
"""

import base64
import json
import os
import subprocess
import sys

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
PIECE = 1400  # height of a screenshot

# What stands in the page: figures and the boxes they take, names that lead nowhere, and how far the page reaches.
LOOK = """JSON.stringify({
  reach: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
  text: document.body.innerText.length,
  figures: [...document.querySelectorAll('figure')].map(f => {
    const d = f.querySelector('svg,img,pre'), r = d ? d.getBoundingClientRect() : {};
    return {id: f.id, left: r.left, right: r.right, width: r.width, height: r.height,
            marks: d ? d.querySelectorAll('path,polygon,circle,rect,text').length : 0,
            caption: f.querySelector('figcaption') ? f.querySelector('figcaption').innerText.length : 0,
            svg: !!f.querySelector('svg')};
  }),
  tables: [...document.querySelectorAll('.table')].map(t => t.getBoundingClientRect().right),
  astray: [...document.querySelectorAll('use')].filter(u => {
    const to = u.getAttribute('href');
    return !to || !document.getElementById(to.slice(1));
  }).length,
  twice: [...document.querySelectorAll('[id]')].length - new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size,
})"""


class Browser:
    """Chromium reads commands from its file descriptor 3 and writes answers to 4, each ended by a NUL."""

    def __init__(self, program, profile):
        to_browser, self.out = os.pipe()
        self.inp, from_browser = os.pipe()
        # The pair may stand on 3 and 4 already, the wrong way round: first out of the way, then into place.
        high = (os.dup(to_browser), os.dup(from_browser))

        def place():
            reader, writer = os.dup2(high[0], 50), os.dup2(high[1], 51)
            os.dup2(reader, 3)
            os.dup2(writer, 4)

        arguments = [program, "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-extensions",
                     "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                     "--disable-component-update", "--user-data-dir=" + profile, "about:blank"]
        if os.geteuid() == 0:
            arguments.insert(1, "--no-sandbox")
        self.process = subprocess.Popen(arguments, preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for fd in (to_browser, from_browser, *high):
            os.close(fd)
        self.number, self.buffer, self.events, self.session = 0, b"", [], None

    def receive(self):
        while b"\0" not in self.buffer:
            more = os.read(self.inp, 1 << 20)
            if not more:
                sys.exit("chromium ended")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") != self.number:
                self.events.append(answer)
                continue
            if "error" in answer:
                sys.exit(f"{method}: {answer['error']}")
            return answer["result"]

    def attach(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def open(self, url):
        self.events = []
        self.call("Page.navigate", url=url)
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self.receive())

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            sys.exit(str(answer["exceptionDetails"]))
        return answer["result"]["value"]

    def close(self):
        self.session = None
        os.write(self.out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self.process.wait(timeout=30)


def complaints(events, page):
    """What the console and the network say that they should not."""
    found = []
    for event in events:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown" or (method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert")):
            found.append(f"console: {told}")
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            found.append(f"log: {told['entry']['text']}")
        elif method == "Network.requestWillBeSent" and told["request"]["url"] != page \
                and not told["request"]["url"].startswith("data:"):
            found.append(f"network: {told['request']['url']}")
    return found


def misfits(seen, width):
    """What does not fit into the page, or shows nothing."""
    found = []
    if seen["reach"] > width:
        found.append(f"the page is {seen['reach']} pixels wide")
    if seen["text"] < 1000 or not seen["figures"]:
        found.append("the page is nearly empty")
    if seen["astray"] or seen["twice"]:
        found.append(f"{seen['astray']} references lead nowhere, {seen['twice']} names are given twice")
    for f in seen["figures"]:
        inside = f["left"] is not None and f["left"] >= 0 and f["right"] <= width + 0.5
        if not inside or f["width"] < 200 or f["height"] < 80 or (f["svg"] and f["marks"] < 10) or not f["caption"]:
            found.append(f"figure: {f}")
    found += [f"a table reaches to {right}" for right in seen["tables"] if right > width + 0.5]
    return found


def photograph(browser, width, height, stem):
    """The page from top to bottom in pieces that a person can look at."""
    os.makedirs(os.path.dirname(stem), exist_ok=True)
    for number, top in enumerate(range(0, height, PIECE)):
        clip = {"x": 0, "y": top, "width": width, "height": min(PIECE, height - top), "scale": 1}
        shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        with open(f"{stem}-{number:02}.png", "wb") as file:
            file.write(base64.b64decode(shot["data"]))


def main():
    program, page, profile, screenshots = sys.argv[1:5]
    url = "file://" + page
    browser = Browser(program, profile)
    browser.attach()
    problems, figures = [], 0
    for width in WIDTHS:
        for scheme in SCHEMES:
            browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser.open(url)
            seen = json.loads(browser.evaluate(LOOK))
            figures = len(seen["figures"])
            problems += [f"{width} {scheme}: {p}" for p in complaints(browser.events, url) + misfits(seen, width)]
            if screenshots:
                photograph(browser, width, seen["height"], os.path.join(screenshots, f"report-{width}-{scheme}"))
    browser.close()
    for problem in problems:
        print(problem)
    if problems:
        sys.exit(1)
    print(f"{figures} figures visible at {' and '.join(str(w) for w in WIDTHS)} pixels, nothing fetched, no complaint")


if __name__ == "__main__":
    main()
