"""A stand-in for the original message server: a thread for each client, one recv for each message.

Usage: original.py PORT LOGFILE. It knows PING and MESG, which is all that a load needs.
"""

import socket
import sys
import threading
import time


def serve(client, log):
    """One client, to its end."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if client.recv(1024).decode() != "PING":
        return client.close()
    client.sendall(b"PONG")
    while True:
        message = client.recv(1024).decode()
        if not message:
            return client.close()
        if message.startswith("MESG "):
            # Handed to the system with each message, and never synced.
            log.write(f"{time.time()} {message[5:]}\n")
            log.flush()
            client.sendall(message.encode())


def main():
    with open(sys.argv[2], "a", encoding="utf-8") as log:
        listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, log), daemon=True).start()


main()
