#!/usr/bin/env python3
"""A web server on port 8080 of every address, v4 and v6, that says its name: who.py NAME. /you: the address of who asks."""

import http.server
import socket
import sys
import time


class Who(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        said = self.client_address[0].removeprefix("::ffff:") if self.path == "/you" else sys.argv[1]
        self.wfile.write((said + "\n").encode())
        while self.path == "/slow":  # until nobody reads any more
            time.sleep(0.1)
            self.wfile.write(b".\n")
            self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)  # without asking DNS for the host's name


Server(("::", 8080), Who).serve_forever()
