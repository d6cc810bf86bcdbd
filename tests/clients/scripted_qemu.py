#!/usr/bin/python3
"""An emulator that only has a monitor, and keeps QEMU's manners as the guest's name says: fine, slow, out-of-order, dies,
dies-later, closes, closes-later, endless, endless-later, silent, silent-later, refuses, keeps."""

import json
import os
import re
import signal
import socket
import sys
import time

words = sys.argv[1:]
if not any(word.startswith("guest=") for word in words):
    # Asked what it can do: what QEMU can.
    os.execvp("qemu-system-x86_64", ["qemu-system-x86_64", *words])
name = next(re.match("guest=([^,]*)", word).group(1) for word in words if word.startswith("guest="))
monitor = next(re.search(r"fd=(\d+)", word).group(1) for word in words if "id=charmonitor" in word)
listener = socket.socket(fileno=int(monitor))
ANSWERS = {
    "query-status": {"running": False, "status": "prelaunch"},
    "query-chardev": [],
    "query-cpus-fast": [],
    "query-balloon": {"actual": 8388608},
    "query-fdsets": [],
}
OBJECTS = []


def send(message):
    text = json.dumps(message) + "\r\n"
    if name == "slow":
        for part in (text[:5], text[5:-3], text[-3:]):
            time.sleep(0.02)
            connection.sendall(part.encode())
    else:
        connection.sendall(text.encode())


def misbehave(how):
    """Does what a guest of this name does instead of an answer."""
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "closes":
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    if how == "endless":
        chunk = b" " * (1 << 20)
        try:
            for _ in range(1024):
                connection.sendall(chunk)
        except OSError:
            pass
    while True:
        signal.pause()


def answer(command):
    """The reply to a command: what a client sends by hand is answered with its own name."""
    what, arguments = command["execute"], command.get("arguments", {})
    if what == "object-add":
        OBJECTS.append(arguments["id"])
    if what == "object-del":
        OBJECTS.remove(arguments["id"])
    if what == "device_add" and name == "refuses":
        return {"error": {"class": "GenericError", "desc": "there is no room"}, "id": command["id"]}
    value = ANSWERS.get(what, {})
    if what.startswith("x-"):
        value = {"asked": what, "objects": OBJECTS}
    return {"return": value, "id": command["id"]}


def tell(command):
    """What happens after a command: a guest of this name keeps its devices."""
    if command["execute"] == "device_del" and name == "keeps":
        device = command["arguments"]["id"]
        moment = {"seconds": 0, "microseconds": 1}
        data = {"device": device, "path": f"/machine/peripheral/{device}"}
        send({"event": "DEVICE_UNPLUG_GUEST_ERROR", "data": data, "timestamp": moment})


GREETING = {"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}
MISBEHAVIOUR = ("dies", "closes", "endless", "silent")
how, later, _ = name.partition("-later")
# As with QEMU, another daemon may come when one has gone.
while True:
    connection, _ = listener.accept()
    if how in MISBEHAVIOUR and not later:
        misbehave(how)
    send(GREETING)
    waiting = []
    for line in connection.makefile("r"):
        command = json.loads(line)
        if how in MISBEHAVIOUR and command["execute"] == "stop":
            misbehave(how)
        waiting.append(command)
        # Two commands at a time are answered the last one first.
        if name == "out-of-order" and command["execute"].startswith("x-") and len(waiting) < 2:
            continue
        while waiting:
            command = waiting.pop()
            send(answer(command))
            tell(command)
