#!/usr/bin/env python3
"""A bad network: relays datagrams between two ends, losing, doubling, delaying and so reordering them,
and flipping bits. Everything follows one seed, which it prints.

    relay.py --listen ADDR:PORT --to ADDR:PORT [--seed N] [--loss P] [--dup P] [--late P] [--flip P]

P is a share from 0 to 1. A late datagram waits 1 to 20 ms, so those behind it overtake."""

import argparse
import heapq
import random
import selectors
import socket
import time


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=endpoint, required=True)
    parser.add_argument("--to", type=endpoint, required=True)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    for name in ("loss", "dup", "late", "flip"):
        parser.add_argument("--" + name, type=float, default=0.0)
    return parser.parse_args()


class Relay:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        family = socket.AF_INET6 if ":" in options.listen[0] else socket.AF_INET
        self.near = socket.socket(family, socket.SOCK_DGRAM)
        self.near.bind(options.listen)
        self.far = socket.socket(family, socket.SOCK_DGRAM)
        self.far.connect(options.to)
        self.client = None
        self.waiting = []  # (due, order, from_near, datagram)
        self.order = 0
        for each in (self.near, self.far):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def send(self, from_near, datagram):
        try:
            if from_near:
                self.far.send(datagram)
            elif self.client:
                self.near.sendto(datagram, self.client)
        except OSError:
            pass  # nobody there just now: one more datagram lost

    def carry(self, from_near, datagram):
        chance, options = self.random.random, self.options
        if chance() < options.loss:
            return
        if chance() < options.flip:
            spot = self.random.randrange(len(datagram))
            datagram = datagram[:spot] + bytes([datagram[spot] ^ 1 << self.random.randrange(8)]) \
                + datagram[spot + 1:]
        copies = 2 if chance() < options.dup else 1
        for _ in range(copies):
            if chance() < options.late:
                due = time.monotonic() + self.random.uniform(0.001, 0.020)
                self.order += 1
                heapq.heappush(self.waiting, (due, self.order, from_near, datagram))
            else:
                self.send(from_near, datagram)

    def drain(self, which):
        for _ in range(64):
            try:
                datagram, sender = which.recvfrom(65535)
            except OSError:
                return
            if which is self.near:
                self.client = sender
            if datagram:
                self.carry(which is self.near, datagram)

    def run(self):
        ready = selectors.DefaultSelector()
        ready.register(self.near, selectors.EVENT_READ)
        ready.register(self.far, selectors.EVENT_READ)
        while True:
            patience = max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            for event, _ in ready.select(patience):
                self.drain(event.fileobj)
            while self.waiting and self.waiting[0][0] <= time.monotonic():
                _, _, from_near, datagram = heapq.heappop(self.waiting)
                self.send(from_near, datagram)


def main():
    options = arguments()
    print(f"relay: seed {options.seed}, loss {options.loss}, dup {options.dup}, late {options.late}, "
          f"flip {options.flip}", flush=True)
    Relay(options).run()


main()
