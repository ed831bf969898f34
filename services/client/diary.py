"""Operations on the diary of a running Ada.

python -m services.client.diary reindex|verify [--url http://127.0.0.1:8080] [--key …]
"""

import argparse
import os
import sys
import time

from services.client.ada_chat import AdaChat, AdaClientError, InferenceConfig, key_of, url_of
from services.client.terminal import tolerate_any_bytes
from services.printable import printable

POLL_S = 1.0


def main() -> int:
    """Entry point; returns 1 if there is a problem with the diary, 2 if Ada can't be reached."""
    parser = argparse.ArgumentParser(prog="diary", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["reindex", "verify"])
    parser.add_argument("--url", default=url_of(os.environ), help="Ada's URL; default: ADA_URL or ADA_PORT")
    parser.add_argument(
        "--key", default=key_of(os.environ), help="your API key; safer in the variable ADA_KEY"
    )
    arguments = parser.parse_args()
    tolerate_any_bytes()
    config = InferenceConfig(base_url=arguments.url, api_key=arguments.key)
    try:
        with AdaChat(config) as ada:
            return {"reindex": _reindex, "verify": _verify}[arguments.what](ada)
    except AdaClientError as error:
        print(printable(f"diary: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _reindex(ada: AdaChat) -> int:
    name = ada.reindex_diary()
    print(f"job {name}: Ada goes on answering from the old index meanwhile", flush=True)
    while (job := ada.job(name))["status"] not in ("finished", "failed"):
        time.sleep(POLL_S)
    print(printable(f"{job['status']} {job.get('reason') or ''}".strip()))
    return 0 if job["status"] == "finished" else 1


def _verify(ada: AdaChat) -> int:
    differences = ada.verify_diary()
    for difference in differences:
        print(printable(f"{difference['entry_id']}: {difference['kind']}: {difference['what']}"))
    print(f"{len(differences)} differences" if differences else "ledger and index are equal")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
