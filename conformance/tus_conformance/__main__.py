"""`python -m tus_conformance` is `tus-conformance`."""

from tus_conformance.cli import main

if __name__ == "__main__":
    main()
