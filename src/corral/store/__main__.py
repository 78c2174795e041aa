"""python -m corral.store URL: the path of local_copy(), on standard output; or what is wrong, and its exit status."""

import sys

from corral.errors import CorralError
from corral.store import local_copy


def main() -> int:
    try:
        print(local_copy(sys.argv[1]))
    except CorralError as error:
        print(error)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
