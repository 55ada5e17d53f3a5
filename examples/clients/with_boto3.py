"""Writes and reads an object of an S3 gateway behind a service of steerd with boto3.

    with_boto3.py URL [TTL [REQUESTS]]

TTL is the TTL of the service, in seconds. Credentials and region come from the environment, as for any
program with boto3. Prints the status of each round, and the gateway that answered, if it names itself
in a header `X-Gateway`. Copy `SteeredS3`.
"""

import argparse
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

CONFIG = Config(
    # Timeout for connecting to one address, seconds. botocore uses urllib3, which tries the addresses of an
    # answer in order, each for this long. The default is 60 seconds.
    connect_timeout=1,
    # Timeout without a byte of the reply, seconds. The default is 60.
    read_timeout=5,
    # The first attempt and three retries. The mode `standard` has jitter in its pauses (up to 1, 2 and 4
    # seconds) and a budget for all retries of a client; the default of boto3, `legacy`, has no budget.
    # All S3 operations that boto3 sends again are idempotent.
    retries={"mode": "standard", "total_max_attempts": 4},
    # The bucket is part of the path: the service has one name, not one per bucket.
    s3={"addressing_style": "path"},
)


class SteeredS3:
    """A client of S3 whose connections are closed after `ttl` seconds.

    Neither Python nor botocore caches DNS, but a connection that is kept alive never asks again.
    """

    def __init__(self, url, ttl):
        self.s3 = boto3.client("s3", endpoint_url=url, config=CONFIG)
        self.ttl = ttl
        self.fresh_until = time.monotonic() + ttl

    def client(self):
        """The client, for one operation."""
        if time.monotonic() >= self.fresh_until:
            self.fresh_until = time.monotonic() + self.ttl
            # Closes idle connections. Those in use end with their operations; the client remains usable.
            self.s3.close()
        return self.s3


def main(url, ttl, count):
    steered = SteeredS3(url, ttl)
    # The bucket may exist from an earlier run.
    try:
        steered.client().create_bucket(Bucket="examples")
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    for number in range(count):
        written = f"round {number}".encode()
        try:
            steered.client().put_object(Bucket="examples", Key="object", Body=written)
            reply = steered.client().get_object(Bucket="examples", Key="object")
            assert reply["Body"].read() == written
            head = reply["ResponseMetadata"]
            print(head["HTTPStatusCode"], head["HTTPHeaders"].get("x-gateway", "-"), flush=True)
        except (BotoCoreError, ClientError) as error:
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
