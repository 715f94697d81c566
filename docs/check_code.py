"""Run the Python code of the guide, page by page: part of ``make docs-check``.

python docs/check_code.py PAGE.md …
"""

import os
import re
import sys
import tempfile
from pathlib import Path


def main():
    """Run the blocks of each page one after the other, in a folder that is thrown away."""
    for page in [Path(name).resolve() for name in sys.argv[1:]]:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        names = {}
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for block in blocks:
                exec(compile(block, str(page), "exec"), names)
            os.chdir(page.parent)
        print(f"{page.name}: {len(blocks)} blocks run")


if __name__ == "__main__":
    main()
