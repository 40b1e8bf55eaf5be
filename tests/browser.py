"""A headless Chromium, driven over its debugging pipe: no driver and no package is needed."""

import base64
import contextlib
import fcntl
import io
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")
# Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
START = "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"

# Lazy images outside the screen are never loaded.
DRAWN = "[...document.images].filter(i => i.src && i.loading !== 'lazy').every(i => i.complete)"


class Page:
    """A tab; `run` evaluates JavaScript in it."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._rest = read, write, b""
        self._numbers = itertools.count(1)
        self.session = ""
        self.errors: list[str] = []
        """Errors of scripts, and what the page's policy has blocked."""

    def call(self, method: str, seconds: float = 60, **params: Any) -> dict[str, Any]:
        """The result of a command of the protocol. Raises RuntimeError with its error."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            *messages, self._rest = self._rest.split(b"\0")
            for place, message in enumerate(messages):
                content = json.loads(message)
                self._note(content)
                if content.get("id") == number:
                    self._rest = b"\0".join([*messages[place + 1 :], self._rest])
                    if "error" in content:
                        raise RuntimeError(f"{method}: {content['error']}")
                    return content["result"]
            if not select.select([self._read], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"{method} has no answer after {seconds} s")
            data = os.read(self._read, 1 << 16)
            if not data:
                raise RuntimeError("the browser has ended")
            self._rest += data

    def _note(self, content: dict[str, Any]) -> None:
        params = content.get("params", {})
        if content.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif content.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def run(self, code: str) -> Any:
        """The value of an expression; of a promise, once it is kept. Raises RuntimeError with the
        script's error."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{code}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def reload(self) -> None:
        """Loads the page anew; `wait` for what it shall show."""
        self.run("window.before = true")
        self.call("Page.reload")
        self.wait("!window.before")

    def _run_on_any_page(self, code: str) -> Any:
        """Runs as `run`; None while the page gives way to another."""
        try:
            return self.run(code)
        except RuntimeError as error:
            if "navigated" in str(error) or "Cannot find context" in str(error):
                return None
            raise

    def wait(self, code: str, seconds: float = 60) -> None:
        """Waits until an expression is true. Raises TimeoutError with the page's text."""
        end = time.monotonic() + seconds
        while not self._run_on_any_page(code):
            if time.monotonic() > end:
                raise TimeoutError(f"{code} is not true: {self.run('document.body.innerText')}")
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Presses a key, as on a keyboard."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {
            "Enter": 13,
            "Escape": 27,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Tab": 9,
        }
        more = {"windowsVirtualKeyCode": code[key]} if key in code else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Sets the size of the screen in pixels, and its colours."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """The visible part of the page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def picture(self, file: pathlib.Path) -> None:
        """Writes the visible part of the page as WebP, once its images are drawn, and says so."""
        self.wait(DRAWN)
        self.run("new Promise(done => setTimeout(done, 1000))")
        image = Image.open(io.BytesIO(self.screenshot()))
        image.convert("RGB").save(file, quality=80, method=6)
        print(f"written: {file}, {file.stat().st_size // 1000} kB")


@contextlib.contextmanager
def browse(url: str, profile: os.PathLike) -> Iterator[Page]:
    """A tab of a new browser with its own profile, at an address."""
    pipes = [os.pipe(), os.pipe()]
    # Away from 3 and 4, which the browser's ends become.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for pipe in pipes for end in pipe]
    for end in (end for pipe in pipes for end in pipe):
        os.close(end)
    read, write, answer, told = ends  # commands: write to read; answers: told to answer
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--remote-debugging-pipe", f"--user-data-dir={os.fspath(profile)}", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(read), str(told), *command],
        pass_fds=(read, told),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read)
    os.close(told)
    try:
        page = Page(answer, write)
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
        page.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.navigate", url=url)
        yield page
    finally:
        process.terminate()
        process.wait(30)
        os.close(write)
        os.close(answer)
