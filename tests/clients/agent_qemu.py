#!/usr/bin/python3
"""QEMU with a guest agent that needs no guest: the monitor is passed on, and what the guest's agent would say on its
channel is said here. Once the guest runs its port is open. What the agent is asked is written to the file "asked" beside
this program; how it behaves, the guest's name says: fine, silent, mute, wrong-id, endless, closes, garbage."""

import ctypes
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

PROGRAM = "qemu-system-x86_64"
words = sys.argv[1:]
if not any(word.startswith("guest=") for word in words):
    # Asked what it can do: what QEMU can.
    os.execvp(PROGRAM, [PROGRAM, *words])
name = next(re.match("guest=([^,]*)", word).group(1) for word in words if word.startswith("guest="))


def listener(chardev, instead):
    """The listening socket of a character device; QEMU gets something else instead."""
    at = next(at for at, word in enumerate(words) if f"id={chardev}," in word and word.startswith("socket,"))
    number = int(re.search(r"fd=(\d+)", words[at]).group(1))
    words[at] = instead
    return socket.socket(fileno=number)


ours, theirs = socket.socketpair()
monitor = listener("charmonitor", f"socket,id=charmonitor,fd={theirs.fileno()}")
channel = listener("charchannel0", "null,id=charchannel0")
kept = [int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
PDEATHSIG = 1
# virtwired puts this process into the guest's control groups when it runs, and QEMU is to begin there.
deadline = time.monotonic() + 2
while "qemu-" not in open("/proc/self/cgroup").read() and time.monotonic() < deadline:
    os.sched_yield()
qemu = subprocess.Popen(
    [PROGRAM, *words], pass_fds=[fd for fd in kept if os.path.exists(f"/proc/self/fd/{fd}")],
    preexec_fn=lambda: ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL))
signal.signal(signal.SIGTERM, lambda *_: qemu.terminate())
theirs.close()

ANSWERS = {
    "guest-info": {"version": "10.0.2", "supported_commands": []},
    "guest-get-time": 1234567890123456789,
    "guest-set-time": {},
    "guest-fsfreeze-status": "thawed",
    "guest-fsfreeze-freeze": 2,
    "guest-fsfreeze-freeze-list": 1,
    "guest-fsfreeze-thaw": 2,
    "guest-fstrim": {"paths": []},
    "guest-get-fsinfo": [
        {"name": "vda1", "mountpoint": "/", "type": "ext4", "total-bytes": 1000, "used-bytes": 400,
         "disk": [{"serial": "S1", "bus-type": "virtio", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/vda1",
                   "pci-controller": {"domain": 0, "bus": 0, "slot": 2, "function": 0}}]},
        {"name": "sr0", "mountpoint": "/media", "type": "iso9660", "disk": []}],
    "guest-get-disks": [
        {"name": "/dev/vda", "partition": False, "dependencies": [],
         "address": {"serial": "S1", "bus-type": "virtio", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/vda",
                     "pci-controller": {"domain": 0, "bus": 0, "slot": 2, "function": 0}}},
        {"name": "/dev/vda1", "partition": True, "dependencies": ["/dev/vda"], "alias": "root"}],
    "guest-get-host-name": {"host-name": "guest.example"},
    "guest-get-users": [{"user": "ann", "login-time": 1700000000.5}, {"user": "bob", "domain": "D", "login-time": 5}],
    "guest-get-timezone": {"zone": "CET", "offset": 3600},
    "guest-get-osinfo": {
        "id": "debian", "name": "Debian GNU/Linux", "pretty-name": "Debian GNU/Linux 12", "version": "12",
        "version-id": "12", "machine": "x86_64", "kernel-release": "6.1.0", "kernel-version": "#1 SMP"},
    "guest-get-load": {"load1m": 0.5, "load5m": 0.25, "load15m": 0.125},
    "guest-network-get-interfaces": [
        {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [
            {"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8},
            {"ip-address": "::1", "ip-address-type": "ipv6", "prefix": 128}]},
        {"name": "eth0", "hardware-address": "52:54:00:00:00:02", "ip-addresses": [
            {"ip-address": "192.0.2.7", "ip-address-type": "ipv4", "prefix": 24}]},
        {"name": "eth0:1", "hardware-address": "52:54:00:00:00:02", "ip-addresses": [
            {"ip-address": "192.0.2.8", "ip-address-type": "ipv4", "prefix": 24}]},
        {"name": "wlan0"}],
    "guest-get-vcpus": [
        {"logical-id": 0, "online": True, "can-offline": False}, {"logical-id": 1, "online": True, "can-offline": True}],
    "guest-set-vcpus": 1,
    "guest-set-user-password": {},
    "guest-ssh-get-authorized-keys": {"keys": ["ssh-ed25519 AAAA ann", "ssh-rsa BBBB bob"]},
    "guest-ssh-add-authorized-keys": {},
    "guest-ssh-remove-authorized-keys": {},
    # No command of a real agent: the next event is what a client wants it to be.
    "guest-tell": {},
}
# What a guest which obeys does not answer, but does.
DONE = {
    "guest-shutdown": lambda: tell("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}),
    "guest-suspend-ram": lambda: tell("SUSPEND", {}),
    "guest-suspend-disk": lambda: tell("SUSPEND_DISK", {}),
}
log = os.path.join(os.path.dirname(os.path.abspath(__file__)), "asked")


def tell(event, data):
    """Says something as QEMU would."""
    event = {"event": event, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}}
    client.sendall(json.dumps(event).encode() + b"\r\n")


def heed(line, peer):
    """Answers one line of the daemon's."""
    command = json.loads(line.lstrip(b"\xff"))
    word, arguments = command.get("execute"), command.get("arguments")
    if word == "guest-sync-delimited" or word == "guest-sync":
        if name == "silent":
            return
        if name == "endless":
            peer.settimeout(2)
            try:
                for _ in range(64):
                    peer.sendall(b"x" * (1 << 20))
            except OSError:
                pass
            return
        if name == "closes":
            peer.shutdown(socket.SHUT_RDWR)
            return
        if name == "garbage":
            peer.sendall(b"\xff{]\n")
            return
        number = arguments["id"] + (1 if name == "wrong-id" else 0)
        mark = b"\xff" if word == "guest-sync-delimited" else b""
        peer.sendall(b'{"return": "stale"}\n' + mark + json.dumps({"return": number}).encode() + b"\n")
        return
    print(json.dumps({word: arguments}, sort_keys=True), file=open(log, "a"), flush=True)
    if name == "mute":
        return
    if word in DONE:
        DONE[word]()
        return
    if word == "guest-tell":
        tell(arguments["event"], arguments["data"])
    if word in ANSWERS:
        answer = {"return": ANSWERS[word]}
    else:
        answer = {"error": {"class": "CommandNotFound", "desc": f"The command {word} has not been found"}}
    peer.sendall(json.dumps(answer).encode() + b"\n")


client, agent, rest, said = None, None, b"", b""
opened = False
while True:
    sockets = [part for part in (monitor, channel, client, agent, ours if client else None) if part]
    ready, _, _ = select.select(sockets, [], [])
    for part in ready:
        if part is monitor:
            client, _ = monitor.accept()
            continue
        if part is channel:
            agent, _ = channel.accept()
            rest = b""
            continue
        try:
            data = part.recv(1 << 16)
        except OSError:
            data = b""
        if part is ours:
            if not data:
                sys.exit(qemu.wait())
            client.sendall(data)
            said += data
            if not opened and b'"RESUME"' in said:
                opened = True
                tell("VSERPORT_CHANGE", {"id": "channel0", "open": True})
        elif part is client:
            if not data:
                client = None
                continue
            ours.sendall(data)
        elif part is agent:
            if not data:
                agent = None
                continue
            rest += data
            *lines, rest = rest.split(b"\n")
            for line in filter(None, (line.strip() for line in lines)):
                heed(line, agent)
