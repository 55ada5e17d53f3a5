"""Sends GET requests to a service of steerd with requests.

    with_requests.py URL [TTL [REQUESTS]]

TTL is the TTL of the service, in seconds. Prints the status and the body of each reply. Copy `Budget`,
`Jittered` and `SteeredSession`.
"""

import argparse
import random
import threading
import time

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError
from urllib3.util.retry import Retry

# Timeout for connecting to one address, seconds. urllib3 tries the addresses of an answer in order, each
# for this long. Without a timeout, a silent address takes two minutes.
CONNECT_TIMEOUT = 1.0
# Timeout without a byte of the reply, seconds.
READ_TIMEOUT = 5.0
RETRIES = 3
# Maximum of the first pause, seconds. It doubles with each retry.
PAUSE = 0.2
LONGEST_PAUSE = 2.0


class Budget:
    """Bounds the retries of a whole process: in an outage they must not double the load.

    A retry costs one token, and a request earns a tenth: in the long run, one retry per ten requests.
    """

    MOST = 10.0

    def __init__(self):
        self.tokens = self.MOST
        self.lock = threading.Lock()

    def earn(self):
        with self.lock:
            self.tokens = min(self.MOST, self.tokens + 0.1)

    def spend(self):
        with self.lock:
            if self.tokens < 1:
                return False
            self.tokens -= 1
            return True


class Jittered(Retry):
    """urllib3's Retry with full jitter (its own came with version 2) and a budget.

    A request that may have reached a backend is sent again only if its method is idempotent: that is
    the default of `allowed_methods`. One that found no connection is sent again in any case.
    """

    budget = Budget()

    def get_backoff_time(self):
        return random.uniform(0, min(LONGEST_PAUSE, PAUSE * 2 ** (len(self.history) - 1)))

    def increment(self, method=None, url=None, response=None, error=None, _pool=None, _stacktrace=None):
        if not self.budget.spend():
            raise MaxRetryError(_pool, url, error)
        return super().increment(method, url, response, error, _pool, _stacktrace)


class SteeredSession(requests.Session):
    """A session whose connections are closed after `ttl` seconds.

    Neither Python nor urllib3 caches DNS, but a connection that is kept alive never asks again.
    """

    def __init__(self, ttl):
        super().__init__()
        self.ttl = ttl
        self.fresh_until = time.monotonic() + ttl
        retries = Jittered(total=RETRIES, status_forcelist=[429, 502, 503, 504], raise_on_status=False)
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(max_retries=retries))

    def request(self, method, url, **options):
        Jittered.budget.earn()
        if time.monotonic() >= self.fresh_until:
            self.fresh_until = time.monotonic() + self.ttl
            # Closes idle connections. Those in use end with their requests; the session remains usable.
            self.close()
        options.setdefault("timeout", (CONNECT_TIMEOUT, READ_TIMEOUT))
        return super().request(method, url, **options)


def main(url, ttl, count):
    session = SteeredSession(ttl)
    for _ in range(count):
        try:
            reply = session.get(url)
            print(reply.status_code, reply.text, flush=True)
        except requests.RequestException as error:
            print("failed:", error, flush=True)
        time.sleep(0.1)


def arguments():
    """The URL, the TTL and the number of requests; ends the program if the arguments are not like this."""
    parser = argparse.ArgumentParser(usage="%(prog)s URL [TTL [REQUESTS]]")
    parser.add_argument("url")
    parser.add_argument("ttl", nargs="?", type=int, default=20)
    parser.add_argument("count", nargs="?", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main(**vars(arguments()))
