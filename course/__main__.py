"""`python3 -m course`. Readable by any Python 3, so that an old one can say what is wrong."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "The course needs Python 3.11 or newer; this is Python {}.{} ({}).\n"
        "Install a newer one (https://www.python.org/downloads, or your system's packages) and run it by its name, "
        "for example:  python3.12 -m course run".format(sys.version_info[0], sys.version_info[1], sys.executable)
    )

import os  # noqa: E402

here = os.path.dirname(os.path.abspath(__file__))
if os.path.abspath(sys.path[0] or ".") == here:  # started by path; the folder itself must not answer imports
    sys.path[0] = os.path.dirname(here)

from course.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
