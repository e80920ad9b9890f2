"""A cable between two interfaces that loses a share of all packets, for kernels without netem.

python lossy_cable.py plug LEFT RIGHT PERCENT SEED   carries packets until it is ended
python lossy_cable.py bare INTERFACE                 lets an interface finish its packets by itself

It carries what an interface would leave to the hardware to finish as it is, so what is sent into it must be whole:
checksums filled in, and no segments larger than the network takes.
"""

from __future__ import annotations

import ctypes
import fcntl
import random
import selectors
import socket
import struct
import sys

ETH_P_ALL = 3
PACKET_OUTGOING = 4
PACKET_MAX = 65536
SIOCETHTOOL = 0x8946
OFFLOADS = {"TSO": 0x1F, "GSO": 0x24, "TX checksums": 0x17}


def finish_by_itself(interface: str) -> None:
    """Switch off all that the interface would leave to hardware."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS.values():
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value)).ljust(40, b"\0")
            fcntl.ioctl(control, SIOCETHTOOL, request)


def open_end(interface: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.bind((interface, 0))
    return end


def carry(left: str, right: str, percent: float, seed: int) -> None:
    """Carry packets both ways, each with the chance to get lost."""
    chance = random.Random(seed)
    ends = open_end(left), open_end(right)
    with selectors.DefaultSelector() as selector:
        for here, there in (ends, ends[::-1]):
            selector.register(here, selectors.EVENT_READ, there)
        print("plugged in", flush=True)
        while True:
            for key, _ in selector.select():
                here, there = key.fileobj, key.data
                assert isinstance(here, socket.socket)
                packet, source = here.recvfrom(PACKET_MAX)
                if source[2] != PACKET_OUTGOING and chance.random() * 100 >= percent:
                    there.send(packet)


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        finish_by_itself(sys.argv[2])
    else:
        carry(sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5]))
