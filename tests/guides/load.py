"""Writes and reads objects through a service of steerd with the client of examples/clients, from several threads.

    load.py URL TTL

Prints the gateway and the number of retries of each operation, or `failed` and why, until SIGTERM.
"""

import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples/clients"))
from with_boto3 import SteeredS3  # noqa: E402

THREADS = 4


def work(number, url, ttl, is_over):
    steered = SteeredS3(url, ttl)
    bucket = f"load-{number}"
    steered.client().create_bucket(Bucket=bucket)
    done = 0
    while not is_over.is_set():
        written = f"{number} {done}".encode()
        try:
            if done % 2 == 0:
                reply = steered.client().put_object(Bucket=bucket, Key="object", Body=written)
            else:
                reply = steered.client().get_object(Bucket=bucket, Key="object")
                reply["Body"].read()
            told = reply["ResponseMetadata"]
            print(told["HTTPHeaders"].get("x-gateway", "-"), told["RetryAttempts"], flush=True)
        except Exception as error:  # Any failure counts, whatever its kind.
            print("failed:", repr(error), flush=True)
        done += 1


def main(url, ttl):
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    threads = [
        threading.Thread(target=work, args=(number, url, int(ttl), is_over)) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
