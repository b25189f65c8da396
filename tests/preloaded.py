"""`nos-repro` for tests that call it many times: processes that begin with torch loaded.

Importing torch and Lightning takes seconds of a core. A server imports them once and forks for
every call; the fork has the caller's words, folder, environment and files, and is a process of its
own that runs `main`.

    python tests/preloaded.py SOCKET                            # serves, and says so
    python -S tests/preloaded.py SOCKET nos-repro list studies  # a call
"""

import json
import os
import signal
import socket
import sys
import traceback

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}
MOST = 1 << 20
"""Bytes of a call."""


def call(address: str, words: list[str]) -> int:
    """Runs `nos-repro` with these words in this folder; returns its exit status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        said = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
        socket.send_fds(server, [said], range(len(STREAMS)))
        status = server.recv(1)
        return status[0] if status else 1


def serve(address: str) -> None:
    """Answers calls until it is killed."""
    import nos_repro.launch.run
    import nos_repro.report.collection
    import nos_repro.search.run  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            caller, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(caller)
            caller.close()


def answer(caller: socket.socket) -> None:
    """Does what a caller asks, and ends this process."""
    from nos_repro.cli import main

    said, files, _, _ = socket.recv_fds(caller, MOST, len(STREAMS))
    words, folder, environment = json.loads(said)
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, (name, mode) in enumerate(STREAMS.items()):
            os.dup2(files[number], number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.path[0] = folder  # as with `python -m`
        sys.argv = words
        status = main()
    except BaseException:  # noqa: BLE001 (the caller is told by the status)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.send(bytes([status]))
        os._exit(status)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
    serve(sys.argv[1])
