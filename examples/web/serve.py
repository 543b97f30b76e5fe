"""A small HTTP service: GET / counts visits in a file that outlives the VM; whoever asks must know the token.

`serve.py check` says by its exit code whether the service works. Only modules of python3-minimal are used.
"""

import os
import socket
import sys

ADDRESS = ("127.0.0.1", 8080)
COUNT = "/mnt/data/visits"
TOKEN = "/mnt/secrets/token"


def visit():
    count = 0
    if os.path.exists(COUNT):
        with open(COUNT) as file:
            count = int(file.read())
    with open(COUNT + ".new", "w") as file:
        file.write(str(count + 1))
        file.flush()
        os.fsync(file.fileno())
    os.rename(COUNT + ".new", COUNT)
    return count + 1


def answer(request, token):
    line, *headers = request.split("\r\n")
    if line.startswith("GET /health "):
        return "200 OK", "well\n"
    pairs = [header.partition(":") for header in headers]
    given = [value.strip() for name, _, value in pairs if name.lower() == "authorization"]
    if given != ["Bearer " + token]:
        return "401 Unauthorized", "who are you?\n"
    if line.startswith("GET / "):
        return "200 OK", "visit %d\n" % visit()
    return "404 Not Found", "there is nothing here\n"


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 8192:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    return head.decode("latin-1")


def serve():
    with open(TOKEN) as file:
        token = file.read().strip()
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(ADDRESS)
    server.listen(16)
    print("listening", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            try:
                request = read_head(connection)
                status, body = answer(request, token)
                head = "HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                connection.sendall((head % (status, len(body)) + body).encode())
                print(status, repr(request.split("\r\n")[0]), flush=True)
            except OSError as error:
                print("a client left:", error, flush=True)


def check():
    with socket.create_connection(ADDRESS, 3) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        sys.exit(" 200 " not in read_head(connection))


check() if sys.argv[1:] == ["check"] else serve()
