#!/usr/bin/python3
"""A guest that is nothing but its interface: makes a tap, and sends what standard input says.

A line is `guest HEX`, a frame that the guest sends, or `host HEX`, one that the host sends to it. Each is answered with
`sent` when it has gone.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000

name = sys.argv[1]
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
subprocess.run(["ip", "link", "set", name, "up"], check=True)
host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
host.bind((name, 0))
print("up", flush=True)
for line in sys.stdin:
    whose, frame = line.split()
    if whose == "guest":
        os.write(tap, bytes.fromhex(frame))
    else:
        host.send(bytes.fromhex(frame))
    print("sent", flush=True)
