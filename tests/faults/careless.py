"""A command as it should not be, which shows that the harness sees what it is there to see: it writes its files in
place, and counts them again with every start.

    python -m tests.faults.careless FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for number in range(20):
        with open(folder / f"{number}.json", "w") as file:
            file.write('{"number": ')
            file.flush()
            (folder / f"{number}.txt").write_text("half of it is on the disk now")
            json.dump(number, file)
            file.write("}")
        with open(folder / "counted.jsonl", "a") as counted:
            counted.write(f"{number}\n")
