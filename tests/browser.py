"""A headless Chromium, spoken to through its debugging pipe: no driver, no port, no network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


def find_browser() -> str | None:
    """Return the Chromium of this machine (``CHROMIUM`` wins), or None where there is none."""
    found = (shutil.which(name) for name in (os.environ.get('CHROMIUM', ''), *NAMES) if name)
    return next((path for path in found if path), None)


class Browser:
    """One tab of a headless Chromium."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._count, self._rest = 0, b''
        target = self._send('Target.createTarget', url='about:blank')['targetId']
        attached = self._send('Target.attachToTarget', targetId=target, flatten=True)
        self._session: str = attached['sessionId']
        self.call('Page.enable')

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the tab and return its result."""
        return self._send(method, self._session, **parameters)

    def open(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Open a page at a width in pixels, as somebody with a light or a dark system sees it."""
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.call('Emulation.setEmulatedMedia', features=[scheme])
        self.call('Page.navigate', url=page.absolute().as_uri())
        self.evaluate(
            'new Promise(done => document.readyState === "complete" ? done(1)'
            ' : addEventListener("load", () => done(1)))'
        )

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page (which may forbid scripts of its own)."""
        result = self.call(
            'Runtime.evaluate', expression=script, awaitPromise=True, returnByValue=True
        )
        if 'exceptionDetails' in result:
            raise RuntimeError(result['exceptionDetails']['exception']['description'])
        return result['result'].get('value')

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.call('Page.captureScreenshot', captureBeyondViewport=True, format='png')
        path.write_bytes(base64.b64decode(shot['data']))

    def _send(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._count += 1
        message = {'id': self._count, 'method': method, 'params': parameters}
        if session:
            message['sessionId'] = session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._count:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]["message"]}')
                return answer['result']

    def _receive(self) -> Any:
        while b'\0' not in self._rest:
            data = os.read(self._read, 1 << 16)
            if not data:
                raise RuntimeError(f'Chromium ended with {self._process.wait()}.')
            self._rest += data
        text, self._rest = self._rest.split(b'\0', 1)
        return json.loads(text)


@contextmanager
def chromium(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser whose profile is a folder of one's own, and end it."""
    commands, answers = os.pipe(), os.pipe()
    # the browser reads commands from 3 and answers on 4
    shell = f'exec 3<&{commands[0]} 4>&{answers[1]}; exec "$@"'
    options = (
        '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
        '--disable-dev-shm-usage', '--remote-debugging-pipe', f'--user-data-dir={profile}',
    )  # fmt: skip
    process = subprocess.Popen(
        ['bash', '-c', shell, 'bash', program, *options],
        pass_fds=(commands[0], answers[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands[0])
    os.close(answers[1])
    try:
        yield Browser(process, commands[1], answers[0])
    finally:
        os.close(commands[1])
        os.close(answers[0])
        process.terminate()
        process.wait(timeout=20)
