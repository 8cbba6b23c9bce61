"""`tusd-py` over a bucket in small: parts of 256 KiB, and waits of moments.

Nothing else is changed: `python -m tests.faults.s3.serve serve --s3-bucket ...`.
"""

from dataclasses import replace

from botocore.retries.standard import ExponentialBackoff

from tests.launch import switch
from tests.storage.s3_servers import SMALL_PART
from tusd_py.cli import main
from tusd_py.storage import s3, s3_bucket, s3_client
from tusd_py.storage.s3_parts import PartRules

PART = 2 * SMALL_PART
RULES = PartRules(preferred=PART, smallest=SMALL_PART, largest=PART)
TRIES = 3

Storage = s3.S3Storage


def small(bucket: str, settings: s3.S3Settings) -> s3.S3Storage:
    """A storage like that which was asked for, in small."""
    access = replace(settings.access, attempts=TRIES)
    return Storage(bucket, replace(settings, rules=RULES, access=access))


if __name__ == "__main__":
    switch()
    s3.S3Storage = small  # type: ignore[assignment, misc]
    s3_client._ANSWERS_WITHIN = 0.5
    s3_bucket._MOVES_WITHIN = 0.75
    ExponentialBackoff.delay_amount = lambda *_: 0.01
    main()
