"""Answers every connection to a socket with how many there were so far."""

import os
import socket

SOCKET = "/run/counter/socket"
COUNT = "/mnt/data/count"


def next_number():
    number = 1
    if os.path.exists(COUNT):
        with open(COUNT) as file:
            number += int(file.read())
    with open(COUNT + ".new", "w") as file:
        file.write(str(number))
        file.flush()
        os.fsync(file.fileno())
    os.rename(COUNT + ".new", COUNT)
    return number


if os.path.exists(SOCKET):
    os.unlink(SOCKET)
os.umask(0o007)
server = socket.socket(socket.AF_UNIX)
server.bind(SOCKET)
# Its group is the service group's, as the directory's is.
os.chown(SOCKET, -1, os.stat("/run/counter").st_gid)
server.listen()
print("counting")
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"%d\n" % next_number())
