"""Tells the next number to whoever knows the secret."""

import hmac
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

with open("/mnt/secrets/token") as file:
    TOKEN = file.read().strip()


def count():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/counter/socket")
        return connection.makefile().readline()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "well\n")
        elif not hmac.compare_digest(self.headers.get("Authorization", ""), "Bearer " + TOKEN):
            self.answer(401, "who are you?\n")
        else:
            self.answer(200, "visit " + count())

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
