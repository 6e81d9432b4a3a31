"""ask_prometheus.py PROMETHEUS: whether Prometheus found the server by its name and scrapes it.

Rules of this file: it waits for facts, not for times; Prometheus' own HTTP interface says what it found.
"""

import json
import sys
import time
import urllib.request
from typing import Any

PATIENCE_S = 45.0  # three scrape intervals


def get(url: str) -> Any:
    """Return the JSON at a URL, or None while there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def scraped_target(prometheus: str) -> dict[str, Any] | None:
    """Return the target of the job cellgate after its first scrape, or None where none comes in time."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        found = get(f"{prometheus}/api/v1/targets?state=active")
        for target in found["data"]["activeTargets"] if found else ():
            if target["labels"]["job"] == "cellgate" and target["health"] != "unknown":
                return dict(target)
        time.sleep(0.2)
    return None


def main(prometheus: str) -> int:
    """Ask, print, and return the exit status."""
    target = scraped_target(prometheus)
    found = "no target" if target is None else target["health"]
    why = f" ({target['lastError']})" if target and target["lastError"] else ""
    print(f"  {'ok' if found == 'up' else 'FAILED'}: Prometheus' target is {found}{why}, expected up")
    return 0 if found == "up" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
